"""Registry of speech engines, which synthesize text.

To add one, write a file with a `SpeechEngine`, and add a line to `SPEECH_ENGINES` and a YAML file to `conf/tts/`.
"""

from __future__ import annotations

from typing import Any

from rvc_lightning.config.registry import build
from rvc_lightning.tts.base import SpeechEngine
from rvc_lightning.tts.edge import EdgeEngine
from rvc_lightning.tts.espeak import EspeakEngine
from rvc_lightning.tts.piper import PiperEngine

SPEECH_ENGINES: dict[str, type[SpeechEngine]] = {
    engine.name: engine for engine in (EspeakEngine, PiperEngine, EdgeEngine)
}


def build_speech_engine(name: str, **options: Any) -> SpeechEngine:
    """Build a speech engine.

    Args:
        name: Key of `SPEECH_ENGINES`.
        options: Arguments of its constructor.

    Raises:
        ConfigurationError: The name or an option is unknown, or a value is out of range, or a program or a package is
            missing.
        AssetError: The voice of the engine cannot be read.
    """
    return build("speech engine", SPEECH_ENGINES, name, options)
