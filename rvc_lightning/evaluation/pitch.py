"""Errors of one pitch track against another, frame by frame.

Legend: F frames of 10 ms. Pitch is in Hz, 0 where unvoiced.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rvc_lightning.pitch.decoding import CENTS_PER_OCTAVE
from rvc_lightning.pitch.scale import proposed_shift

GROSS_ERROR_CENTS = 50
"""Threshold of a gross error: half a semitone, the tolerance of MIREX's raw pitch accuracy."""
MIN_VOICED_FRAMES = 10
"""Frames voiced in both tracks below which pitch is not compared."""


@dataclass(frozen=True)
class PitchErrors:
    """Errors of a pitch track; None if too few frames are voiced in both."""

    correlation: float | None
    """Correlation of log pitch, -1 to 1; also None if either pitch is constant."""
    error_cents: float | None
    """Median absolute difference."""
    gross_error: float | None
    """Share of frames that are 50 cents or more off, 0 to 1."""
    voicing_error: float
    """Share of all frames that are voiced in one track only, 0 to 1."""


def pitch_errors(predicted_hz: np.ndarray, reference_hz: np.ndarray) -> PitchErrors:
    """Compare two pitch tracks, [F] and [F'], over their first min(F, F') frames."""
    frames = min(len(predicted_hz), len(reference_hz))
    predicted_hz, reference_hz = predicted_hz[:frames], reference_hz[:frames]
    voicing_error = float(((predicted_hz > 0) != (reference_hz > 0)).mean())
    both = (predicted_hz > 0) & (reference_hz > 0)
    if np.count_nonzero(both) < MIN_VOICED_FRAMES:
        return PitchErrors(None, None, None, voicing_error)
    cents = CENTS_PER_OCTAVE * np.abs(np.log2(predicted_hz[both] / reference_hz[both]))
    return PitchErrors(
        correlation=pitch_correlation(predicted_hz, reference_hz),
        error_cents=float(np.median(cents)),
        gross_error=float((cents >= GROSS_ERROR_CENTS).mean()),
        voicing_error=voicing_error,
    )


def pitch_correlation(first_hz: np.ndarray, second_hz: np.ndarray) -> float | None:
    """Return Pearson's correlation of log pitch, [F] and [F], over frames voiced in both; None if undefined."""
    voiced = (first_hz > 0) & (second_hz > 0)
    if np.count_nonzero(voiced) < MIN_VOICED_FRAMES:
        return None
    octaves = np.log2(first_hz[voiced]), np.log2(second_hz[voiced])
    if min(octave.std() for octave in octaves) < 1e-6:
        return None
    return float(np.corrcoef(*octaves)[0, 1])


def semitones_between(source_hz: np.ndarray, target_hz: float | None) -> int:
    """Return `proposed_shift` from a pitch track [F] to `target_hz`; 0 if the target is unknown."""
    return 0 if target_hz is None else proposed_shift(source_hz, target_hz)
