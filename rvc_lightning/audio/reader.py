"""Interface of the decoders."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np


class AudioReader(ABC):
    """Decoder of one recording, to be iterated once.

    Attributes:
        sample_rate: In Hz.
        seconds: Duration by the header or an estimate; None if unknown.
        whole_seconds: Minimum duration of an undamaged file; None if unknown or estimated.
        damage: Reason why the file ends early; empty if it does not.
        warnings: Other deviations. `damage` and `warnings` are complete after iteration.
    """

    sample_rate: int
    seconds: float | None = None
    whole_seconds: float | None = None
    damage: str = ""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    @abstractmethod
    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield blocks, float32 [samples, channels]."""

    @abstractmethod
    def close(self) -> None:
        """Release the file and the decoder."""
