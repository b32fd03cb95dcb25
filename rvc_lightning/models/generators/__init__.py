"""Generators: latent and pitch -> waveform. To add one, write a file in this folder and add a line to `GENERATORS`."""

from __future__ import annotations

from rvc_lightning.errors import ConfigurationError, unknown_choice
from rvc_lightning.models.config import SynthesizerConfig
from rvc_lightning.models.generators.base import Generator
from rvc_lightning.models.generators.hifigan import HiFiGAN, HiFiGANNSF
from rvc_lightning.models.generators.mrf_hifigan import MRFHiFiGAN
from rvc_lightning.models.generators.refinegan import RefineGAN
from rvc_lightning.models.generators.source_filter import SourceFilter

GENERATORS: dict[str, type[Generator]] = {
    "hifigan_nsf": HiFiGANNSF,
    "hifigan": HiFiGAN,
    "mrf_hifigan": MRFHiFiGAN,
    "refinegan": RefineGAN,
    "source_filter": SourceFilter,
}


def generator_class(name: str) -> type[Generator]:
    """Return the generator registered as `name`. Raises ConfigurationError, listing the choices, if it is unknown."""
    if name not in GENERATORS:
        raise unknown_choice("generator", name, GENERATORS)
    return GENERATORS[name]


def check_generator(config: SynthesizerConfig) -> None:
    """Raise ConfigurationError if `config.generator` is unknown or does not support the other sizes."""
    if mismatch := generator_class(config.generator).mismatch(config):
        raise ConfigurationError(mismatch)


def build_generator(config: SynthesizerConfig) -> Generator:
    """Build the generator named by `config.generator`, with random weights.

    Raises:
        ConfigurationError: The name is unknown, or the generator does not support these sizes.
    """
    check_generator(config)
    return generator_class(config.generator)(config)
