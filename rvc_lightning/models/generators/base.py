"""What every generator promises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn

from rvc_lightning.models.config import SynthesizerConfig


class Generator(nn.Module, ABC):
    """Latent -> waveform. Legend: B batch, L latent channels, T frames, G speaker channels, N = T·hop samples."""

    pitch_guided: ClassVar[bool] = True
    """Whether the generator (and so the text encoder before it) needs the pitch."""

    @classmethod
    def check_sizes(cls, config: SynthesizerConfig) -> None:
        """What only this generator demands of the sizes. Raises ConfigurationError where they make none of it."""

    @abstractmethod
    def __init__(self, config: SynthesizerConfig) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, latent: Tensor, f0_hz: Tensor | None, speaker_code: Tensor) -> Tensor:
        """Latent [B, L, T], f0_hz [B, T] (0 = unvoiced), speaker_code [B, G, 1] -> waveform [B, 1, N] in -1..1."""
