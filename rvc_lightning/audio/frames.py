"""Frame rates of content, pitch and voice, and numbers of frames by numbers of samples.

    16 kHz     0         160       320       480       640      input of encoders, pitch extractors and metrics
    pitch      0         1         2         3         4        T // 160 + 1 frames of 10 ms, centred on these samples
    content    0                   1                   2        frames of 20 ms, the first of samples 0 to 400

A voice has frames of 10 ms as well, at its sample rate: each content frame is repeated for two of them.

Legend: B items, T samples at 16 kHz.
"""

from __future__ import annotations

from typing import overload

import torch
from torch import Tensor

SAMPLE_RATE = 16000
"""Sample rate of the input of encoders, pitch extractors and metrics, in Hz."""
FRAMES_PER_SECOND = 100
"""Frame rate of pitch and of voices at every sample rate."""
FRAME_SAMPLES = SAMPLE_RATE // FRAMES_PER_SECOND
"""Hop of pitch frames at 16 kHz."""
CONTENT_REPEAT = 2
"""Pitch frames of one content frame."""
CONTENT_SAMPLES = CONTENT_REPEAT * FRAME_SAMPLES
"""Hop of content frames at 16 kHz."""
WINDOW_SAMPLES = 400
"""Minimum input of a content frame at 16 kHz: the receptive field of HuBERT's convolutions."""


def hop_samples(sample_rate: int) -> int:
    """Return the samples of one frame of 10 ms at `sample_rate` Hz."""
    return sample_rate // FRAMES_PER_SECOND


@overload
def frame_count(samples: int) -> int: ...
@overload
def frame_count(samples: Tensor) -> Tensor: ...
def frame_count(samples: int | Tensor) -> int | Tensor:
    """Return the number of pitch frames of signals with `samples` samples at 16 kHz."""
    return samples // FRAME_SAMPLES + 1


def content_frames(samples: int) -> int:
    """Return the number of content frames of a signal with `samples` samples at 16 kHz, padded to at least a window."""
    return max(samples - WINDOW_SAMPLES, 0) // CONTENT_SAMPLES + 1


def content_lengths(lengths: Tensor) -> Tensor:
    """Return `content_frames` of each item, int64 [B], by its samples [B]."""
    return (lengths - WINDOW_SAMPLES).clamp(min=0) // CONTENT_SAMPLES + 1


def frame_mask(counts: Tensor, total: int) -> Tensor:
    """Return a mask [B, total], True for the first `counts[b]` frames of item b."""
    return torch.arange(total, device=counts.device) < counts[:, None]
