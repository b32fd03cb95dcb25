"""The package edge-tts: online voices of Microsoft Edge. The text is sent to this service."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rvc_lightning.audio.decode import load_audio
from rvc_lightning.config.options import Settings, option
from rvc_lightning.errors import AssetError
from rvc_lightning.io.packages import import_extra
from rvc_lightning.tts.base import SpeechEngine


@dataclass(frozen=True, kw_only=True)
class EdgeSettings(Settings, group="tts"):
    """Settings of `conf/tts/edge.yaml`."""

    voice: str = option(help="a voice of the list that edge-tts --list-voices prints")
    rate_percent: int = option(unit="%", min=-50, max=100)


class EdgeEngine(SpeechEngine):
    """Online voices by edge-tts (LGPL 3)."""

    name = "edge"

    def __init__(self, **settings: Any) -> None:
        """Check the settings; the service is not contacted before `speak`.

        Args:
            settings: Values of `EdgeSettings`.

        Raises:
            ConfigurationError: A setting is invalid, or the package is missing.
        """
        self._settings = EdgeSettings.from_values(settings)
        self._edge = _import_edge()

    @staticmethod
    def check_installed() -> None:
        """See `SpeechEngine`."""
        _import_edge()

    def speak(self, text: str) -> tuple[np.ndarray, int]:
        """See `SpeechEngine`."""
        import aiohttp

        try:
            encoded = asyncio.run(self._receive(text))
        except (aiohttp.ClientError, OSError, ValueError, self._edge.exceptions.EdgeTTSException) as error:
            raise AssetError(
                f"tts=edge: the service cannot be used ({str(error) or type(error).__name__}); check the network and "
                f"tts.voice={self._settings.voice}, or use tts=piper or tts=espeak, which work offline"
            ) from error
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "speech.mp3"
            path.write_bytes(encoded)
            return load_audio(path)

    async def _receive(self, text: str) -> bytes:
        """Return the speech as mp3."""
        rate = f"{self._settings.rate_percent:+d}%"
        messages = self._edge.Communicate(text, self._settings.voice, rate=rate).stream()
        return b"".join([message["data"] async for message in messages if message["type"] == "audio"])


def _import_edge() -> Any:
    return import_extra("edge_tts", "speech", "tts=edge", "edge-tts")
