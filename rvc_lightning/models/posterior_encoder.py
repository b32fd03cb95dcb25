"""Posterior encoder: linear spectrogram -> latent, for training only (SPECIFICATION.md, section 4.3).

Legend: B batch, T frames, S spectrogram bins, L latent channels, G speaker channels.
"""

from __future__ import annotations

from torch import Tensor, nn

from rvc_lightning.audio.frames import frame_mask
from rvc_lightning.models.config import SynthesizerConfig
from rvc_lightning.models.layers import WaveNet
from rvc_lightning.models.text_encoder import Gaussian


class PosteriorEncoder(nn.Module):
    """Encoder of a recording into its latent, as in VITS (Kim et al. 2021, section 2.2)."""

    def __init__(self, config: SynthesizerConfig) -> None:
        super().__init__()
        hidden = config.hidden_channels
        self.pre = nn.Conv1d(config.spec_channels, hidden, 1)
        self.wavenet = WaveNet(hidden, 5, config.posterior_layers, config.speaker_channels)
        self.projection = nn.Conv1d(hidden, 2 * config.latent_channels, 1)

    def forward(self, spec: Tensor, lengths: Tensor, speaker_code: Tensor) -> Gaussian:
        """Spec [B, S, T], lengths [B], speaker_code [B, G, 1] -> posterior of the latent."""
        mask = frame_mask(lengths, spec.shape[-1]).unsqueeze(1)
        x = self.wavenet(self.pre(spec) * mask, mask, speaker_code)
        mean, log_std = (self.projection(x) * mask).chunk(2, dim=1)
        return Gaussian(mean, log_std, mask)
