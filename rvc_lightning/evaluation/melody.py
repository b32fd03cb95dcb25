"""How well one pitch track follows another, frame by frame.

Legend: F frames of 10 ms. Pitch is in Hz, 0 where unvoiced.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rvc_lightning.pitch.decoding import CENTS_PER_OCTAVE

GROSS_CENTS = 50
"""From here on a pitch is wrong: half a semitone, the tolerance of MIREX's raw pitch accuracy."""
FEWEST_VOICED = 10
"""With fewer frames that are voiced in both, nothing is said of the pitch."""


@dataclass(frozen=True)
class Melody:
    """How the pitch that was heard differs from the wanted one; None where too little is voiced in both."""

    correlation: float | None
    """Of log pitch, -1 to 1; None as well where a pitch never moves."""
    error_cents: float | None
    """Median of the absolute difference."""
    gross_error: float | None
    """Share of frames that are 50 cents or more off, 0 to 1."""
    voicing_error: float
    """Share of all frames that are voiced in one only, 0 to 1."""


def melody(heard_hz: np.ndarray, wanted_hz: np.ndarray) -> Melody:
    """Compares two tracks [F] and [F]; of different lengths, the common beginning."""
    frames = min(len(heard_hz), len(wanted_hz))
    heard_hz, wanted_hz = heard_hz[:frames], wanted_hz[:frames]
    voicing_error = float(((heard_hz > 0) != (wanted_hz > 0)).mean())
    both = (heard_hz > 0) & (wanted_hz > 0)
    if np.count_nonzero(both) < FEWEST_VOICED:
        return Melody(None, None, None, voicing_error)
    cents = CENTS_PER_OCTAVE * np.abs(np.log2(heard_hz[both] / wanted_hz[both]))
    gross_error = float((cents >= GROSS_CENTS).mean())
    return Melody(correlation(heard_hz, wanted_hz), float(np.median(cents)), gross_error, voicing_error)


def correlation(first_hz: np.ndarray, second_hz: np.ndarray) -> float | None:
    """Pearson's correlation of log pitch, [F] and [F], where both are voiced; None where it says nothing."""
    voiced = (first_hz > 0) & (second_hz > 0)
    if np.count_nonzero(voiced) < FEWEST_VOICED:
        return None
    octaves = np.log2(first_hz[voiced]), np.log2(second_hz[voiced])
    if min(octave.std() for octave in octaves) < 1e-6:
        return None
    return float(np.corrcoef(*octaves)[0, 1])


def semitones_between(source_hz: np.ndarray, target_hz: float | None) -> int:
    """Whole semitones from the median of a pitch track [F] to `target_hz`; 0 where either is unknown."""
    median = median_hz([source_hz])
    return 0 if median is None or target_hz is None else round(12 * np.log2(target_hz / median))


def median_hz(tracks_hz: Sequence[np.ndarray]) -> float | None:
    """Median in Hz over the voiced frames of all tracks, each [F]; None if there are none."""
    voiced_hz = np.concatenate([f0_hz[f0_hz > 0] for f0_hz in tracks_hz] or [np.zeros(0)])
    return float(np.median(voiced_hz)) if len(voiced_hz) else None
