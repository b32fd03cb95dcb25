"""Normalizing flow between posterior and prior latent (SPECIFICATION.md, section 4.4; VITS, Kim et al. 2021).

Legend: B batch, T frames, L latent channels, G speaker channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rvc_lightning.models.config import SynthesizerConfig
from rvc_lightning.models.layers import WaveNet

N_COUPLINGS = 4


class Coupling(nn.Module):
    """Affine coupling that shifts half of the channels by a function of the other half; its log-determinant is 0."""

    def __init__(self, config: SynthesizerConfig) -> None:
        super().__init__()
        half, hidden = config.latent_channels // 2, config.hidden_channels
        self.pre = nn.Conv1d(half, hidden, 1)
        self.wavenet = WaveNet(hidden, kernel_size=5, n_layers=3, speaker_channels=config.speaker_channels)
        self.post = nn.Conv1d(hidden, half, 1)
        # The flow starts as the identity.
        for parameter in self.post.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, mask: Tensor, speaker_code: Tensor, *, reverse: bool) -> Tensor:
        """[B, L, T], mask [B, 1, T], speaker_code [B, G, 1] -> [B, L, T]."""
        unchanged, shifted = x.chunk(2, dim=1)
        mean = self.post(self.wavenet(self.pre(unchanged) * mask, mask, speaker_code)) * mask
        shifted = (shifted - mean) * mask if reverse else mean + shifted * mask
        return torch.cat([unchanged, shifted], dim=1)


class Flow(nn.Module):
    """Four couplings with the channel order reversed after each, so that each half is shifted twice."""

    def __init__(self, config: SynthesizerConfig) -> None:
        super().__init__()
        self.couplings = nn.ModuleList(Coupling(config) for _ in range(N_COUPLINGS))

    def forward(self, x: Tensor, mask: Tensor, speaker_code: Tensor, *, reverse: bool = False) -> Tensor:
        """Map the posterior latent to the prior latent, or back if `reverse`.

        Args:
            x: [B, L, T].
            mask: [B, 1, T].
            speaker_code: [B, G, 1].
            reverse: Whether to map from prior to posterior, as in conversion.

        Returns:
            [B, L, T], 0 in padded frames.
        """
        for coupling in reversed(self.couplings) if reverse else self.couplings:
            if reverse:
                x = coupling(x.flip(1), mask, speaker_code, reverse=True)
            else:
                x = coupling(x, mask, speaker_code, reverse=False).flip(1)
        return x
