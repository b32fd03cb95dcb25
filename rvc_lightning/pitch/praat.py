"""Pitch by the autocorrelation of Praat, `pm` in other RVC tools: fast, and accurate on clean voices.

Source: P. Boersma, "Accurate Short-Term Analysis of the Fundamental Frequency and the Harmonics-to-Noise Ratio of a
Sampled Sound", IFA Proceedings 17, 1993, as implemented by Praat (package praat-parselmouth).
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from rvc_lightning.audio.frames import FRAME_SAMPLES, SAMPLE_RATE, frame_count
from rvc_lightning.io.packages import import_extra
from rvc_lightning.pitch.base import PitchExtractor, check_range, check_threshold
from rvc_lightning.pitch.octave import track_in_two_passes

_LOWEST_HZ = 20.0
_PERIODS_PER_WINDOW = 3


class PraatExtractor(PitchExtractor):
    """Praat's autocorrelation on windows of three periods of the lowest pitch."""

    name: ClassVar[str] = "pm"

    def __init__(self, fmin_hz: float = 50.0, fmax_hz: float = 2000.0, threshold: float = 0.6) -> None:
        """Set the search range.

        Args:
            fmin_hz: Lowest pitch in Hz.
            fmax_hz: Highest pitch in Hz; see `track_in_two_passes`.
            threshold: Voicing threshold, 0 to 1.

        Raises:
            ConfigurationError: The range or the threshold is invalid, or a package is missing.
        """
        check_range(fmin_hz, fmax_hz, _LOWEST_HZ, SAMPLE_RATE / 4)
        check_threshold(threshold)
        import_extra("parselmouth", "pitch", "pitch=pm", "praat-parselmouth")
        self.fmin_hz, self.fmax_hz, self.threshold = fmin_hz, fmax_hz, threshold

    def __call__(self, wav16k: np.ndarray) -> np.ndarray:
        """Estimate the pitch, as `PitchExtractor.__call__`."""
        return track_in_two_passes(self._track, wav16k, self.fmin_hz, self.fmax_hz)

    def _track(self, wav16k: np.ndarray, fmin_hz: float, fmax_hz: float) -> np.ndarray:
        import parselmouth

        # Praat centers as many frames as fit, with half a window before the first and after the last. One sample more
        # than that keeps the number of frames above rounding errors.
        frames = frame_count(len(wav16k))
        half = math.ceil(_PERIODS_PER_WINDOW / fmin_hz * SAMPLE_RATE / 2)
        padded = np.zeros(2 * half + (frames - 1) * FRAME_SAMPLES + 1)
        inside = wav16k[: len(padded) - half]
        padded[half : half + len(inside)] = inside
        pitch = parselmouth.Sound(padded, SAMPLE_RATE).to_pitch_ac(
            time_step=FRAME_SAMPLES / SAMPLE_RATE,
            pitch_floor=fmin_hz,
            pitch_ceiling=fmax_hz,
            voicing_threshold=self.threshold,
        )
        return pitch.selected_array["frequency"].astype(np.float32)
