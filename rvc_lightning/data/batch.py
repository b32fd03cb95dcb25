"""Training examples and batches (SPECIFICATION.md, section 8.3).

Legend: B batch, F content frames (20 ms), T frames (10 ms), N samples, C content channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from rvc_lightning.audio.frames import CONTENT_REPEAT


class Example(NamedTuple):
    """One slice of a recording."""

    id: str
    """Name of the slice, for messages."""
    content: Tensor
    """Content features at 50 Hz, [F, C]."""
    f0_hz: Tensor
    """Pitch at 100 Hz, 0 = unvoiced, [T]."""
    waveform: Tensor
    """Samples at the rate of the voice, [N]."""
    frames: int
    """Frames that content, pitch and waveform all cover."""
    speaker: int
    """Row of the speaker table."""


class Batch(NamedTuple):
    """Examples of similar length, longest first, padded with zeros at the end."""

    ids: tuple[str, ...]
    content: Tensor
    """[B, F, C] at 50 Hz."""
    f0_hz: Tensor
    """[B, T]."""
    waveform: Tensor
    """[B, N]."""
    waveform_lengths: Tensor
    """Samples of each item, [B]."""
    lengths: Tensor
    """Frames of each item, [B]; the largest is T."""
    speaker: Tensor
    """[B]."""

    def first(self, n_items: int) -> Batch:
        """Return the first items, which are the longest."""
        return Batch(
            self.ids[:n_items],
            self.content[:n_items],
            self.f0_hz[:n_items],
            self.waveform[:n_items],
            self.waveform_lengths[:n_items],
            self.lengths[:n_items],
            self.speaker[:n_items],
        )


def collate(examples: Sequence[Example]) -> Batch:
    """Sort `examples` by length, longest first, and pad them with zeros at the end."""
    ordered = sorted(examples, key=lambda example: example.frames, reverse=True)
    content = [example.content[: -(-example.frames // CONTENT_REPEAT)] for example in ordered]
    return Batch(
        ids=tuple(example.id for example in ordered),
        content=pad_sequence(content, batch_first=True),
        f0_hz=pad_sequence([example.f0_hz[: example.frames] for example in ordered], batch_first=True),
        waveform=pad_sequence([example.waveform for example in ordered], batch_first=True),
        waveform_lengths=torch.tensor([len(example.waveform) for example in ordered]),
        lengths=torch.tensor([example.frames for example in ordered]),
        speaker=torch.tensor([example.speaker for example in ordered]),
    )


def content_at_frame_rate(content: Tensor, frames: int) -> Tensor:
    """Repeat every content frame for the two frames it covers: [B, F, C] -> [B, frames, C]."""
    return content.repeat_interleave(CONTENT_REPEAT, dim=1)[:, :frames]
