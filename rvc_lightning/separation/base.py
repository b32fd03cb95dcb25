"""Interface of the separators, and the parts that they extract.

    song ─▶ vocals ─▶ lead ─▶ dry       each part is extracted from the one before it
       └▶ music  └▶ backing └▶ room     the remainder is the difference, so that parts and remainders add up to the song

Legend: N samples.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import ClassVar

import numpy as np

PARTS = ("vocals", "lead", "dry")
"""Singing and speech; the lead without backing vocals; the lead without reverberation and echo."""


def parts_up_to(part: str) -> tuple[str, ...]:
    """Return the parts that are extracted one after the other for `part`, including it."""
    return PARTS[: PARTS.index(part) + 1]


class Separator(ABC):
    """Extracts parts of recordings."""

    name: ClassVar[str]
    """Name in the registry and in YAML."""

    @staticmethod
    @abstractmethod
    def check_installed() -> None:
        """Raise ConfigurationError if a package is missing; the message names the command that installs it."""

    @abstractmethod
    def identity(self, part: str) -> str:
        """Return a digest of everything that determines the result of `extract` for a part.

        Raises:
            AssetError: The model cannot be downloaded or read.
        """

    @abstractmethod
    def extract(self, part: str, blocks: Iterable[np.ndarray], sample_rate: int) -> Iterator[np.ndarray]:
        """Extract a part of a recording of any length.

        Args:
            part: One of `PARTS`.
            blocks: Stereo audio at full scale 1, float32 [n, 2] each, N samples in total.
            sample_rate: In Hz.

        Returns:
            Iterator over the part, float32 [n, 2] each, N samples in total, aligned with the recording.

        Raises:
            AssetError: The model cannot be downloaded or read.
        """
