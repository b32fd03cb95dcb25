"""Applio's "MRF HiFi-GAN" (SPECIFICATION.md, section 4.8): nine harmonics, weight norm on first and last layer."""

from __future__ import annotations

from typing import ClassVar

from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from rvc_lightning.models.config import SynthesizerConfig
from rvc_lightning.models.generators.hifigan import HiFiGANNSF


class MRFHiFiGAN(HiFiGANNSF):
    """`HiFiGANNSF` with a richer source; no pretrained weights are published."""

    n_harmonics: ClassVar[int] = 9

    def __init__(self, config: SynthesizerConfig) -> None:
        super().__init__(config)
        self.conv_pre = weight_norm(self.conv_pre)
        self.conv_post = weight_norm(nn.Conv1d(self.conv_post.in_channels, 1, 7, padding=3))
