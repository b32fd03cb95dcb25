"""Networks of RVC in plain PyTorch, independent of Lightning, Hydra, files and devices."""

from rvc_lightning.models.config import DiscriminatorConfig, SynthesizerConfig
from rvc_lightning.models.discriminators import Discriminator
from rvc_lightning.models.synthesizer import Synthesizer, SynthesizerOutput

__all__ = ["Discriminator", "DiscriminatorConfig", "Synthesizer", "SynthesizerConfig", "SynthesizerOutput"]
