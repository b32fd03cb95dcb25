"""RefineGAN in Applio's variant (SPECIFICATION.md, section 4.9; Xu et al. 2021): a pitch waveform refined into speech.

    source ──▶ ┬ ──▶ ┬ ──▶ … ──▶ ┬ ──▶ at frame rate ─┐      down: low-pass, every r-th sample, convolution
               ▼     ▼           ▼                    ├◀── latent, speaker
    speech ◀── ● ◀── ● ◀── … ◀── ● ◀──────────────────┘      up: linear interpolation, convolutions

Legend: B batch, L latent channels, T frames, G speaker channels, N = T·hop samples, C channels of a stage.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from rvc_lightning.models.config import SynthesizerConfig
from rvc_lightning.models.generators.base import Generator
from rvc_lightning.models.generators.hifigan import ParallelBlocks, ResidualBlock, residual_blocks
from rvc_lightning.models.noise import randn_like
from rvc_lightning.models.resample import Decimator
from rvc_lightning.models.source import HarmonicSource

SLOPE = 0.2
"""Slope of the leaky ReLUs."""
NOISE_GAIN = 1e-4
"""Initial noise gain of each channel."""


class NoisyActivation(nn.Module):
    """Leaky ReLU of the input plus noise with a learned gain per channel, in training and in conversion."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.full((channels,), NOISE_GAIN))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, N] -> [B, C, N]."""
        return F.leaky_relu(x + randn_like(x) * self.gain.unsqueeze(-1), SLOPE)


class Refinement(nn.Module):
    """Upsampling stage: halves the channels, raises the rate and merges the source at that rate."""

    def __init__(self, channels: int, rate: int, config: SynthesizerConfig) -> None:
        super().__init__()
        self.rate, half = rate, channels // 2
        self.input_conv = nn.Conv1d(channels + channels // 4, half, 7, padding=3)
        # torch's default attenuates by a factor of 2 or more per stage; preserving the level (He et al. 2015) speeds up
        # training from scratch.
        nn.init.kaiming_normal_(self.input_conv.weight, a=SLOPE)
        self.blocks = ParallelBlocks(self._with_noise(half, block) for block in residual_blocks(half, config, SLOPE))

    @staticmethod
    def _with_noise(channels: int, block: ResidualBlock) -> nn.Module:
        return nn.Sequential(NoisyActivation(channels), block, NoisyActivation(channels))

    def forward(self, x: Tensor, source: Tensor) -> Tensor:
        """[B, C, N / rate], source [B, C / 4, N] -> [B, C / 2, N]."""
        x = F.interpolate(F.leaky_relu(x, SLOPE), scale_factor=float(self.rate), mode="linear")
        return self.blocks(self.input_conv(torch.cat([x, source], dim=1)))


class RefineGAN(Generator):
    """Downsamples the source to frame rate, concatenates it with the latent and refines both up to sample rate.

    At frame rate source and latent have `initial_channels` / 2 channels each; every stage towards sample rate halves
    the channels of the source (16 for 512 channels and four rates). `upsample_kernel_sizes` is unused.
    """

    @classmethod
    def mismatch(cls, config: SynthesizerConfig) -> str | None:
        """Return a message if the channels of the source cannot be halved at each stage."""
        n_rates = len(config.upsample_rates)
        if config.initial_channels % 2 ** (n_rates + 1) == 0:
            return None
        return (
            f"initial_channels={config.initial_channels}: generator=refinegan halves them {n_rates + 1} times for "
            f"{n_rates} upsample_rates; choose a multiple of {2 ** (n_rates + 1)}"
        )

    def __init__(self, config: SynthesizerConfig) -> None:
        super().__init__(config)
        rates, joined = config.upsample_rates, config.initial_channels // 2
        widths = [joined // 2**steps for steps in range(len(rates), -1, -1)]
        self.source = HarmonicSource(config.sample_rate, config.hop_samples, interpolation="linear", bias=False)
        self.source_conv = weight_norm(nn.Conv1d(1, widths[0], 7, padding=3))
        self.decimators = nn.ModuleList(Decimator(rate) for rate in reversed(rates))
        self.source_convs = nn.ModuleList(
            weight_norm(nn.Conv1d(before, after, 7, padding=3)) for before, after in pairwise(widths)
        )
        self.latent_conv = weight_norm(nn.Conv1d(config.latent_channels, joined, 7, padding=3))
        self.cond = nn.Conv1d(config.speaker_channels, joined, 1)
        self.refinements = nn.ModuleList(
            Refinement(config.initial_channels // 2**stage, rate, config) for stage, rate in enumerate(rates)
        )
        self.conv_post = weight_norm(nn.Conv1d(config.initial_channels // 2 ** len(rates), 1, 7, padding=3, bias=False))

    def forward(self, latent: Tensor, f0_hz: Tensor | None, speaker_code: Tensor) -> Tensor:
        """Latent [B, L, T], f0_hz [B, T] (0 = unvoiced), speaker_code [B, G, 1] -> waveform [B, 1, N]."""
        assert f0_hz is not None
        source = self.source_conv(self.source(f0_hz))
        skips = []
        for decimate, conv in zip(self.decimators, self.source_convs, strict=True):
            source = F.leaky_relu(source, SLOPE)
            skips.append(source)
            source = conv(decimate(source))
        x = torch.cat([self.latent_conv(latent) + self.cond(speaker_code), source], dim=1)
        for refine, source in zip(self.refinements, reversed(skips), strict=True):
            x = refine(x, source)
        return torch.tanh(self.conv_post(F.leaky_relu(x, SLOPE)))
