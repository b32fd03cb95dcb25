"""HiFi-GAN (Kong et al. 2020) and its source-filter form (specification 4.6 and 4.7).

Legend: B batch, L latent channels, T frames, G speaker channels, N = T·hop samples, C channels of a stage.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import prod
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from rvc_lightning.errors import ConfigurationError
from rvc_lightning.models.config import SynthesizerConfig
from rvc_lightning.models.generators.base import Generator
from rvc_lightning.models.layers import LEAKY_SLOPE, same_padding
from rvc_lightning.models.source import HarmonicSource

LAST_SLOPE = 0.01
"""Slope of the leaky ReLU before the last convolution."""


class ResidualBlock(nn.Module):
    """Rounds of a dilated and a plain convolution, each round added to its input."""

    def __init__(self, channels: int, kernel_size: int, dilations: Sequence[int], slope: float = LEAKY_SLOPE) -> None:
        super().__init__()
        self.slope = slope
        self.convs1 = nn.ModuleList(self._conv(channels, kernel_size, dilation) for dilation in dilations)
        self.convs2 = nn.ModuleList(self._conv(channels, kernel_size, 1) for _ in dilations)

    @staticmethod
    def _conv(channels: int, kernel_size: int, dilation: int) -> nn.Module:
        padding = same_padding(kernel_size, dilation)
        return weight_norm(nn.Conv1d(channels, channels, kernel_size, dilation=dilation, padding=padding))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, N] -> [B, C, N]."""
        for dilated, plain in zip(self.convs1, self.convs2, strict=True):
            y = dilated(F.leaky_relu(x, self.slope))
            x = x + plain(F.leaky_relu(y, self.slope))
        return x


def residual_blocks(channels: int, config: SynthesizerConfig, slope: float = LEAKY_SLOPE) -> Iterator[ResidualBlock]:
    """The blocks of one stage, one for each kernel size."""
    for kernel_size, dilations in zip(config.resblock_kernel_sizes, config.resblock_dilations, strict=True):
        yield ResidualBlock(channels, kernel_size, dilations, slope)


class ParallelBlocks(nn.ModuleList):
    """Blocks side by side; gives the mean of their outputs."""

    def __init__(self, blocks: Iterable[nn.Module]) -> None:
        super().__init__(blocks)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, N] -> [B, C, N]."""
        total = self[0](x)
        for index in range(1, len(self)):
            total = total + self[index](x)
        return total / len(self)


class Upsampler(nn.ConvTranspose1d):
    """Transposed convolution that makes exactly `rate` samples of one.

    Odd rates follow the peers' padding rule, which keeps the length for a kernel of twice the rate.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, rate: int) -> None:
        odd = rate % 2
        padding = rate // 2 + 1 if odd else (kernel_size - rate) // 2
        super().__init__(in_channels, out_channels, kernel_size, rate, padding, output_padding=odd)
        # Each output sample is a sum over kernel_size / rate inputs of every channel. torch's default counts the
        # whole kernel and loses a factor of 3 to 4 a stage, which training from nothing has to make up for.
        nn.init.normal_(self.weight, std=(in_channels * kernel_size / rate) ** -0.5)

    @staticmethod
    def fits(rate: int, kernel_size: int) -> bool:
        """Whether the kernel makes exactly `rate` samples of one."""
        return kernel_size == 2 * rate if rate % 2 else kernel_size >= rate and kernel_size % 2 == 0


def source_convolution(channels: int, rates_after: Sequence[int]) -> nn.Conv1d:
    """Brings the source from sample rate down to a stage that is upsampled by `rates_after` afterwards.

    samples   |----|----|----|----|      stride S = product of the rates after the stage
    kernel  |---------|                  2S samples, centred on the stage's sample
    """
    stride = prod(rates_after)
    if stride == 1:
        return nn.Conv1d(1, channels, 1)
    kernel_size = 2 * stride - stride % 2
    return nn.Conv1d(1, channels, kernel_size, stride, padding=(kernel_size - stride) // 2)


class HiFiGAN(Generator):
    """The generator without pitch."""

    pitch_guided: ClassVar[bool] = False

    @classmethod
    def check(cls, config: SynthesizerConfig) -> None:
        """Raises ConfigurationError where channels cannot be halved, or kernels do not fit their rates."""
        if config.initial_channels % 2 ** len(config.upsample_rates):
            raise ConfigurationError(
                f"initial_channels={config.initial_channels} cannot be halved {len(config.upsample_rates)} times"
            )
        for rate, kernel_size in zip(config.upsample_rates, config.upsample_kernel_sizes, strict=True):
            if not Upsampler.fits(rate, kernel_size):
                raise ConfigurationError(
                    f"upsample_kernel_sizes: {kernel_size} does not fit rate {rate}; twice the rate always does"
                )

    def __init__(self, config: SynthesizerConfig) -> None:
        super().__init__(config)
        self.conv_pre = nn.Conv1d(config.latent_channels, config.initial_channels, 7, padding=3)
        self.cond = nn.Conv1d(config.speaker_channels, config.initial_channels, 1)
        self.upsamplers = nn.ModuleList()
        self.blocks = nn.ModuleList()
        channels = config.initial_channels
        for rate, kernel_size in zip(config.upsample_rates, config.upsample_kernel_sizes, strict=True):
            self.upsamplers.append(weight_norm(Upsampler(channels, channels // 2, kernel_size, rate)))
            channels //= 2
            self.blocks.append(ParallelBlocks(residual_blocks(channels, config)))
        self.conv_post = nn.Conv1d(channels, 1, 7, padding=3, bias=False)
        self.source_convs = nn.ModuleList()

    def forward(self, latent: Tensor, f0_hz: Tensor | None, speaker_code: Tensor) -> Tensor:
        """Latent [B, L, T], speaker_code [B, G, 1] -> waveform [B, 1, N]; `f0_hz` is not used."""
        return self._decode(latent, speaker_code)

    def _decode(self, latent: Tensor, speaker_code: Tensor, source: Tensor | None = None) -> Tensor:
        x = self.conv_pre(latent) + self.cond(speaker_code)
        for stage, (upsample, blocks) in enumerate(zip(self.upsamplers, self.blocks, strict=True)):
            x = upsample(F.leaky_relu(x, LEAKY_SLOPE))
            if source is not None:
                x = x + self.source_convs[stage](source)
            x = blocks(x)
        return torch.tanh(self.conv_post(F.leaky_relu(x, LAST_SLOPE)))


class HiFiGANNSF(HiFiGAN):
    """HiFi-GAN with a harmonic source added at every stage: the generator of most published voices."""

    pitch_guided: ClassVar[bool] = True
    n_harmonics: ClassVar[int] = 1

    def __init__(self, config: SynthesizerConfig) -> None:
        super().__init__(config)
        self.source = HarmonicSource(config.sample_rate, config.hop_samples, self.n_harmonics)
        self.source_convs = nn.ModuleList(
            source_convolution(config.initial_channels // 2 ** (stage + 1), config.upsample_rates[stage + 1 :])
            for stage in range(len(config.upsample_rates))
        )

    def forward(self, latent: Tensor, f0_hz: Tensor | None, speaker_code: Tensor) -> Tensor:
        """Latent [B, L, T], f0_hz [B, T] (0 = unvoiced), speaker_code [B, G, 1] -> waveform [B, 1, N]."""
        return self._decode(latent, speaker_code, self.source(f0_hz))
