"""HiFi-GAN (Kong et al. 2020), with and without a harmonic source (SPECIFICATION.md, sections 4.6 and 4.7).

Legend: B batch, L latent channels, T frames, G speaker channels, N = T·hop samples, C channels of a stage.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import ceil, prod
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from rvc_lightning.models.config import SynthesizerConfig
from rvc_lightning.models.generators.base import Generator
from rvc_lightning.models.layers import LEAKY_SLOPE, apply_conv1d, channels_last, same_padding
from rvc_lightning.models.source import HarmonicSource

BLOCK_FRAMES = 400
"""Length of a block on a CPU: malloc reuses the memory of feature maps up to this size."""
LAST_SLOPE = 0.01
"""Slope of the leaky ReLU before the last convolution."""


class ResidualBlock(nn.Module):
    """Residual layers of a dilated and an undilated convolution."""

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
        """[B, C, N] -> [B, C, N], or [B, C, 1, N] as in `apply_conv1d`."""
        for dilated, plain in zip(self.convs1, self.convs2, strict=True):
            y = apply_conv1d(dilated, F.leaky_relu(x, self.slope))
            x = x + apply_conv1d(plain, F.leaky_relu(y, self.slope))
        return x


def residual_blocks(channels: int, config: SynthesizerConfig, slope: float = LEAKY_SLOPE) -> Iterator[ResidualBlock]:
    """Yield the residual blocks of one stage, one per kernel size."""
    for kernel_size, dilations in zip(config.resblock_kernel_sizes, config.resblock_dilations, strict=True):
        yield ResidualBlock(channels, kernel_size, dilations, slope)


class ParallelBlocks(nn.ModuleList):
    """Parallel blocks whose outputs are averaged."""

    def __init__(self, blocks: Iterable[nn.Module]) -> None:
        super().__init__(blocks)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, N] -> [B, C, N]."""
        total = self[0](x)
        for index in range(1, len(self)):
            total = total + self[index](x)
        return total / len(self)


class Upsampler(nn.ConvTranspose1d):
    """Transposed convolution whose output has exactly `rate` samples per input sample.

    Odd rates use the padding of other RVC tools, which preserves the length for a kernel of twice the rate.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, rate: int) -> None:
        odd = rate % 2
        padding = rate // 2 + 1 if odd else (kernel_size - rate) // 2
        super().__init__(in_channels, out_channels, kernel_size, rate, padding, output_padding=odd)
        # Each output sample sums kernel_size / rate inputs per channel. torch's default assumes the whole kernel and
        # attenuates by a factor of 3 to 4 per stage, which slows down training from scratch.
        nn.init.normal_(self.weight, std=(in_channels * kernel_size / rate) ** -0.5)

    @staticmethod
    def fits(rate: int, kernel_size: int) -> bool:
        """Return whether the output has exactly `rate` samples per input sample."""
        return kernel_size == 2 * rate if rate % 2 else kernel_size >= rate and kernel_size % 2 == 0


def source_convolution(channels: int, rates_after: Sequence[int]) -> nn.Conv1d:
    """Build the convolution from the source at sample rate to a stage that is upsampled by `rates_after` afterwards.

    samples   |----|----|----|----|      stride S = product of the rates after the stage
    kernel  |---------|                  2S samples, centered on the stage's sample
    """
    stride = prod(rates_after)
    if stride == 1:
        return nn.Conv1d(1, channels, 1)
    kernel_size = 2 * stride - stride % 2
    return nn.Conv1d(1, channels, kernel_size, stride, padding=(kernel_size - stride) // 2)


def receptive_frames(config: SynthesizerConfig) -> int:
    """Return the receptive field of a HiFi-GAN output sample, in frames on each side, rounded up."""
    blocks = max(
        (kernel_size - 1) // 2 * (sum(dilations) + len(dilations))
        for kernel_size, dilations in zip(config.resblock_kernel_sizes, config.resblock_dilations, strict=True)
    )
    # Of the first and the last convolution (3 each side) and of the source convolution.
    reach, samples_per_frame = 3.0 + 1.0, 1
    for rate, kernel_size in zip(config.upsample_rates, config.upsample_kernel_sizes, strict=True):
        reach += kernel_size / rate / samples_per_frame
        samples_per_frame *= rate
        reach += (blocks + 1) / samples_per_frame
    return ceil(reach)


class HiFiGAN(Generator):
    """HiFi-GAN without pitch."""

    pitch_guided: ClassVar[bool] = False

    @classmethod
    def mismatch(cls, config: SynthesizerConfig) -> str | None:
        """Return a message if channels cannot be halved at each stage, or kernels do not match their rates."""
        if config.initial_channels % 2 ** len(config.upsample_rates):
            return f"initial_channels={config.initial_channels} cannot be halved {len(config.upsample_rates)} times"
        for rate, kernel_size in zip(config.upsample_rates, config.upsample_kernel_sizes, strict=True):
            if not Upsampler.fits(rate, kernel_size):
                return f"upsample_kernel_sizes: {kernel_size} does not fit rate {rate}; choose twice the rate"
        return None

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
        self.hop_samples, self.receptive_frames = config.hop_samples, receptive_frames(config)
        self.block_frames: int | None = BLOCK_FRAMES
        """Frames per block on a CPU; None disables division into blocks."""

    def forward(self, latent: Tensor, f0_hz: Tensor | None, speaker_code: Tensor) -> Tensor:
        """Latent [B, L, T], speaker_code [B, G, 1] -> waveform [B, 1, N]; `f0_hz` is not used."""
        return self._decode(latent, speaker_code)

    def _decode(self, latent: Tensor, speaker_code: Tensor, source: Tensor | None = None) -> Tensor:
        is_compiling = torch.compiler.is_compiling()
        if self.block_frames is None or latent.device.type != "cpu" or torch.is_grad_enabled() or is_compiling:
            return self._generate(latent, speaker_code, source)
        # On a CPU, single items are as fast as a batch and take less memory.
        sources = [None] * len(latent) if source is None else source.split(1)
        items = zip(latent.split(1), speaker_code.split(1), sources, strict=True)
        return torch.cat([self._in_blocks(*item, self.block_frames) for item in items])

    def _in_blocks(self, latent: Tensor, speaker_code: Tensor, source: Tensor | None, block_frames: int) -> Tensor:
        """Generate in blocks of a few seconds, whose feature maps fit into the caches of a CPU.

        block             |<- context ->|<--- output --->|<- context ->|
        """
        pieces, frames = [], latent.shape[2]
        for start in range(0, frames, block_frames):
            end = min(start + block_frames, frames)
            first, last = max(start - self.receptive_frames, 0), min(end + self.receptive_frames, frames)
            hop = self.hop_samples
            source_window = None if source is None else channels_last(source[:, :, first * hop : last * hop])
            piece = self._generate(channels_last(latent[:, :, first:last]), speaker_code.unsqueeze(2), source_window)
            pieces.append(piece.squeeze(2)[:, :, (start - first) * hop : (end - first) * hop])
        return torch.cat(pieces, dim=2)

    def _generate(self, latent: Tensor, speaker_code: Tensor, source: Tensor | None) -> Tensor:
        x = apply_conv1d(self.conv_pre, latent) + apply_conv1d(self.cond, speaker_code)
        for stage, (upsample, blocks) in enumerate(zip(self.upsamplers, self.blocks, strict=True)):
            x = apply_conv1d(upsample, F.leaky_relu(x, LEAKY_SLOPE))
            if source is not None:
                x = x + apply_conv1d(self.source_convs[stage], source)
            x = blocks(x)
        return torch.tanh(apply_conv1d(self.conv_post, F.leaky_relu(x, LAST_SLOPE)))


class HiFiGANNSF(HiFiGAN):
    """HiFi-GAN with a harmonic source added at each stage, the generator of most published voices."""

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
        assert f0_hz is not None
        return self._decode(latent, speaker_code, self.source(f0_hz))
