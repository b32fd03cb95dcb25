"""Pitch scales: Hz, coarse codes, semitones and notes (SPECIFICATION.md, section 10.2)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from rvc_lightning.models.config import COARSE_BINS

LOWEST_HZ = 50.0
HIGHEST_HZ = 1100.0

# Other RVC tools round E5 (659.2551 Hz) down.
_E5_KEY, _E5_HZ = 76, 659.25
NOTES_HZ = tuple(_E5_HZ if key == _E5_KEY else round(440.0 * 2.0 ** ((key - 69) / 12.0), 2) for key in range(128))
"""The 128 MIDI notes in equal temperament at A4 = 440 Hz, rounded to 0.01 Hz. Other RVC tools have keys 31 to 84."""

_MAX_SHIFT_SEMITONES = 12


def _code_borders_hz() -> list[float]:
    """Return the 254 borders between the codes in Hz, evenly spaced on the mel scale."""
    low, high = (1127.0 * math.log1p(hz / 700.0) for hz in (LOWEST_HZ, HIGHEST_HZ))
    step = (high - low) / (COARSE_BINS - 2)
    return [700.0 * math.expm1((low + (code - 0.5) * step) / 1127.0) for code in range(1, COARSE_BINS - 1)]


def coarse_pitch(f0_hz: Tensor) -> Tensor:
    """Quantize pitch for the embedding of the text encoder: f0_hz of any shape (0 = unvoiced) -> int64 codes 1..255.

    The codes are evenly spaced on the mel scale from 50 to 1100 Hz and clamped. Borders computed in float64 give the
    codes of other RVC tools for float32 pitch.
    """
    borders = torch.tensor(_code_borders_hz(), dtype=f0_hz.dtype, device=f0_hz.device)
    return torch.bucketize(f0_hz, borders) + 1


def transpose(f0_hz: Tensor, semitones: float) -> Tensor:
    """Transpose `f0_hz` by `semitones`; unvoiced frames stay 0."""
    return f0_hz * 2.0 ** (semitones / 12.0)


def autotune(f0_hz: Tensor, strength: float) -> Tensor:
    """Move pitch towards the note nearest in Hz, the lower one in a tie.

    Args:
        f0_hz: Pitch of any shape; unvoiced frames (0) stay 0.
        strength: From 0 (unchanged) to 1 (exactly the note).

    Returns:
        Pitch of the same shape and type.
    """
    notes = torch.tensor(NOTES_HZ, dtype=torch.float64, device=f0_hz.device)
    borders = (notes[1:] + notes[:-1]) / 2
    pitch = f0_hz.double()
    tuned = torch.lerp(pitch, notes[torch.bucketize(pitch, borders)], strength)
    return torch.where(f0_hz > 0, tuned.to(f0_hz.dtype), f0_hz)


def median_hz(tracks_hz: Sequence[np.ndarray]) -> float | None:
    """Return the median in Hz over the voiced frames of all tracks, each [F]; None without voiced frames."""
    voiced_hz = np.concatenate([f0_hz[f0_hz > 0] for f0_hz in tracks_hz] or [np.zeros(0)])
    return float(np.median(voiced_hz)) if len(voiced_hz) else None


def proposed_shift(f0_hz: np.ndarray, target_hz: float) -> int:
    """Return the shift that brings the median pitch of a recording closest to a target.

    Args:
        f0_hz: Pitch of the whole recording in Hz, [F], 0 = unvoiced. Only voiced frames count.
        target_hz: Target in Hz.

    Returns:
        Whole semitones, -12 to 12; 0 without voiced frames.
    """
    source_hz = median_hz([f0_hz])
    if source_hz is None:
        return 0
    semitones = round(12.0 * math.log2(target_hz / source_hz))
    return max(-_MAX_SHIFT_SEMITONES, min(semitones, _MAX_SHIFT_SEMITONES))
