"""Peaks and normalization of training audio.

Normalization brings the peak near a common level and keeps a quarter of the original loudness:

    y = 0.9 * 0.75 * x / peak + 0.25 * x

Legend: N samples.
"""

from __future__ import annotations

import numpy as np

SILENT_PEAK = 1e-3
"""Peak below which audio is silence: -60 dB of full scale."""

LOUDEST_PEAK = 2.5
"""Peak above which samples are unscaled or damaged, in multiples of full scale."""

_TARGET_PEAK = 0.9
_NORMALIZED_SHARE = 0.75


def peak_of(audio: np.ndarray) -> float:
    """Return the largest absolute value of audio of any shape; 0 if it is empty."""
    return float(np.abs(audio).max(initial=0.0))


def normalization_gain(peak: float) -> float:
    """Return the gain that normalizes audio with this peak; 1 for silence."""
    if peak < SILENT_PEAK:
        return 1.0
    return _TARGET_PEAK * _NORMALIZED_SHARE / peak + (1 - _NORMALIZED_SHARE)


def normalize(audio: np.ndarray) -> np.ndarray:
    """Normalize audio [N] by its peak; silence is returned unchanged."""
    return (audio * normalization_gain(peak_of(audio))).astype(np.float32)


def peak_defect(peak: float) -> str | None:
    """Return the reason why audio with this peak is unusable for training; None if it is usable."""
    if peak < SILENT_PEAK:
        return f"silent (peak {peak:.1e}, below {SILENT_PEAK:g})"
    if peak > LOUDEST_PEAK:
        return f"peak {peak:.3g} is beyond {LOUDEST_PEAK} times full scale"
    return None
