"""The package piper-tts: VITS networks in ONNX files, run offline.

A voice is a file NAME.onnx with NAME.onnx.json beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rvc_lightning.config.options import Settings, option
from rvc_lightning.errors import AssetError, unknown_choice
from rvc_lightning.io.names import home_path
from rvc_lightning.io.packages import import_extra
from rvc_lightning.tts.base import SpeechEngine


@dataclass(frozen=True, kw_only=True)
class PiperSettings(Settings, group="tts"):
    """Settings of `conf/tts/piper.yaml`."""

    path: str = option(help="the voice, NAME.onnx with NAME.onnx.json beside it")
    speaker: int | str | None = option(min=0)
    length_scale: float | None = option(min=0.1, max=10)


class PiperEngine(SpeechEngine):
    """A voice of Piper (GPL 3) on the CPU."""

    name = "piper"

    def __init__(self, **settings: Any) -> None:
        """Load the voice.

        Args:
            settings: Values of `PiperSettings`.

        Raises:
            ConfigurationError: A setting is invalid, the voice has no such speaker, or the package is missing.
            AssetError: The voice cannot be read.
        """
        chosen = PiperSettings.from_values(settings)
        piper = _import_piper()
        path = home_path(chosen.path)
        try:
            # onnxruntime and json raise errors of many classes.
            self._voice = piper.PiperVoice.load(path)
        except Exception as error:
            raise AssetError(
                f"tts.path={chosen.path}: choose a voice NAME.onnx with NAME.onnx.json beside it ({error})"
            ) from error
        speaker = self._speaker_number(chosen.speaker)
        self._options = piper.SynthesisConfig(speaker_id=speaker, length_scale=chosen.length_scale)

    @staticmethod
    def check_installed() -> None:
        """See `SpeechEngine`."""
        _import_piper()

    def speak(self, text: str) -> tuple[np.ndarray, int]:
        """See `SpeechEngine`."""
        sentences = [chunk.audio_float_array for chunk in self._voice.synthesize(text, self._options)]
        return np.concatenate([np.zeros(0, np.float32), *sentences]), self._voice.config.sample_rate

    def _speaker_number(self, speaker: int | str | None) -> int | None:
        """Return the number of a speaker by its number or name."""
        names, count = self._voice.config.speaker_id_map, self._voice.config.num_speakers
        if speaker in names:
            return names[speaker]
        if speaker is None or (isinstance(speaker, int) and speaker < count):
            return speaker
        raise unknown_choice("speaker of the voice", speaker, [*names, f"0 to {count - 1}"])


def _import_piper() -> Any:
    return import_extra("piper", "speech", "tts=piper", "piper-tts")
