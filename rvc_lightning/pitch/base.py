"""What a pitch extractor is: code of the host, or a network.

Letters: B items, T samples at 16 kHz, F frames of 10 ms.

    frame       0         1         2                F = T // 160 + 1
    sample      0        160       320               frame i looks around sample 160 * i
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from rvc_lightning.audio.frames import FRAME_SAMPLES, frame_count, frame_mask

# What a network is given at once: a good minute, and on both sides as much as reaches into it noticeably. Both are
# multiples of 32 frames, so that networks that halve the frame rate five times see every part on the same grid.
_PART_FRAMES = 6144
_CONTEXT_FRAMES = 512


class Part(NamedTuple):
    """A part of a recording that pitch is measured in."""

    heard: slice
    """Samples of it and its surroundings."""
    kept: slice
    """Which of their frames are its own."""


def parts(samples: int) -> list[Part]:
    """Parts of a recording of `samples` at 16 kHz; their frames follow one another and are all F there are."""
    total = frame_count(samples)
    starts = range(0, total, _PART_FRAMES)
    firsts = [max(start - _CONTEXT_FRAMES, 0) for start in starts]
    return [
        Part(
            slice(first * FRAME_SAMPLES, min((start + _PART_FRAMES + _CONTEXT_FRAMES) * FRAME_SAMPLES, samples)),
            slice(start - first, min(start + _PART_FRAMES, total) - first),
        )
        for start, first in zip(starts, firsts, strict=True)
    ]


class PitchExtractor(ABC):
    """From speech or singing to its fundamental frequency, on the host.

    It has no device: it runs in worker processes, so it pickles, keeps nothing open
    when it does, and uses one thread. The same samples give the same values in any process.
    """

    name: ClassVar[str]
    """The name in the registry, the configuration and the manifest."""
    finds_pitch: ClassVar[bool] = True
    """Whether there is pitch in what it gives."""

    @abstractmethod
    def __call__(self, wav16k: np.ndarray) -> np.ndarray:
        """Measure the pitch.

        Args:
            wav16k: float32 [T] at 16 kHz, full scale 1, T >= 1; silence is welcome.

        Returns:
            f0_hz, float32 [F], F = T // 160 + 1; 0 where unvoiced.
        """


class PitchNetwork(nn.Module, ABC):
    """From speech or singing to its fundamental frequency, on any device and in any precision that Lightning offers.

    Spectra and decoding are float32 whatever the precision. Memory is bounded: what is longer than a minute is
    tracked in parts, each with five seconds of its surroundings. Where a network hears further than that, or takes
    averages over all it is given, the result then differs slightly from that of the whole at once.
    """

    name: ClassVar[str]
    """The name in the registry, the configuration and the manifest."""
    finds_pitch: ClassVar[bool] = True
    """Whether there is pitch in what it gives."""

    def forward(self, wav16k: Tensor, lengths: Tensor) -> Tensor:
        """Track a batch; the result for an item depends on the item alone, not on the padding around it.

        Args:
            wav16k: [B, T] at 16 kHz, full scale 1, T >= 1, zeros beyond each item's length.
            lengths: int64 [B], samples of each item, 1 or more.

        Returns:
            f0_hz, float32 [B, F], F = T // 160 + 1; 0 where unvoiced and beyond length // 160 + 1.
        """
        total = frame_count(wav16k.shape[1])
        tracked = [self._track_part(wav16k, lengths, part) for part in parts(wav16k.shape[1])]
        return torch.cat(tracked, dim=1) * frame_mask(frame_count(lengths), total)

    def _track_part(self, wav16k: Tensor, lengths: Tensor, part: Part) -> Tensor:
        heard = wav16k[:, part.heard]
        inside = (lengths - part.heard.start).clamp(1, heard.shape[1])
        return self.track(heard, inside)[:, part.kept]

    @abstractmethod
    def track(self, wav16k: Tensor, lengths: Tensor) -> Tensor:
        """`forward` for inputs of a good minute at most; frames beyond an item's length may hold anything finite."""


PitchTracker: TypeAlias = PitchExtractor | PitchNetwork


def measure(tracker: PitchTracker, wav16k: np.ndarray) -> np.ndarray:
    """Measures the pitch of one recording by a tracker of either kind, on the device where that is.

    Args:
        tracker: Which.
        wav16k: As for `PitchExtractor.__call__`, float32 [T].

    Returns:
        f0_hz, float32 [F], F = T // 160 + 1; 0 where unvoiced.
    """
    if isinstance(tracker, PitchExtractor):
        return np.asarray(tracker(wav16k), dtype=np.float32)
    with torch.inference_mode():
        wave = next(tracker.parameters()).new_tensor(wav16k)[None]
        return tracker(wave, torch.full_like(wave[:, 0], len(wav16k), dtype=torch.long))[0].cpu().numpy()
