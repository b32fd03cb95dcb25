"""Pitch by probabilistic YIN, which needs no model but is slower and less accurate than the networks.

Source: M. Mauch and S. Dixon, "pYIN: A Fundamental Frequency Estimator Using Probabilistic Threshold
Distributions", ICASSP 2014, as implemented by librosa.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from rvc_lightning.audio.frames import FRAME_SAMPLES, SAMPLE_RATE
from rvc_lightning.io.imports import import_compiled
from rvc_lightning.pitch.base import PitchExtractor, check_range
from rvc_lightning.pitch.octave import track_in_two_passes

_FRAME_SAMPLES = 1024
# A frame must contain two periods of the lowest pitch.
_LOWEST_HZ = 2 * SAMPLE_RATE / _FRAME_SAMPLES


class PyinExtractor(PitchExtractor):
    """librosa's pYIN on frames of 64 ms."""

    name: ClassVar[str] = "pyin"

    def __init__(self, fmin_hz: float = 50.0, fmax_hz: float = 2000.0) -> None:
        """Set the search range.

        Args:
            fmin_hz: Lowest pitch in Hz.
            fmax_hz: Highest pitch in Hz; see `track_in_two_passes`.

        Raises:
            ConfigurationError: The range is invalid.
        """
        check_range(fmin_hz, fmax_hz, _LOWEST_HZ, SAMPLE_RATE / 4)
        self.fmin_hz, self.fmax_hz = fmin_hz, fmax_hz

    def __call__(self, wav16k: np.ndarray) -> np.ndarray:
        """Estimate the pitch, as `PitchExtractor.__call__`."""
        return track_in_two_passes(_track, wav16k, self.fmin_hz, self.fmax_hz)


def _track(wav16k: np.ndarray, fmin_hz: float, fmax_hz: float) -> np.ndarray:
    pitch_hz, voiced, _ = import_compiled("librosa.core.pitch").pyin(
        wav16k,
        fmin=fmin_hz,
        fmax=fmax_hz,
        sr=SAMPLE_RATE,
        frame_length=_FRAME_SAMPLES,
        hop_length=FRAME_SAMPLES,
        fill_na=0.0,
    )
    return np.where(voiced, pitch_hz, 0.0).astype(np.float32)
