"""Interface of the generators.

Legend: B batch, L latent channels, T frames, G speaker channels, N = T·hop samples.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn

from rvc_lightning.models.config import SynthesizerConfig


class Generator(nn.Module, ABC):
    """Network from latent and pitch to waveform."""

    pitch_guided: ClassVar[bool] = True
    """Whether the generator, and with it the text encoder, takes pitch as input."""

    @classmethod
    def mismatch(cls, config: SynthesizerConfig) -> str | None:
        """Return why this generator does not support the sizes of `config`; None if it does."""
        return None

    @abstractmethod
    def __init__(self, config: SynthesizerConfig) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, latent: Tensor, f0_hz: Tensor | None, speaker_code: Tensor) -> Tensor:
        """Latent [B, L, T], f0_hz [B, T] (0 = unvoiced), speaker_code [B, G, 1] -> waveform [B, 1, N] in -1..1."""
