"""The pitch scale: Hz, coarse codes, semitones, notes (specification 10.2)."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from rvc_lightning.models.config import COARSE_BINS

LOWEST_HZ = 50.0
HIGHEST_HZ = 1100.0

# Published converters have E5 so; it is 659.2551.
_E5_KEY, _E5_HZ = 76, 659.25
NOTES_HZ = tuple(_E5_HZ if key == _E5_KEY else round(440.0 * 2.0 ** ((key - 69) / 12.0), 2) for key in range(31, 85))
"""The 54 notes of equal temperament from G1 to C6, at A4 = 440 Hz, to hundredths of a Hz."""

_LARGEST_SHIFT_SEMITONES = 12


def _code_borders_hz() -> list[float]:
    """Where one code ends and the next begins: 254 frequencies in Hz, evenly spaced on the mel scale."""
    low, high = (1127.0 * math.log1p(hz / 700.0) for hz in (LOWEST_HZ, HIGHEST_HZ))
    step = (high - low) / (COARSE_BINS - 2)
    return [700.0 * math.expm1((low + (code - 0.5) * step) / 1127.0) for code in range(1, COARSE_BINS - 1)]


def coarse_pitch(f0_hz: Tensor) -> Tensor:
    """Pitch codes that the text encoder embeds: f0_hz of any shape (0 = unvoiced) -> int64 codes 1..255.

    The codes are evenly spaced on the mel scale from 50 to 1100 Hz and held at its ends. Comparing with borders
    computed in float64 gives the codes of published voices from float32 pitch as well.
    """
    borders = torch.tensor(_code_borders_hz(), dtype=f0_hz.dtype, device=f0_hz.device)
    return torch.bucketize(f0_hz, borders) + 1


def transpose(f0_hz: Tensor, semitones: float) -> Tensor:
    """`f0_hz` moved by `semitones` (12 to the octave); unvoiced frames stay 0."""
    return f0_hz * 2.0 ** (semitones / 12.0)


def autotune(f0_hz: Tensor, strength: float) -> Tensor:
    """Pulls pitch to the note that is nearest in Hz, the lower of two that are equally near.

    Args:
        f0_hz: Of any shape, 0 = unvoiced, which stays 0 (the peers make it voiced, specification 17, I4).
        strength: 0 leaves the pitch alone, 1 puts it onto the note.
    """
    notes = torch.tensor(NOTES_HZ, dtype=torch.float64, device=f0_hz.device)
    borders = (notes[1:] + notes[:-1]) / 2
    given = f0_hz.double()
    pulled = given + (notes[torch.bucketize(given, borders)] - given) * strength
    return torch.where(f0_hz > 0, pulled.to(f0_hz.dtype), f0_hz)


def proposed_shift(f0_hz: np.ndarray, target_hz: float) -> int:
    """Whole semitones, -12 to 12, that bring the pitch of a recording nearest to a target.

    Args:
        f0_hz: The whole recording, [F], 0 = unvoiced. Its pitch is the median once unvoiced gaps are filled linearly.
        target_hz: Where it should be.

    Returns:
        0 for fewer than two voiced frames.
    """
    voiced = np.flatnonzero(f0_hz > 0)
    if len(voiced) < 2:
        return 0
    median_hz = float(np.median(np.interp(np.arange(len(f0_hz)), voiced, f0_hz[voiced])))
    semitones = round(12.0 * math.log2(target_hz / median_hz))
    return max(-_LARGEST_SHIFT_SEMITONES, min(semitones, _LARGEST_SHIFT_SEMITONES))
