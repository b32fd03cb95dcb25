"""Harmonic source of the neural source-filter generators (specification 4.5; Wang et al. 2019, NSF).

Legend: B batch, T frames, N = T·hop samples, K harmonics.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SINE_AMPLITUDE = 0.1
VOICED_NOISE = 0.003
UNVOICED_NOISE = SINE_AMPLITUDE / 3

Interpolation: TypeAlias = Literal["nearest", "linear", "voiced"]
"""Pitch between frames: 'nearest' holds it for a hop, 'linear' glides, also to and from the 0 Hz of unvoiced frames,
'voiced' glides between voiced frames alone."""

_STEPS_PER_HZ = 2**24
"""Resolution of the summed pitch: float32 values from 1 Hz on are whole multiples of it."""


def phase_cycles(f0_hz: Tensor, sample_rate: int) -> Tensor:
    """Phase of the fundamental in cycles modulo 1: pitch of every sample [B, N] -> float32 [B, N].

    The sum runs over whole numbers, so it is exact over any length, the same on every device, and deterministic,
    which float sums on a GPU are not. Half a day of 1100 Hz fits into it.
    """
    total = torch.cumsum((f0_hz.float() * _STEPS_PER_HZ).long(), dim=1)
    cycle = sample_rate * _STEPS_PER_HZ
    return torch.remainder(total, cycle).float() / cycle


def at_sample_rate(f0_hz: Tensor, hop_samples: int, interpolation: Interpolation) -> Tensor:
    """Pitch of every frame [B, T] (0 = unvoiced) -> of every sample [B, N], see `Interpolation`."""
    if interpolation == "nearest":
        return f0_hz.repeat_interleave(hop_samples, dim=1)
    # torch's own interpolation counts frames in float32, which a minute later is off by samples.
    offset = (torch.arange(hop_samples, device=f0_hz.device) + 0.5) / hop_samples - 0.5
    padded = F.pad(f0_hz, (1, 1), mode="replicate")
    rise = torch.diff(padded)
    if interpolation == "voiced":
        rise = rise * ((padded[:, :-1] > 0) & (padded[:, 1:] > 0))
    rise = rise.unsqueeze(-1)
    return (f0_hz.unsqueeze(-1) + offset * torch.where(offset < 0, rise[:, :-1], rise[:, 1:])).flatten(1)


class HarmonicSource(nn.Module):
    """Sines at the multiples of f0 in voiced frames, noise elsewhere, merged to one channel."""

    def __init__(
        self,
        sample_rate: int,
        hop_samples: int,
        n_harmonics: int = 1,
        *,
        interpolation: Interpolation = "nearest",
        bias: bool = True,
    ) -> None:
        """Sizes of the source.

        Args:
            sample_rate: In Hz.
            hop_samples: Samples of a frame.
            n_harmonics: Sines, the fundamental included.
            interpolation: Of the pitch between frames.
            bias: Whether merging adds a constant.
        """
        super().__init__()
        self.sample_rate, self.hop_samples, self.n_harmonics = sample_rate, hop_samples, n_harmonics
        self.interpolation = interpolation
        self.merge = nn.Linear(n_harmonics, 1, bias=bias)
        # From nothing, the pitch is learned soon only if the sines arrive about as loud as everything else.
        nn.init.constant_(self.merge.weight, 1 / (SINE_AMPLITUDE * n_harmonics))
        if bias:
            nn.init.zeros_(self.merge.bias)

    @torch.no_grad()
    def sines(self, f0_hz: Tensor) -> Tensor:
        """Excitation before merging, always float32: f0_hz [B, T] (0 = unvoiced) -> [B, N, K]."""
        # Half precision has too few digits for a phase, whatever the rest of the network runs in.
        with torch.autocast(f0_hz.device.type, enabled=False):
            f0_hz = at_sample_rate(f0_hz.float(), self.hop_samples, self.interpolation)
            harmonics = torch.arange(1, self.n_harmonics + 1, device=f0_hz.device, dtype=torch.float32)
            start = torch.rand(f0_hz.shape[0], 1, self.n_harmonics, device=f0_hz.device)
            start[..., 0] = 0.0
            phase = phase_cycles(f0_hz, self.sample_rate).unsqueeze(-1)
            sines = torch.sin(2 * torch.pi * (phase * harmonics + start)) * SINE_AMPLITUDE
            voiced = (f0_hz > 0).float().unsqueeze(-1)
            noise_std = voiced * VOICED_NOISE + (1 - voiced) * UNVOICED_NOISE
            return sines * voiced + noise_std * torch.randn_like(sines)

    def forward(self, f0_hz: Tensor | None) -> Tensor:
        """f0_hz [B, T] -> source signal [B, 1, N]. Raises ValueError where there is no pitch."""
        if f0_hz is None:
            raise ValueError("this generator is guided by pitch: f0_hz is needed")
        sines = self.sines(f0_hz).to(self.merge.weight.dtype)
        return torch.tanh(self.merge(sines)).mT
