"""Generators: latent and pitch -> waveform. A new one is a file here and a line in `GENERATORS`."""

from __future__ import annotations

from rvc_lightning.errors import unknown_choice
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
    """The generator registered as `name`. Raises ConfigurationError with the choices for an unknown name."""
    if name not in GENERATORS:
        raise unknown_choice("generator", name, GENERATORS)
    return GENERATORS[name]


def build_generator(config: SynthesizerConfig) -> Generator:
    """The generator that `config.generator` names, with random weights."""
    return generator_class(config.generator)(config)
