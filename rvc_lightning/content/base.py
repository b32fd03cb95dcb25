"""What a content encoder is.

Letters: B items, T samples at 16 kHz, F frames of 20 ms, C channels.

    frame 0   [0 .................. 400)                 F = (T - 400) // 320 + 1, at least 1: `frames.content_frames`
    frame 1              [320 .................. 720)    the frames of HuBERT's convolutions
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class ContentEncoder(nn.Module, ABC):
    """From speech to what is said, with as little as possible of who says it.

    Attributes:
        name: the name in the registry, the configuration, the manifest and the voice.
        dim: C.
    """

    name: str
    dim: int

    @abstractmethod
    def forward(self, wav16k: Tensor, lengths: Tensor) -> Tensor:
        """Encode a batch; the result for an item depends on the item alone, not on the padding around it.

        Args:
            wav16k: [B, T] at 16 kHz, full scale 1, zeros beyond each item's length.
            lengths: int64 [B], samples of each item; what is shorter than 400 is taken as padded to 400.

        Returns:
            content [B, F, C], F = content_frames(T); the first content_frames(length) frames of an item count,
            the rest are zeros.
        """
