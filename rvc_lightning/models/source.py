"""Harmonic source of the neural source-filter generators (SPECIFICATION.md, section 4.5; NSF, Wang et al. 2019).

Legend: B batch, T frames, N = T·hop samples, K harmonics.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rvc_lightning.models.noise import rand, randn_like

SINE_AMPLITUDE = 0.1
VOICED_NOISE = 0.003
UNVOICED_NOISE = SINE_AMPLITUDE / 3

Interpolation: TypeAlias = Literal["nearest", "linear", "voiced"]
"""Pitch between frames: 'nearest' holds it for a hop, 'linear' interpolates all frames, including the 0 Hz of unvoiced
frames, and 'voiced' interpolates between voiced frames only."""

_STEPS_PER_HZ = 2**24
"""Resolution of the summed pitch: float32 values from 1 Hz up are integer multiples of 1 / _STEPS_PER_HZ."""


def phase_cycles(f0_hz: Tensor, sample_rate: int) -> Tensor:
    """Return the phase of the fundamental in cycles modulo 1: pitch per sample [B, N] -> float32 [B, N].

    An integer sum is exact for any length and deterministic on every device, unlike float sums on a GPU. It overflows
    only after more than an hour of 2000 Hz.
    """
    total = torch.cumsum((f0_hz.float() * _STEPS_PER_HZ).long(), dim=1)
    cycle = sample_rate * _STEPS_PER_HZ
    return torch.remainder(total, cycle).float() / cycle


def at_sample_rate(f0_hz: Tensor, hop_samples: int, interpolation: Interpolation) -> Tensor:
    """Upsample pitch per frame [B, T] (0 = unvoiced) to pitch per sample [B, N], see `Interpolation`."""
    if interpolation == "nearest":
        return f0_hz.repeat_interleave(hop_samples, dim=1)
    # torch's own interpolation computes positions in float32, which drift by samples within a minute.
    offset = (torch.arange(hop_samples, device=f0_hz.device) + 0.5) / hop_samples - 0.5
    padded = F.pad(f0_hz, (1, 1), mode="replicate")
    rise = torch.diff(padded)
    if interpolation == "voiced":
        rise = rise * ((padded[:, :-1] > 0) & (padded[:, 1:] > 0))
    rise = rise.unsqueeze(-1)
    return (f0_hz.unsqueeze(-1) + offset * torch.where(offset < 0, rise[:, :-1], rise[:, 1:])).flatten(1)


class HarmonicSource(nn.Module):
    """Sines at multiples of f0 in voiced frames and noise elsewhere, merged to one channel."""

    def __init__(
        self,
        sample_rate: int,
        hop_samples: int,
        n_harmonics: int = 1,
        *,
        interpolation: Interpolation = "nearest",
        bias: bool = True,
    ) -> None:
        """Initialize the source.

        Args:
            sample_rate: Sample rate in Hz.
            hop_samples: Samples per frame.
            n_harmonics: Number of sines, including the fundamental.
            interpolation: Interpolation of pitch between frames.
            bias: Whether the merging layer has a bias.
        """
        super().__init__()
        self.sample_rate, self.hop_samples, self.n_harmonics = sample_rate, hop_samples, n_harmonics
        self.interpolation = interpolation
        self.merge = nn.Linear(n_harmonics, 1, bias=bias)
        # Training from scratch learns pitch early only if the sines have about the level of the other activations.
        nn.init.constant_(self.merge.weight, 1 / (SINE_AMPLITUDE * n_harmonics))
        if bias:
            nn.init.zeros_(self.merge.bias)

    @torch.no_grad()
    def sines(self, f0_hz: Tensor) -> Tensor:
        """Return the excitation before merging, always float32: f0_hz [B, T] (0 = unvoiced) -> [B, N, K]."""
        # Half precision is not accurate enough for phases.
        with torch.autocast(f0_hz.device.type, enabled=False):
            f0_hz = at_sample_rate(f0_hz.float(), self.hop_samples, self.interpolation)
            harmonics = torch.arange(1, self.n_harmonics + 1, device=f0_hz.device, dtype=torch.float32)
            start = rand(f0_hz.shape[0], 1, self.n_harmonics, like=f0_hz)
            start[..., 0] = 0.0
            phase = phase_cycles(f0_hz, self.sample_rate).unsqueeze(-1)
            sines = torch.sin(2 * torch.pi * (phase * harmonics + start)) * SINE_AMPLITUDE
            voiced = (f0_hz > 0).float().unsqueeze(-1)
            noise_std = voiced * VOICED_NOISE + (1 - voiced) * UNVOICED_NOISE
            return sines * voiced + noise_std * randn_like(sines)

    def forward(self, f0_hz: Tensor) -> Tensor:
        """f0_hz [B, T] (0 = unvoiced) -> source signal [B, 1, N]."""
        sines = self.sines(f0_hz).to(self.merge.weight.dtype)
        return torch.tanh(self.merge(sines)).mT
