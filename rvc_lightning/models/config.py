"""Sizes of the networks. Derived quantities are properties; contradictory fields raise an error at construction.

List fields may be given as tuples; they are stored as lists.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

from rvc_lightning.audio.frames import FRAMES_PER_SECOND, hop_samples
from rvc_lightning.config.options import Settings, option
from rvc_lightning.errors import ConfigurationError

COARSE_BINS = 256
"""Rows of the pitch embedding: 0 for padding, 1 for unvoiced or lowest, 255 for highest pitch."""


def _as_lists(value: Any) -> Any:
    """Return `value` with tuples replaced by lists at every level."""
    return [_as_lists(item) for item in value] if isinstance(value, list | tuple) else value


@dataclass(frozen=True)
class _Sizes(Settings):
    """Settings that store sequences as lists, so that equal sizes compare equal, and check rules between fields."""

    def __post_init__(self) -> None:
        for name, value in vars(self).copy().items():
            object.__setattr__(self, name, _as_lists(value))
        super().__post_init__()
        if problem := next(self._contradictions(), None):
            raise ConfigurationError(problem)

    def _contradictions(self) -> Iterator[str]:
        """Return a message for each contradiction between fields; none by default."""
        return iter(())

    def _invalid_lists(self, *names: str) -> Iterator[str]:
        """Return a message for each of these lists that is empty or contains a number below 1."""
        for name in names:
            numbers = getattr(self, name)
            if not numbers or min(numbers) < 1:
                yield f"{name}={numbers}: choose at least one number, each from 1 up"


@dataclass(frozen=True, kw_only=True)
class SynthesizerConfig(_Sizes, group="model.synthesizer"):
    """Sizes of the synthesizer (SPECIFICATION.md, sections 1.2, 3 and 4)."""

    sample_rate: int = option(
        help="Output sample rate, a multiple of 100.", unit="Hz", min=FRAMES_PER_SECOND, max=192_000
    )
    n_fft: int = option(help="FFT size (and window) of the spectrogram for the posterior encoder.", min=2)
    upsample_rates: list[int] = option(help="Upsampling factor of each generator stage; their product is the hop.")
    upsample_kernel_sizes: list[int] = option(help="Kernel size of each upsampling stage, in its output samples.")
    content_dim: int = option(768, "Channels of the content features: 768 (v2) or 256 (v1).", min=1)
    generator: str = option("hifigan_nsf", "Registered name of the generator, see `models.generators`.")
    variational: bool = option(
        True,
        "Whether text encoder and flow predict a random latent, as in VITS; false replaces them by a content decoder, "
        "for generator=source_filter only.",
    )
    latent_channels: int = option(192, "Channels of the latent that the flow and the generator process.", min=2)
    hidden_channels: int = option(192, "Channels inside the text encoder, the posterior encoder and the flow.", min=1)
    filter_channels: int = option(768, "Channels inside the feed-forward layers of the text encoder.", min=1)
    n_heads: int = option(2, "Attention heads of the text encoder.", min=1)
    n_layers: int = option(6, "Layers of the text encoder.", min=1)
    kernel_size: int = option(3, "Kernel size of the text encoder's feed-forward layers, odd.", min=1)
    dropout: float = option(0.0, "Dropout of the text encoder; 0 in published voices.", min=0, max=1)
    resblock_kernel_sizes: list[int] = option([3, 7, 11], "Kernels of the parallel residual blocks of a stage.")
    resblock_dilations: list[list[int]] = option(
        [[1, 3, 5], [1, 3, 5], [1, 3, 5]], "Dilations of the rounds of each residual block."
    )
    posterior_layers: int = option(16, "Layers of the posterior encoder, which exists in training only.", min=1)
    initial_channels: int = option(512, "Channels before the first upsampling stage; each stage halves them.", min=1)
    speaker_count: int = option(109, "Rows of the speaker embedding.", min=1)
    speaker_channels: int = option(256, "Channels of the speaker embedding.", min=1)

    def _contradictions(self) -> Iterator[str]:
        if self.sample_rate % FRAMES_PER_SECOND:
            yield f"sample_rate={self.sample_rate}: choose a multiple of {FRAMES_PER_SECOND}, since a frame is 10 ms"
        yield from self._invalid_lists("upsample_rates", "upsample_kernel_sizes", "resblock_kernel_sizes")
        if not all(dilations and min(dilations) >= 1 for dilations in self.resblock_dilations):
            yield f"resblock_dilations={self.resblock_dilations}: choose lists of numbers from 1 up"
        if prod(self.upsample_rates) != self.hop_samples:
            yield (
                f"upsample_rates={self.upsample_rates} multiply to {prod(self.upsample_rates)}, but one frame at "
                f"{self.sample_rate} Hz has {self.hop_samples} samples; set sample_rate= and its tables together"
            )
        if len(self.upsample_rates) != len(self.upsample_kernel_sizes):
            yield (
                f"upsample_rates={self.upsample_rates} and upsample_kernel_sizes={self.upsample_kernel_sizes}: give "
                "both the same number of entries"
            )
        if len(self.resblock_kernel_sizes) != len(self.resblock_dilations):
            yield (
                f"resblock_kernel_sizes={self.resblock_kernel_sizes} and resblock_dilations={self.resblock_dilations}: "
                "give both the same number of entries"
            )
        if self.hidden_channels % self.n_heads:
            yield f"hidden_channels={self.hidden_channels} is not a multiple of n_heads={self.n_heads}"
        if any(kernel % 2 == 0 for kernel in (self.kernel_size, *self.resblock_kernel_sizes)):
            yield (
                f"kernel_size={self.kernel_size} resblock_kernel_sizes={self.resblock_kernel_sizes}: choose odd "
                "numbers, with which convolutions keep the length"
            )
        if not self.variational and self.generator != "source_filter":
            yield f"variational=false: only generator=source_filter supports it, not {self.generator}"
        if self.latent_channels % 2:
            yield f"latent_channels={self.latent_channels}: choose an even number, since the flow halves them"

    @property
    def hop_samples(self) -> int:
        """Samples of one 10 ms frame."""
        return hop_samples(self.sample_rate)

    @property
    def spec_channels(self) -> int:
        """Bins of the linear spectrogram."""
        return self.n_fft // 2 + 1


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig(_Sizes, group="model.discriminator"):
    """Sizes of the discriminator (SPECIFICATION.md, section 5)."""

    periods: list[int] = option([2, 3, 5, 7, 11, 17, 23, 37], "Period of each period discriminator, in samples.")
    period_channels: list[int] = option(
        [32, 128, 512, 1024, 1024], "Output channels of a period discriminator's convolutions; the last has stride 1."
    )
    scale_channels: list[int] = option(
        [16, 64, 256, 1024, 1024, 1024], "Output channels of the scale discriminator's convolutions."
    )
    scale_groups: list[int] = option([1, 4, 16, 64, 256, 1], "Groups of the scale discriminator's convolutions.")
    resolutions: list[list[int]] = option(
        [], "(n_fft, hop, window length) of each resolution discriminator, in samples."
    )
    resolution_channels: list[int] = option(
        [32, 32, 32, 32, 32], "Output channels of a resolution discriminator's convolutions."
    )

    def _contradictions(self) -> Iterator[str]:
        yield from self._invalid_lists("period_channels", "scale_channels", "scale_groups", "resolution_channels")
        if any(period < 1 for period in self.periods):
            yield f"periods={self.periods}: choose numbers from 1 up"
        scale = f"scale_channels={self.scale_channels} and scale_groups={self.scale_groups}"
        if not len(self.scale_channels) == len(self.scale_groups) == 6:
            yield f"{scale}: give both six entries"
        if any(channels % groups for channels, groups in zip(self.scale_channels, self.scale_groups, strict=True)):
            yield f"{scale}: choose channels that are multiples of their groups"
        if len(self.resolution_channels) != 5:
            yield f"resolution_channels={self.resolution_channels}: give it five entries"
        for resolution in self.resolutions:
            if len(resolution) != 3 or not 0 < resolution[1] <= resolution[0] >= resolution[2] > 0:
                yield (
                    f"resolutions: {resolution} is not a triple (n_fft, hop, window length) with hop and window length "
                    "from 1 to n_fft"
                )

    @property
    def min_samples(self) -> int:
        """Shortest waveform that can be padded by reflection at every resolution."""
        return max((1, *((n_fft - hop) // 2 + 1 for n_fft, hop, _ in self.resolutions)))
