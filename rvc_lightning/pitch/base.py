"""What a pitch extractor is.

Letters: T samples at 16 kHz, F frames of 10 ms.

    frame       0         1         2                F = T // 160 + 1
    sample      0        160       320               frame i looks around sample 160 * i
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

SAMPLE_RATE = 16000
HOP_SAMPLES = 160


class PitchExtractor(ABC):
    """From speech or singing to its fundamental frequency.

    An extractor is host code without a device: it runs in worker processes, so it pickles, keeps nothing open
    when it does, and uses one thread. The same samples give the same values in any process.
    """

    name: ClassVar[str]
    """The name in the registry, the configuration and the manifest."""
    finds_pitch: ClassVar[bool] = True
    """Whether there is pitch in what it gives."""

    @abstractmethod
    def __call__(self, wav16k: np.ndarray) -> np.ndarray:
        """Measure the pitch.

        Args:
            wav16k: float32 [T] at 16 kHz, full scale 1, T >= 1; silence is welcome.

        Returns:
            f0_hz, float32 [F], F = T // 160 + 1; 0 where unvoiced.
        """


def frame_count(samples: int) -> int:
    """F of a signal of `samples` at 16 kHz."""
    return samples // HOP_SAMPLES + 1
