"""Scale, period and resolution discriminators (SPECIFICATION.md, section 5).

Sources: HiFi-GAN (Kong et al. 2020) for scale and periods, UnivNet (Jang et al. 2021) for resolutions.

Legend: B batch, C channels, N samples, S spectrogram bins, T spectrogram frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from rvc_lightning.models.config import DiscriminatorConfig
from rvc_lightning.models.layers import LEAKY_SLOPE


class DiscriminatorOutput(NamedTuple):
    """Output of one sub-discriminator for a batch of waveforms."""

    score: Tensor
    """Scores, trained towards 1 for real and 0 for generated, [B, positions]."""
    features: list[Tensor]
    """Feature maps after each activation, and the output of the last convolution."""


class SubDiscriminator(nn.Module):
    """Convolutions with leaky ReLUs; subclasses define the layers and the view of the waveform."""

    convs: nn.ModuleList
    conv_post: nn.Module

    def view(self, waveform: Tensor) -> Tensor:
        """Return the input of the first convolution for a waveform [B, 1, N]."""
        return waveform

    def forward(self, waveform: Tensor) -> DiscriminatorOutput:
        """Waveform [B, 1, N] -> score and feature maps."""
        x, features = self.view(waveform), []
        for conv in self.convs:
            x = F.leaky_relu(conv(x), LEAKY_SLOPE)
            features.append(x)
        x = self.conv_post(x)
        return DiscriminatorOutput(x.flatten(1), [*features, x])


class ScaleDiscriminator(SubDiscriminator):
    """Strided grouped convolutions over the raw waveform."""

    def __init__(self, channels: Sequence[int], groups: Sequence[int]) -> None:
        super().__init__()
        inputs = [1, *channels[:-1]]
        shapes = [(15, 1), (41, 4), (41, 4), (41, 4), (41, 4), (5, 1)]
        self.convs = nn.ModuleList(
            weight_norm(nn.Conv1d(before, after, kernel, stride, kernel // 2, groups=group))
            for before, after, group, (kernel, stride) in zip(inputs, channels, groups, shapes, strict=True)
        )
        self.conv_post = weight_norm(nn.Conv1d(channels[-1], 1, 3, padding=1))


class PeriodDiscriminator(SubDiscriminator):
    """Convolutions over the waveform folded to [B, 1, N / period, period].

    The kernels are one column wide, so that a kernel covers every `period`-th sample, and both orientations of the
    folded waveform give the same result. On a CPU, time along the rows is faster for short periods: it takes half the
    time for period 2, and gains nothing from about 17.
    """

    _MAX_TRANSPOSED = 11

    def __init__(self, period: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.period, self.transposed = period, period <= self._MAX_TRANSPOSED
        inputs = [1, *channels[:-1]]
        strides = [3] * (len(channels) - 1) + [1]
        self.convs = nn.ModuleList(
            weight_norm(nn.Conv2d(before, after, (5, 1), (stride, 1), (2, 0)))
            for before, after, stride in zip(inputs, channels, strides, strict=True)
        )
        self.conv_post = weight_norm(nn.Conv2d(channels[-1], 1, (3, 1), padding=(1, 0)))

    def view(self, waveform: Tensor) -> Tensor:
        """Fold and pad by reflection: [B, 1, N] -> [B, 1, ⌈N / period⌉, period]."""
        missing = -waveform.shape[-1] % self.period
        return F.pad(waveform, (0, missing), mode="reflect").unflatten(-1, (-1, self.period))

    def forward(self, waveform: Tensor) -> DiscriminatorOutput:
        """Waveform [B, 1, N] -> score and feature maps [B, C, N', period]."""
        if not self.transposed:
            return super().forward(waveform)
        x, features = self.view(waveform).mT, []
        for conv in (*self.convs, self.conv_post):
            x = F.conv2d(x, conv.weight.mT, conv.bias, conv.stride[::-1], conv.padding[::-1])
            x = x if conv is self.conv_post else F.leaky_relu(x, LEAKY_SLOPE)
            features.append(x.mT)
        return DiscriminatorOutput(features[-1].flatten(1), features)


class ResolutionDiscriminator(SubDiscriminator):
    """Convolutions over the magnitude of a short-time Fourier transform with a rectangular window."""

    window: Tensor

    def __init__(self, n_fft: int, hop_samples: int, window_samples: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.n_fft, self.hop_samples = n_fft, hop_samples
        self.register_buffer("window", torch.ones(window_samples), persistent=False)
        inputs = [1, *channels[:-1]]
        shapes = [((3, 9), 1), ((3, 9), 2), ((3, 9), 2), ((3, 9), 2), ((3, 3), 1)]
        self.convs = nn.ModuleList(
            weight_norm(nn.Conv2d(before, after, kernel, (1, stride), (kernel[0] // 2, kernel[1] // 2)))
            for before, after, (kernel, stride) in zip(inputs, channels, shapes, strict=True)
        )
        self.conv_post = weight_norm(nn.Conv2d(channels[-1], 1, 3, padding=1))

    def view(self, waveform: Tensor) -> Tensor:
        """Compute the magnitude spectrogram in float32: [B, 1, N] -> [B, 1, S, T]."""
        with torch.autocast(waveform.device.type, enabled=False):
            padding = (self.n_fft - self.hop_samples) // 2
            padded = F.pad(waveform.float(), (padding, padding), mode="reflect").squeeze(1)
            spectrum = torch.stft(
                padded,
                self.n_fft,
                self.hop_samples,
                win_length=len(self.window),
                window=self.window.float(),
                center=False,
                return_complex=True,
            )
            # The gradient of abs() is 0 for silence, where that of a square root would be infinite.
            return spectrum.abs().unsqueeze(1).to(waveform.dtype)


class Discriminator(nn.Module):
    """One scale discriminator, and one discriminator per period and per resolution."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        self.discriminators = nn.ModuleList(
            [
                ScaleDiscriminator(config.scale_channels, config.scale_groups),
                *(PeriodDiscriminator(period, config.period_channels) for period in config.periods),
                *(
                    ResolutionDiscriminator(n_fft, hop, window, config.resolution_channels)
                    for n_fft, hop, window in config.resolutions
                ),
            ]
        )

    def forward(self, waveform: Tensor) -> list[DiscriminatorOutput]:
        """Waveforms [B, 1, N] -> one output per sub-discriminator, scale first, then periods, then resolutions."""
        return [discriminator(waveform) for discriminator in self.discriminators]
