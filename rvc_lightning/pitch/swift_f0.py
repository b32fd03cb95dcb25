"""Pitch by SwiftF0, a small convolutional network included in the package `swift-f0`.

Source: L. Nieradzik, "SwiftF0: Fast and Accurate Monophonic Pitch Detection", 2025.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from swift_f0 import FMAX, FMIN, FRAME_PERIOD, SwiftF0

from rvc_lightning.audio.frames import FRAME_SAMPLES, SAMPLE_RATE, frame_count
from rvc_lightning.pitch.base import PitchExtractor, check_range, check_threshold

# Neighbors further apart are an octave error or two notes, and are not interpolated.
_GLIDE_OCTAVES = 0.25


class SwiftF0Extractor(PitchExtractor):
    """SwiftF0, interpolated to frames of 10 ms.

    The network has frames of 16 ms, the first centered on sample 0. Confidence is interpolated linearly. If it reaches
    the threshold, pitch is interpolated in log frequency between voiced neighbors, or copied if only one is voiced.

        network   0 ms        16 ms        32 ms        48 ms
        grid      0 ms   10 ms    20 ms   30 ms   40 ms
    """

    name: ClassVar[str] = "swift_f0"

    def __init__(self, fmin_hz: float = 50.0, fmax_hz: float = 2000.0, threshold: float = 0.5) -> None:
        """Set search range and threshold.

        Args:
            fmin_hz: Lowest pitch in Hz.
            fmax_hz: Highest pitch in Hz.
            threshold: Minimum confidence of voiced frames, 0 to 1; the network is calibrated to 0.5.

        Raises:
            ConfigurationError: The range or the threshold is invalid.
        """
        check_range(fmin_hz, fmax_hz, FMIN, FMAX)
        check_threshold(threshold)
        self.fmin_hz, self.fmax_hz, self.threshold = fmin_hz, fmax_hz, threshold
        self._detector: SwiftF0 | None = None

    def __call__(self, wav16k: np.ndarray) -> np.ndarray:
        """Estimate the pitch, as `PitchExtractor.__call__`."""
        if self._detector is None:
            self._detector = SwiftF0(threads=1, spin=False)
        # The network drops incomplete hops; two more hops cover the last frame.
        padded = np.pad(wav16k, (0, 2 * round(FRAME_PERIOD * SAMPLE_RATE)))
        result = self._detector.detect(padded, SAMPLE_RATE, fmin=self.fmin_hz, fmax=self.fmax_hz)
        position = np.arange(frame_count(len(wav16k))) * (FRAME_SAMPLES / SAMPLE_RATE / FRAME_PERIOD)
        return _on_grid(result.pitch_hz, result.confidence, position, self.threshold)

    def __getstate__(self) -> dict[str, Any]:
        """Drop the inference session, which cannot be pickled."""
        return {**self.__dict__, "_detector": None}


def _on_grid(pitch_hz: np.ndarray, confidence: np.ndarray, position: np.ndarray, threshold: float) -> np.ndarray:
    """Interpolate network frames [M] at fractional positions [F] (in network frames) to float32 [F]."""
    left = position.astype(np.int64)
    right = np.minimum(left + 1, len(pitch_hz) - 1)
    fraction = position - left
    voiced = confidence >= threshold
    octave = np.log2(np.maximum(pitch_hz, 1.0))
    jump = voiced[left] & voiced[right] & (np.abs(octave[right] - octave[left]) > _GLIDE_OCTAVES)
    fraction = np.where(jump, np.round(fraction), fraction)
    weight_left, weight_right = (1 - fraction) * voiced[left], fraction * voiced[right]
    total = weight_left + weight_right
    mean_octave = (weight_left * octave[left] + weight_right * octave[right]) / np.where(total > 0, total, 1)
    is_voiced = (np.interp(position, np.arange(len(confidence)), confidence) >= threshold) & (total > 0)
    return np.where(is_voiced, 2.0**mean_octave, 0.0).astype(np.float32)
