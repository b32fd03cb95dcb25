"""What a content encoder is.

Letters: B items, T samples at 16 kHz, F frames of 20 ms, C channels.

    frame 0   [0 .................. 400)                 F = (T - 400) // 320 + 1, at least 1
    frame 1              [320 .................. 720)    the frames of HuBERT's convolutions
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

SAMPLE_RATE = 16000
HOP_SAMPLES = 320
WINDOW_SAMPLES = 400


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


def content_frames(samples: int) -> int:
    """F of a signal of `samples` at 16 kHz."""
    return max(samples - WINDOW_SAMPLES, 0) // HOP_SAMPLES + 1


def content_lengths(lengths: Tensor) -> Tensor:
    """F of each item, int64 [B], from its samples [B]."""
    return (lengths - WINDOW_SAMPLES).clamp(min=0) // HOP_SAMPLES + 1


def frame_mask(frames: Tensor, total: int) -> Tensor:
    """Boolean [B, total], True for the first `frames[b]` of item b."""
    return torch.arange(total, device=frames.device) < frames[:, None]
