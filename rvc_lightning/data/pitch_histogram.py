"""Histogram of pitch, updated file by file; memory does not grow with the dataset.

Legend: F pitch frames of 10 ms.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rvc_lightning.audio.frames import FRAMES_PER_SECOND
from rvc_lightning.pitch.scale import LOWEST_HZ

_HIGHEST_HZ = 2000.0
_SEMITONES = round(np.ceil(12 * np.log2(_HIGHEST_HZ / LOWEST_HZ)))
_EDGES_HZ = LOWEST_HZ * 2 ** (np.arange(_SEMITONES + 1) / 12)


class PitchHistogram:
    """Frames per semitone from 50 Hz up; pitch outside the range is counted in the first or last semitone."""

    def __init__(self) -> None:
        self.voiced_frames = np.zeros(_SEMITONES, dtype=np.int64)
        self.unvoiced_frames = 0

    def add(self, f0_hz: np.ndarray) -> None:
        """Count the frames of f0_hz [F]; 0 = unvoiced."""
        voiced = f0_hz[f0_hz > 0]
        self.unvoiced_frames += len(f0_hz) - len(voiced)
        inside = np.clip(voiced, _EDGES_HZ[0], _EDGES_HZ[-1] * (1 - 1e-6))
        self.voiced_frames += np.histogram(inside, _EDGES_HZ)[0]

    @property
    def voiced_share(self) -> float:
        """Share of voiced frames."""
        voiced = int(self.voiced_frames.sum())
        return voiced / max(voiced + self.unvoiced_frames, 1)

    @property
    def centers_hz(self) -> np.ndarray:
        """Center of each semitone in Hz."""
        return np.sqrt(_EDGES_HZ[:-1] * _EDGES_HZ[1:])

    @property
    def seconds(self) -> np.ndarray:
        """Seconds of each semitone."""
        return self.voiced_frames / FRAMES_PER_SECOND

    @property
    def range_hz(self) -> tuple[float, float, float]:
        """5 %, 50 % and 95 % quantiles of the voiced frames, to about a fifth of a semitone; 0 if there are none."""
        reached = np.concatenate([[0], np.cumsum(self.voiced_frames)])
        if reached[-1] == 0:
            return (0.0, 0.0, 0.0)
        low, median, high = np.interp(np.array([0.05, 0.5, 0.95]) * reached[-1], reached, np.log2(_EDGES_HZ))
        return float(2**low), float(2**median), float(2**high)

    def to_dict(self) -> dict[str, Any]:
        """Return range, share of voiced frames, and seconds by semitone without empty ends, as plain values."""
        low, median, high = self.range_hz
        used = np.flatnonzero(self.voiced_frames)
        span = slice(used[0], used[-1] + 1) if len(used) else slice(0, 0)
        return {
            "low_hz": low,
            "median_hz": median,
            "high_hz": high,
            "voiced_share": self.voiced_share,
            "histogram": [
                {"hz": round(float(hz), 1), "seconds": float(seconds)}
                for hz, seconds in zip(self.centers_hz[span], self.seconds[span], strict=True)
            ],
        }
