"""The clocks that content, pitch and voice share, and how many frames there are of so many samples.

    16 kHz     0         160       320       480       640      what encoders, trackers and judges hear
    pitch      0         1         2         3         4        T // 160 + 1 frames of 10 ms, around these samples
    content    0                   1                   2        frames of 20 ms, the first of samples 0 to 400

A voice has frames of 10 ms as well, at its own rate: content is repeated for the two frames that it covers.

Letters: B items, T samples at 16 kHz.
"""

from __future__ import annotations

from typing import overload

import torch
from torch import Tensor

SAMPLE_RATE = 16000
"""In Hz, of what is heard."""
FRAMES_PER_SECOND = 100
"""Of pitch and of a voice, at every sample rate."""
FRAME_SAMPLES = SAMPLE_RATE // FRAMES_PER_SECOND
"""From one frame of pitch to the next."""
CONTENT_REPEAT = 2
"""Frames that one content frame covers."""
CONTENT_SAMPLES = CONTENT_REPEAT * FRAME_SAMPLES
"""From one content frame to the next."""
WINDOW_SAMPLES = 400
"""That a content frame is made of at least: the reach of HuBERT's convolutions."""


def hop_samples(sample_rate: int) -> int:
    """Samples of one frame of 10 ms at `sample_rate` Hz."""
    return sample_rate // FRAMES_PER_SECOND


@overload
def frame_count(samples: int) -> int: ...
@overload
def frame_count(samples: Tensor) -> Tensor: ...
def frame_count(samples: int | Tensor) -> int | Tensor:
    """Pitch frames of a signal of `samples` at 16 kHz, or of each of several."""
    return samples // FRAME_SAMPLES + 1


def content_frames(samples: int) -> int:
    """Content frames of a signal of `samples` at 16 kHz; what is shorter than a window is taken as padded to one."""
    return max(samples - WINDOW_SAMPLES, 0) // CONTENT_SAMPLES + 1


def content_lengths(lengths: Tensor) -> Tensor:
    """`content_frames` of each item, int64 [B], from its samples [B]."""
    return (lengths - WINDOW_SAMPLES).clamp(min=0) // CONTENT_SAMPLES + 1


def frame_mask(counts: Tensor, total: int) -> Tensor:
    """Boolean [B, total], True for the first `counts[b]` frames of item b."""
    return torch.arange(total, device=counts.device) < counts[:, None]
