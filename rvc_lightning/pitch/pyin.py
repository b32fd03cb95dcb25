"""Pitch by probabilistic YIN, without any model: slower and less exact than the networks.

Source: M. Mauch and S. Dixon, "pYIN: A Fundamental Frequency Estimator Using Probabilistic Threshold
Distributions", ICASSP 2014, as implemented by librosa.
"""

from __future__ import annotations

from typing import ClassVar

import librosa
import numpy as np

from rvc_lightning.audio.frames import FRAME_SAMPLES, SAMPLE_RATE
from rvc_lightning.errors import ConfigurationError
from rvc_lightning.pitch.base import PitchExtractor

_FRAME_SAMPLES = 1024
# Two periods of the lowest pitch must fit into the frame.
_LOWEST_HZ = 2 * SAMPLE_RATE / _FRAME_SAMPLES


class PyinExtractor(PitchExtractor):
    """librosa's pYIN on frames of 64 ms."""

    name: ClassVar[str] = "pyin"

    def __init__(self, fmin_hz: float = 50.0, fmax_hz: float = 1100.0) -> None:
        """Set what to look for.

        Args:
            fmin_hz: lowest pitch in Hz.
            fmax_hz: highest pitch in Hz.

        Raises:
            ConfigurationError: the range is empty or out of reach.
        """
        if not _LOWEST_HZ <= fmin_hz < fmax_hz <= SAMPLE_RATE / 4:
            raise ConfigurationError(
                f"pitch: fmin_hz {fmin_hz} and fmax_hz {fmax_hz} must be in order and within"
                f" {_LOWEST_HZ:.1f} to {SAMPLE_RATE / 4:.0f} Hz"
            )
        self.fmin_hz, self.fmax_hz = fmin_hz, fmax_hz

    def __call__(self, wav16k: np.ndarray) -> np.ndarray:
        """Measure the pitch, as `PitchExtractor.__call__`."""
        pitch_hz, voiced, _ = librosa.pyin(
            wav16k,
            fmin=self.fmin_hz,
            fmax=self.fmax_hz,
            sr=SAMPLE_RATE,
            frame_length=_FRAME_SAMPLES,
            hop_length=FRAME_SAMPLES,
            fill_na=0.0,
        )
        return np.where(voiced, pitch_hz, 0.0).astype(np.float32)
