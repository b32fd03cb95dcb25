"""Text encoder: content features and pitch -> prior of the latent (SPECIFICATION.md, section 4.1).

Legend: B batch, T frames, C content channels, H hidden channels, L latent channels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rvc_lightning.audio.frames import frame_mask
from rvc_lightning.models.config import COARSE_BINS, SynthesizerConfig
from rvc_lightning.models.layers import LEAKY_SLOPE, ChannelNorm, FeedForward, RelativeAttention
from rvc_lightning.models.noise import randn_like


class Gaussian(NamedTuple):
    """A diagonal Gaussian per frame."""

    mean: Tensor
    """[B, L, T]."""
    log_std: Tensor
    """[B, L, T]."""
    mask: Tensor
    """[B, 1, T], bool."""


class Transformer(nn.Module):
    """Post-norm layers of relative attention and feed-forward (SPECIFICATION.md, section 4.1.1)."""

    def __init__(self, config: SynthesizerConfig) -> None:
        super().__init__()
        hidden, dropout, layers = config.hidden_channels, config.dropout, range(config.n_layers)
        self.attn_layers = nn.ModuleList(RelativeAttention(hidden, config.n_heads, dropout=dropout) for _ in layers)
        self.norm_layers_1 = nn.ModuleList(ChannelNorm(hidden) for _ in layers)
        self.ffn_layers = nn.ModuleList(
            FeedForward(hidden, config.filter_channels, config.kernel_size, dropout) for _ in layers
        )
        self.norm_layers_2 = nn.ModuleList(ChannelNorm(hidden) for _ in layers)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """[B, H, T] with mask [B, 1, T] -> [B, H, T]."""
        x = x * mask
        for attend, norm_1, feed, norm_2 in zip(
            self.attn_layers, self.norm_layers_1, self.ffn_layers, self.norm_layers_2, strict=True
        ):
            x = norm_1(x + self.dropout(attend(x, mask)))
            x = norm_2(x + self.dropout(feed(x, mask)))
        return x * mask


class TextEncoder(nn.Module):
    """Encoder of content features and coarse pitch into the distribution of the prior latent."""

    def __init__(self, config: SynthesizerConfig, pitch_guided: bool) -> None:
        super().__init__()
        hidden = config.hidden_channels
        self.content_projection = nn.Linear(config.content_dim, hidden)
        self.pitch_embedding = nn.Embedding(COARSE_BINS, hidden) if pitch_guided else None
        self.transformer = Transformer(config)
        self.projection = nn.Conv1d(hidden, 2 * config.latent_channels, 1)

    def forward(self, content: Tensor, coarse_pitch: Tensor | None, lengths: Tensor) -> Gaussian:
        """Encode content and pitch into the prior.

        Args:
            content: Features at 100 frames per second, [B, T, C].
            coarse_pitch: Pitch codes 1..255 (0 in padded frames), [B, T]; unused by voices without pitch.
            lengths: Frames of each item, [B].
        """
        x = self.content_projection(content)
        if self.pitch_embedding is not None:
            assert coarse_pitch is not None
            x = x + self.pitch_embedding(coarse_pitch)
        x = F.leaky_relu(x * x.shape[-1] ** 0.5, LEAKY_SLOPE).mT
        mask = frame_mask(lengths, x.shape[-1]).unsqueeze(1)
        mean, log_std = (self.projection(self.transformer(x, mask)) * mask).chunk(2, dim=1)
        return Gaussian(mean, log_std, mask)


def sample(gaussian: Gaussian, noise_scale: float = 1.0) -> Tensor:
    """Sample `gaussian` with its standard deviation scaled by `noise_scale`: [B, L, T], 0 in padded frames."""
    mean, log_std, mask = gaussian
    return (mean + randn_like(mean) * torch.exp(log_std) * noise_scale) * mask
