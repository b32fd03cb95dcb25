"""Content decoder: content features, pitch and speaker -> latent, without random numbers.

For `variational=False`, in place of text encoder and flow. The KL loss limits a random latent, and small networks then
lose words. Here only the generated speech is compared with the recording.

Legend: B batch, T frames, C content channels, L latent channels, G speaker channels.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from rvc_lightning.audio.frames import frame_mask
from rvc_lightning.models.config import COARSE_BINS, SynthesizerConfig
from rvc_lightning.models.layers import ChannelNorm, same_padding

DILATIONS = (1, 2, 4)
"""Dilations of successive layers, repeated."""


class ContentDecoder(nn.Module):
    """Convolutions over frames, conditioned on the speaker.

    `latent_channels` is the width of all layers, `n_layers` their number and `kernel_size` that of their convolutions.
    """

    def __init__(self, config: SynthesizerConfig, pitch_guided: bool) -> None:
        super().__init__()
        channels = config.latent_channels
        self.content_projection = nn.Linear(config.content_dim, channels)
        self.pitch_embedding = nn.Embedding(COARSE_BINS, channels) if pitch_guided else None
        self.cond = nn.Conv1d(config.speaker_channels, channels, 1)
        self.layers = nn.ModuleList(
            NormalizedLayer(channels, config.kernel_size, DILATIONS[number % len(DILATIONS)])
            for number in range(config.n_layers)
        )

    def forward(self, content: Tensor, coarse_pitch: Tensor | None, lengths: Tensor, speaker_code: Tensor) -> Tensor:
        """Decode content into the latent.

        Args:
            content: Features at 100 frames per second, [B, T, C].
            coarse_pitch: Pitch codes 1..255 (0 in padded frames), [B, T]; unused by voices without pitch.
            lengths: Frames of each item, [B].
            speaker_code: [B, G, 1].

        Returns:
            [B, L, T], 0 in padded frames.
        """
        x = self.content_projection(content)
        if self.pitch_embedding is not None:
            assert coarse_pitch is not None
            x = x + self.pitch_embedding(coarse_pitch)
        x = x.mT + self.cond(speaker_code)
        mask = frame_mask(lengths, x.shape[2]).unsqueeze(1)
        for layer in self.layers:
            x = layer(x, mask)
        return x * mask


class NormalizedLayer(nn.Module):
    """Residual of a dilated and a pointwise convolution with normalized input."""

    def __init__(self, channels: int, kernel_size: int, dilation: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels)
        padding = same_padding(kernel_size, dilation)
        self.dilated = nn.Conv1d(channels, channels, kernel_size, dilation=dilation, padding=padding)
        self.pointwise = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """[B, L, T] with mask [B, 1, T] -> [B, L, T]."""
        return x + self.pointwise(F.gelu(self.dilated(F.gelu(self.norm(x)) * mask)))
