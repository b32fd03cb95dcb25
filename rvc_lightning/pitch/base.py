"""Interfaces of pitch extractors: functions on the host, and networks.

Legend: B items, T samples at 16 kHz, F frames of 10 ms.

    frame       0         1         2                F = T // 160 + 1
    sample      0        160       320               frame i is centered on sample 160 * i
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from rvc_lightning.audio.frames import FRAME_SAMPLES, frame_count, frame_mask
from rvc_lightning.errors import ConfigurationError

# Networks process a long recording in parts of about a minute with five seconds of context on each side. Both lengths
# are multiples of 32 frames, so that networks that halve the frame rate five times keep their grid.
_PART_FRAMES = 6144
_CONTEXT_FRAMES = 512


class Part(NamedTuple):
    """Part of a long recording, with context."""

    samples: slice
    """Samples of the part and its context."""
    frames: slice
    """Frames of the part, relative to the first frame of the context."""


def parts(samples: int) -> list[Part]:
    """Split a recording of `samples` at 16 kHz into parts whose frames, concatenated, are its F frames."""
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


def check_range(fmin_hz: float, fmax_hz: float, lowest_hz: float, highest_hz: float) -> None:
    """Raise ConfigurationError unless lowest_hz <= fmin_hz < fmax_hz <= highest_hz."""
    if not lowest_hz <= fmin_hz < fmax_hz <= highest_hz:
        raise ConfigurationError(
            f"pitch.fmin_hz={fmin_hz} pitch.fmax_hz={fmax_hz}: choose an increasing range from {lowest_hz:.1f} to "
            f"{highest_hz:.1f} Hz"
        )


def check_threshold(threshold: float) -> None:
    """Raise ConfigurationError unless 0 <= threshold < 1."""
    if not 0 <= threshold < 1:
        raise ConfigurationError(f"pitch.threshold={threshold}: choose a number from 0 to 1, excluding 1")


class PitchExtractor(ABC):
    """Estimator of the fundamental frequency of speech or singing on the host.

    It runs in worker processes: it can be pickled, uses one thread, and gives the same result in every process.
    """

    name: ClassVar[str]
    """Name in the registry, the configuration and the manifest."""
    finds_pitch: ClassVar[bool] = True
    """Whether the output contains pitch."""

    @abstractmethod
    def __call__(self, wav16k: np.ndarray) -> np.ndarray:
        """Measure the pitch.

        Args:
            wav16k: float32 [T] at 16 kHz, full scale 1, T >= 1.

        Returns:
            f0_hz, float32 [F], F = T // 160 + 1; 0 where unvoiced.
        """


class PitchNetwork(nn.Module, ABC):
    """Network that estimates the fundamental frequency of speech or singing, on any device and in any precision.

    Spectra and decoding are always float32. Memory is bounded: recordings over a minute are processed in parts with
    five seconds of context, so networks with a larger receptive field or with global averages give slightly different
    results than on the whole recording.
    """

    name: ClassVar[str]
    """Name in the registry, the configuration and the manifest."""
    finds_pitch: ClassVar[bool] = True
    """Whether the output contains pitch."""

    def __init__(self, threshold: float = 0.0) -> None:
        """Set the threshold of the salience of voiced frames. Raises ConfigurationError unless 0 <= threshold < 1."""
        super().__init__()
        check_threshold(threshold)
        self.threshold = threshold

    def forward(self, wav16k: Tensor, lengths: Tensor) -> Tensor:
        """Estimate the pitch of a batch; padding does not affect the result of an item.

        Args:
            wav16k: [B, T] at 16 kHz, full scale 1, T >= 1, zero in padded samples.
            lengths: int64 [B], samples of each item, 1 or more.

        Returns:
            f0_hz, float32 [B, F], F = T // 160 + 1; 0 where unvoiced or padded.
        """
        total = frame_count(wav16k.shape[1])
        tracked = [self._track_part(wav16k, lengths, part) for part in parts(wav16k.shape[1])]
        return torch.cat(tracked, dim=1) * frame_mask(frame_count(lengths), total)

    def _track_part(self, wav16k: Tensor, lengths: Tensor, part: Part) -> Tensor:
        wave = wav16k[:, part.samples]
        return self.track(wave, (lengths - part.samples.start).clamp(1, wave.shape[1]))[:, part.frames]

    @abstractmethod
    def track(self, wav16k: Tensor, lengths: Tensor) -> Tensor:
        """Estimate the pitch of one part with its context, as `forward`; padded frames may have any finite value."""


PitchTracker: TypeAlias = PitchExtractor | PitchNetwork


def measure(tracker: PitchTracker, wav16k: np.ndarray) -> np.ndarray:
    """Estimate the pitch of one recording with an extractor or a network, on the device of the network.

    Args:
        tracker: Extractor or network.
        wav16k: float32 [T] at 16 kHz, full scale 1, T >= 1.

    Returns:
        f0_hz, float32 [F], F = T // 160 + 1; 0 where unvoiced.
    """
    if isinstance(tracker, PitchExtractor):
        return np.asarray(tracker(wav16k), dtype=np.float32)
    with torch.inference_mode():
        wave = next(tracker.parameters()).new_tensor(wav16k)[None]
        return tracker(wave, torch.full_like(wave[:, 0], len(wav16k), dtype=torch.long))[0].cpu().numpy()
