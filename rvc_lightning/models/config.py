"""Sizes of the networks. Whatever can be derived is a property; contradictions are refused at construction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from math import prod
from typing import Any

from rvc_lightning.audio.frames import FRAMES_PER_SECOND, hop_samples
from rvc_lightning.config.validation import check_types
from rvc_lightning.errors import ConfigurationError

COARSE_BINS = 256
"""Rows of the pitch embedding: 0 for padding, 1 unvoiced or lowest, 255 highest (`pitch.scale.coarse_pitch`)."""


def _tuples(value: Any) -> Any:
    """Lists, also nested ones, as tuples: a frozen dataclass with lists inside could still change."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value


def as_lists(value: Any) -> Any:
    """Nested tuples as nested lists, as files and command lines have them."""
    return [as_lists(item) for item in value] if isinstance(value, list | tuple) else value


class _Config:
    """What the frozen configurations share: tuples instead of lists, and a plain-dict form."""

    def __post_init__(self) -> None:
        for field in fields(self):  # type: ignore[arg-type]
            object.__setattr__(self, field.name, _tuples(getattr(self, field.name)))
        check_types(self)
        self.validate()

    def validate(self) -> None:
        """Raises ConfigurationError where fields contradict each other."""

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings and tuples, as a checkpoint keeps them (`weights_only` loading allows no more)."""
        return asdict(self)  # type: ignore[call-overload]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Any:
        """The configuration of `values`. Raises ConfigurationError for keys that are unknown or missing."""
        known = {field.name for field in fields(cls)}  # type: ignore[arg-type]
        if unknown := sorted(set(values) - known):
            raise ConfigurationError(f"{cls.__name__} has no field {', '.join(unknown)}; it has {sorted(known)}")
        try:
            return cls(**values)
        except TypeError as error:
            raise ConfigurationError(f"{cls.__name__}: {error}") from error


@dataclass(frozen=True)
class SynthesizerConfig(_Config):
    """Sizes of the synthesizer (specification sections 1.2, 3 and 4)."""

    sample_rate: int
    """Output rate in Hz; a multiple of 100."""
    n_fft: int
    """Length of the Fourier transform (and its window) of the posterior encoder's input, in samples."""
    upsample_rates: tuple[int, ...]
    """Rates of the generator's stages; their product is the hop."""
    upsample_kernel_sizes: tuple[int, ...]
    """Kernel of each upsampling stage, in its output samples."""
    content_dim: int = 768
    """Channels of the content features: 768 (v2) or 256 (v1)."""
    generator: str = "hifigan_nsf"
    """Registered name of the generator, see `models.generators`."""
    latent_channels: int = 192
    """Channels of the latent that the flow and the generator work on."""
    hidden_channels: int = 192
    """Channels inside the text encoder, the posterior encoder and the flow."""
    filter_channels: int = 768
    """Channels inside the feed-forward layers of the text encoder."""
    n_heads: int = 2
    """Attention heads of the text encoder."""
    n_layers: int = 6
    """Layers of the text encoder."""
    kernel_size: int = 3
    """Kernel of the text encoder's feed-forward layers, odd."""
    dropout: float = 0.0
    """Dropout of the text encoder. Published voices have none."""
    resblock_kernel_sizes: tuple[int, ...] = (3, 7, 11)
    """Kernels of the parallel residual blocks of one generator stage."""
    resblock_dilations: tuple[tuple[int, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    """Dilations of the rounds of each residual block."""
    posterior_layers: int = 16
    """Layers of the posterior encoder, which training needs and voices leave out."""
    initial_channels: int = 512
    """Channels before the first upsampling; every stage halves them."""
    speaker_count: int = 109
    """Rows of the speaker table."""
    speaker_channels: int = 256
    """Channels of the speaker code."""

    def validate(self) -> None:
        """Raises ConfigurationError where rates, kernels or channel counts contradict each other or the generator."""
        if self.sample_rate % FRAMES_PER_SECOND:
            raise ConfigurationError(f"sample_rate={self.sample_rate}: a frame is 10 ms, so it must divide by 100")
        if prod(self.upsample_rates) != self.hop_samples:
            raise ConfigurationError(
                f"upsample_rates={list(self.upsample_rates)} multiply to {prod(self.upsample_rates)}, but one frame at "
                f"{self.sample_rate} Hz has {self.hop_samples} samples; set sample_rate= and its tables together"
            )
        if len(self.upsample_rates) != len(self.upsample_kernel_sizes):
            raise ConfigurationError("upsample_rates and upsample_kernel_sizes differ in length")
        if len(self.resblock_kernel_sizes) != len(self.resblock_dilations):
            raise ConfigurationError("resblock_kernel_sizes and resblock_dilations differ in length")
        if self.hidden_channels % self.n_heads:
            raise ConfigurationError(
                f"hidden_channels={self.hidden_channels} does not divide by n_heads={self.n_heads}"
            )
        if self.latent_channels % 2:
            raise ConfigurationError(f"latent_channels={self.latent_channels} must be even: the flow halves them")
        # The generators' module imports this one.
        from rvc_lightning.models.generators import generator_class

        generator_class(self.generator).check(self)

    @property
    def hop_samples(self) -> int:
        """Samples of one 10 ms frame."""
        return hop_samples(self.sample_rate)

    @property
    def spec_channels(self) -> int:
        """Bins of the linear spectrogram."""
        return self.n_fft // 2 + 1


@dataclass(frozen=True)
class DiscriminatorConfig(_Config):
    """Sizes of the discriminator (specification section 5)."""

    periods: tuple[int, ...] = (2, 3, 5, 7, 11, 17, 23, 37)
    """One sub-discriminator looks at every p-th sample for each period p."""
    period_channels: tuple[int, ...] = (32, 128, 512, 1024, 1024)
    """Output channels of the convolutions of a period discriminator; the last one has stride 1."""
    scale_channels: tuple[int, ...] = (16, 64, 256, 1024, 1024, 1024)
    """Output channels of the convolutions of the scale discriminator."""
    scale_groups: tuple[int, ...] = (1, 4, 16, 64, 256, 1)
    """Groups of the convolutions of the scale discriminator."""
    resolutions: tuple[tuple[int, int, int], ...] = ()
    """One sub-discriminator looks at the spectrum for each (n_fft, hop, window length), in samples."""
    resolution_channels: tuple[int, ...] = (32, 32, 32, 32, 32)
    """Output channels of the convolutions of a resolution discriminator."""

    def validate(self) -> None:
        """Raises ConfigurationError where tables do not fit the convolutions, or a resolution makes no spectrum."""
        if not len(self.scale_channels) == len(self.scale_groups) == 6:
            raise ConfigurationError("scale_channels and scale_groups need six entries each")
        if any(channels % groups for channels, groups in zip(self.scale_channels, self.scale_groups, strict=True)):
            raise ConfigurationError("each of scale_channels must divide by its entry of scale_groups")
        if len(self.resolution_channels) != 5:
            raise ConfigurationError("resolution_channels needs five entries")
        for resolution in self.resolutions:
            if len(resolution) != 3 or not 0 < resolution[1] <= resolution[0] >= resolution[2] > 0:
                raise ConfigurationError(
                    f"resolutions: {list(resolution)} is no (n_fft, hop, window length); hop and window must be within "
                    "1 to n_fft samples"
                )

    @property
    def fewest_samples(self) -> int:
        """Samples that a waveform needs for its ends to be reflected at every resolution."""
        return max((1, *((n_fft - hop) // 2 + 1 for n_fft, hop, _ in self.resolutions)))
