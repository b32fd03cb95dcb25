"""The program espeak-ng: offline formant synthesis in many languages."""

from __future__ import annotations

import io
import shutil
import subprocess
from dataclasses import dataclass
from typing import Any

import numpy as np
import soundfile

from rvc_lightning.config.options import Settings, option
from rvc_lightning.errors import AssetError, ConfigurationError
from rvc_lightning.tts.base import SpeechEngine

_PROGRAM = "espeak-ng"


@dataclass(frozen=True, kw_only=True)
class EspeakSettings(Settings, group="tts"):
    """Settings of `conf/tts/espeak.yaml`."""

    voice: str = option(help="language or voice, as in the list of espeak-ng --voices")
    words_per_minute: int = option(min=80, max=450)
    pitch: int = option(min=0, max=99)


class EspeakEngine(SpeechEngine):
    """espeak-ng (GPL 3), run as a process."""

    name = "espeak"

    def __init__(self, **settings: Any) -> None:
        """Find the program.

        Args:
            settings: Values of `EspeakSettings`.

        Raises:
            ConfigurationError: A setting is invalid, or the program is not installed.
        """
        chosen = EspeakSettings.from_values(settings)
        program = _find_program()
        self._voice = chosen.voice
        self._command = [
            *(program, "-v", chosen.voice, "-s", str(chosen.words_per_minute), "-p", str(chosen.pitch)),
            *("--stdin", "--stdout"),
        ]

    @staticmethod
    def check_installed() -> None:
        """See `SpeechEngine`."""
        _find_program()

    def speak(self, text: str) -> tuple[np.ndarray, int]:
        """See `SpeechEngine`."""
        done = subprocess.run(self._command, input=text.encode("utf-8", "replace"), capture_output=True)
        if not done.stdout:
            reason = done.stderr.decode("utf-8", "replace").strip() or f"exit status {done.returncode}"
            raise AssetError(f"tts.voice={self._voice}: {_PROGRAM} failed: {reason.splitlines()[-1]}")
        return soundfile.read(io.BytesIO(done.stdout), dtype="float32")


def _find_program() -> str:
    program = shutil.which(_PROGRAM)
    if program is None:
        raise ConfigurationError(
            f"tts=espeak requires the program {_PROGRAM}, on Debian: apt install {_PROGRAM}; or use tts=piper"
        )
    return program
