"""Interface of the speech engines."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np


class SpeechEngine(ABC):
    """Synthesizes speech from text."""

    name: ClassVar[str]
    """Name in the registry and in YAML."""

    @staticmethod
    @abstractmethod
    def check_installed() -> None:
        """Check the programs and packages of the engine.

        Raises:
            ConfigurationError: One is missing; the message names the command that installs it.
        """

    @abstractmethod
    def speak(self, text: str) -> tuple[np.ndarray, int]:
        """Synthesize speech from a text.

        Args:
            text: Words and punctuation, in one or several lines.

        Returns:
            Audio at full scale 1, float32 [N], and its sampling rate in Hz. N may be 0 for text without words.

        Raises:
            AssetError: The engine fails, or its voice is missing.
        """
