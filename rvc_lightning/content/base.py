"""Interface of content encoders.

Legend: B items, T samples at 16 kHz, F frames of 20 ms, C channels.

    frame 0   [0 .................. 400)                 F = (T - 400) // 320 + 1, at least 1: `frames.content_frames`
    frame 1              [320 .................. 720)    the frames of HuBERT's convolutions
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class ContentEncoder(nn.Module, ABC):
    """Network from speech to its linguistic content, with as little speaker identity as possible.

    Attributes:
        name: Name in the registry, the configuration, the manifest and the voice.
        dim: Channels of the content features, C.
    """

    name: str
    dim: int

    @abstractmethod
    def forward(self, wav16k: Tensor, lengths: Tensor) -> Tensor:
        """Encode a batch; padding does not affect the result of an item.

        Args:
            wav16k: [B, T] at 16 kHz, full scale 1, zero in padded samples.
            lengths: int64 [B], samples of each item; items under 400 samples are treated as padded to 400.

        Returns:
            Content [B, F, C], F = content_frames(T), zero from frame content_frames(length) on.
        """
