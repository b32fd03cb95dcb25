"""Pitch by Harvest and DIO of the vocoder WORLD, each refined by StoneMask, for voices that were trained with them.

Sources: M. Morise, "Harvest: A High-Performance Fundamental Frequency Estimator from Speech Signals", Interspeech 2017;
M. Morise, H. Kawahara and H. Katayose, "Fast and Reliable F0 Estimation Method Based on the Period Extraction of Vocal
Fold Vibration of Singing Voice and Speech", AES 2009 (DIO); as implemented by the package pyworld.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from rvc_lightning.audio.frames import FRAME_SAMPLES, SAMPLE_RATE, frame_count
from rvc_lightning.io.packages import import_extra
from rvc_lightning.pitch.base import PitchExtractor, check_range
from rvc_lightning.pitch.octave import track_in_two_passes

_LOWEST_HZ = 40.0
# Shorter recordings are padded: WORLD filters the whole recording.
_MIN_SAMPLES = SAMPLE_RATE // 2


class WorldExtractor(PitchExtractor):
    """An estimator of WORLD, followed by StoneMask."""

    def __init__(self, fmin_hz: float = 50.0, fmax_hz: float = 2000.0) -> None:
        """Set the search range.

        Args:
            fmin_hz: Lowest pitch in Hz.
            fmax_hz: Highest pitch in Hz; see `track_in_two_passes`.

        Raises:
            ConfigurationError: The range is invalid, or a package is missing.
        """
        check_range(fmin_hz, fmax_hz, _LOWEST_HZ, SAMPLE_RATE / 4)
        import_extra("pyworld", "pitch", f"pitch={self.name}")
        self.fmin_hz, self.fmax_hz = fmin_hz, fmax_hz

    def __call__(self, wav16k: np.ndarray) -> np.ndarray:
        """Estimate the pitch, as `PitchExtractor.__call__`."""
        return track_in_two_passes(self._track, wav16k, self.fmin_hz, self.fmax_hz)

    def _track(self, wav16k: np.ndarray, fmin_hz: float, fmax_hz: float) -> np.ndarray:
        import pyworld

        audio = np.zeros(max(len(wav16k), _MIN_SAMPLES))
        audio[: len(wav16k)] = wav16k
        if not audio.any():
            return np.zeros(frame_count(len(wav16k)), np.float32)
        estimate = getattr(pyworld, self.name)
        f0_hz, seconds = estimate(audio, SAMPLE_RATE, fmin_hz, fmax_hz, frame_period=1000 * FRAME_SAMPLES / SAMPLE_RATE)
        refined = pyworld.stonemask(audio, f0_hz, seconds, SAMPLE_RATE)
        return refined[: frame_count(len(wav16k))].astype(np.float32)


class HarvestExtractor(WorldExtractor):
    """Harvest: few gaps, slow, and finds pitch in noise."""

    name: ClassVar[str] = "harvest"


class DioExtractor(WorldExtractor):
    """DIO: fast, for clean voices."""

    name: ClassVar[str] = "dio"
