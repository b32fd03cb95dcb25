"""The pitch scale: Hz, coarse codes, semitones (specification 10.2)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rvc_lightning.models.config import COARSE_BINS

LOWEST_HZ = 50.0
HIGHEST_HZ = 1100.0


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
