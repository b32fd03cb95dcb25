"""Peaks and normalization of training audio.

Normalization lifts the peak most of the way to a common level and keeps a quarter of the original loudness:

    y = 0.9 * 0.75 * x / peak + 0.25 * x

Letters: N samples.
"""

from __future__ import annotations

import numpy as np

SILENT_PEAK = 1e-3
"""Audio whose peak stays below this (-60 dB of full scale) is silence: there is nothing to normalize."""

LOUDEST_PEAK = 2.5
"""Audio beyond this is not a recording at full scale 1 but unscaled or broken samples."""

_TARGET_PEAK = 0.9
_SHARE = 0.75


def peak_of(audio: np.ndarray) -> float:
    """Largest absolute sample of audio [N]; 0 for none."""
    return float(np.abs(audio).max(initial=0.0))


def normalization_gain(peak: float) -> float:
    """The factor that normalizes audio of this peak; 1 for silence, which has no level to lift."""
    if peak < SILENT_PEAK:
        return 1.0
    return _TARGET_PEAK * _SHARE / peak + (1 - _SHARE)


def normalize(audio: np.ndarray) -> np.ndarray:
    """Normalize audio [N] by its own peak; silence comes back as it is, never as NaN."""
    return (audio * normalization_gain(peak_of(audio))).astype(np.float32)


def peak_defect(peak: float) -> str | None:
    """Why audio of this peak cannot be trained on, or None where it can."""
    if peak < SILENT_PEAK:
        return f"silent (peak {peak:.1e}, below {SILENT_PEAK:g})"
    if peak > LOUDEST_PEAK:
        return f"peak {peak:.3g} is beyond {LOUDEST_PEAK} times full scale"
    return None
