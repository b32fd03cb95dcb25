"""Harmonic source of the neural source-filter generators (specification 4.5; Wang et al. 2019, NSF).

Legend: B batch, T frames, N = T·hop samples, K harmonics.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

SINE_AMPLITUDE = 0.1
VOICED_NOISE = 0.003
UNVOICED_NOISE = SINE_AMPLITUDE / 3


def phase_cycles(f0_hz: Tensor, sample_rate: int, hop_samples: int) -> Tensor:
    """Phase of the fundamental in cycles modulo 1, each frame's f0 held for its hop: [B, T] -> float32 [B, N].

    The sum runs over frames and each frame's advance is wrapped to [-1/2, 1/2) first, so that float32 keeps its
    precision over minutes: within 2e-5 of exact arithmetic.
    """
    cycles_per_sample = f0_hz.float() / sample_rate
    advance = cycles_per_sample * hop_samples
    advance = torch.remainder(advance + 0.5, 1.0) - 0.5
    start = torch.remainder(torch.cumsum(advance, dim=1) - advance, 1.0)
    steps = torch.arange(1, hop_samples + 1, device=f0_hz.device, dtype=torch.float32)
    return (start.unsqueeze(-1) + cycles_per_sample.unsqueeze(-1) * steps).flatten(1)


class HarmonicSource(nn.Module):
    """Sines at the multiples of f0 in voiced frames, noise elsewhere, merged to one channel."""

    def __init__(self, sample_rate: int, hop_samples: int, n_harmonics: int = 1) -> None:
        super().__init__()
        self.sample_rate, self.hop_samples, self.n_harmonics = sample_rate, hop_samples, n_harmonics
        self.merge = nn.Linear(n_harmonics, 1)
        # From nothing, the pitch is learned soon only if the sines arrive about as loud as everything else.
        nn.init.constant_(self.merge.weight, 1 / (SINE_AMPLITUDE * n_harmonics))
        nn.init.zeros_(self.merge.bias)

    @torch.no_grad()
    def sines(self, f0_hz: Tensor) -> Tensor:
        """Excitation before merging, always float32: f0_hz [B, T] (0 = unvoiced) -> [B, N, K]."""
        # Half precision has too few digits for a phase, whatever the rest of the network runs in.
        with torch.autocast(f0_hz.device.type, enabled=False):
            harmonics = torch.arange(1, self.n_harmonics + 1, device=f0_hz.device, dtype=torch.float32)
            start = torch.rand(f0_hz.shape[0], 1, self.n_harmonics, device=f0_hz.device)
            start[..., 0] = 0.0
            phase = phase_cycles(f0_hz, self.sample_rate, self.hop_samples)
            sines = torch.sin(2 * torch.pi * (phase.unsqueeze(-1) * harmonics + start)) * SINE_AMPLITUDE
            voiced = (f0_hz > 0).float().repeat_interleave(self.hop_samples, dim=1).unsqueeze(-1)
            noise_std = voiced * VOICED_NOISE + (1 - voiced) * UNVOICED_NOISE
            return sines * voiced + noise_std * torch.randn_like(sines)

    def forward(self, f0_hz: Tensor) -> Tensor:
        """f0_hz [B, T] -> source signal [B, 1, N]."""
        sines = self.sines(f0_hz).to(self.merge.weight.dtype)
        return torch.tanh(self.merge(sines)).mT
