"""Pitch by probabilistic YIN, which needs no model but is slower and less accurate than the networks.

Source: M. Mauch and S. Dixon, "pYIN: A Fundamental Frequency Estimator Using Probabilistic Threshold
Distributions", ICASSP 2014, as implemented by librosa.
"""

from __future__ import annotations

from typing import ClassVar

import librosa
import numpy as np
import torch

from rvc_lightning.audio.frames import FRAME_SAMPLES, SAMPLE_RATE
from rvc_lightning.pitch.base import PitchExtractor, check_range
from rvc_lightning.pitch.octave import find_high_pitch

_FRAME_SAMPLES = 1024
# A frame must contain two periods of the lowest pitch.
_LOWEST_HZ = 2 * SAMPLE_RATE / _FRAME_SAMPLES
_FIRST_HIGHEST_HZ = 1100.0
_SLOW_LOWEST_HZ = 400.0


class PyinExtractor(PitchExtractor):
    """librosa's pYIN on frames of 64 ms."""

    name: ClassVar[str] = "pyin"

    def __init__(self, fmin_hz: float = 50.0, fmax_hz: float = 2000.0) -> None:
        """Set the search range.

        Args:
            fmin_hz: Lowest pitch in Hz.
            fmax_hz: Highest pitch in Hz. Pitch above 1100 Hz is only searched for where there is a tone with little
                below it: a wider range classifies more noise as voiced.

        Raises:
            ConfigurationError: The range is invalid.
        """
        check_range(fmin_hz, fmax_hz, _LOWEST_HZ, SAMPLE_RATE / 4)
        self.fmin_hz, self.fmax_hz = fmin_hz, fmax_hz

    def __call__(self, wav16k: np.ndarray) -> np.ndarray:
        """Estimate the pitch, as `PitchExtractor.__call__`."""
        f0_hz = _track(wav16k, self.fmin_hz, min(self.fmax_hz, _FIRST_HIGHEST_HZ))
        if self.fmax_hz <= _FIRST_HIGHEST_HZ:
            return f0_hz

        def track_slow(waves: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
            return torch.from_numpy(_track(waves[0].numpy(), _SLOW_LOWEST_HZ, self.fmax_hz / 2))[None]

        wave, samples = torch.from_numpy(wav16k)[None], torch.tensor([len(wav16k)])
        return find_high_pitch(track_slow, wave, samples, torch.from_numpy(f0_hz)[None])[0].numpy()


def _track(wav16k: np.ndarray, fmin_hz: float, fmax_hz: float) -> np.ndarray:
    pitch_hz, voiced, _ = librosa.pyin(
        wav16k,
        fmin=fmin_hz,
        fmax=fmax_hz,
        sr=SAMPLE_RATE,
        frame_length=_FRAME_SAMPLES,
        hop_length=FRAME_SAMPLES,
        fill_na=0.0,
    )
    return np.where(voiced, pitch_hz, 0.0).astype(np.float32)
