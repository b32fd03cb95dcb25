"""Shift of the formants: the voice is generated slower and lower, and played faster, or the other way round.

    frames of the source    |    |    |    |    |         100 per second
    generated frames        |  |  |  |  |  |  |  |  |     r times as many, at 1/r of the pitch
    output                  |    |    |    |    |         r times as fast: pitch of the source, formants times r

Both grids start with the recording. Overlapping windows thus share generated frames, and their outputs can be joined,
as without a shift. A ratio of 1 changes nothing, bit by bit. SPECIFICATION.md, section 10.7, has the details.

Legend: B items, F frames of 10 ms, G generated frames, C channels, S generated samples, N output samples, r = P/Q.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
import torch
from scipy import signal
from torch import Tensor

from rvc_lightning.audio.frames import FRAMES_PER_SECOND

_MAX_DENOMINATOR = 1000
"""The shift is accurate to a cent."""
_CROSSINGS = 48
_KAISER_BETA = 9.0
_CUTOFF = 0.47
"""Of the lower sampling rate, as in `audio.variable_rate`."""


@dataclass(frozen=True)
class Stretch:
    """Grid of generated frames."""

    ratio: Fraction
    """Generated frames per frame of the source, r."""

    @classmethod
    def by(cls, semitones: float) -> Stretch:
        """Return the grid for a shift of the formants."""
        return cls(Fraction(2 ** (semitones / 12)).limit_denominator(_MAX_DENOMINATOR))

    def start(self, frame: int) -> int:
        """Return the first generated frame whose centre is not before that of a frame."""
        p, q = self.ratio.as_integer_ratio()
        return -((q - (2 * frame + 1) * p) // (2 * q))

    def count(self, frame: int, frames: int) -> int:
        """Return the number of generated frames for `frames` from `frame` on."""
        return self.start(frame + frames) - self.start(frame)

    def skipped(self, frames: int) -> int:
        """Return the number of generated frames that lie within the first `frames` of any window."""
        return math.floor(frames * self.ratio)

    def contour(self, f0_hz: np.ndarray, frame: int) -> np.ndarray:
        """Return the pitch of the generated frames from `start(frame)` on.

        Args:
            f0_hz: Pitch in Hz from `frame` on, float32 [F], 0 = unvoiced. It is interpolated between voiced frames.
            frame: First frame.

        Returns:
            Pitch in Hz, float32 [G].
        """
        if self.ratio == 1:
            return f0_hz
        place = self._places(frame, self.count(frame, len(f0_hz)))
        left = np.floor(place).astype(np.int64)
        right, part = np.minimum(left + 1, len(f0_hz) - 1), place - left
        is_glide = (f0_hz[left] > 0) & (f0_hz[right] > 0)
        between = f0_hz[left] * (1 - part) + f0_hz[right] * part
        nearest = np.where(part < 0.5, f0_hz[left], f0_hz[right])
        return (np.where(is_glide, between, nearest) / float(self.ratio)).astype(np.float32)

    def phase(self, f0_hz: np.ndarray, frame: int, frames: int) -> float:
        """Return the phase of the pitch [F], which starts with `frame`, in cycles, where a later frame starts.

        It continues if the ratio changes there, unlike `cycles_before`, which is exact for generated frames.
        """
        generated = self.contour(f0_hz, frame)
        count = self.count(frame, frames)
        late = self.start(frame + frames) / self.ratio - (frame + frames)
        return cycles_before(generated, count) - float(late) * float(f0_hz[frames]) / FRAMES_PER_SECOND

    def content(self, content: Tensor, frames: Sequence[int], starts: Sequence[int]) -> tuple[Tensor, list[int]]:
        """Repeat or leave out frames of content.

        The frame after the last is repeated once more, since the resampler looks ahead.

        Args:
            content: Features, [B, F, C].
            frames: Frames of each item.
            starts: First frame of each item.

        Returns:
            Features [B, G, C], and the generated frames of each item. G depends on F only.
        """
        if self.ratio == 1:
            return content, list(frames)
        total = math.ceil(content.shape[1] * self.ratio) + 1
        nearest = np.stack([np.floor(self._places(start, total) + 0.5) for start in starts]).astype(np.int64)
        index = content.new_tensor(np.minimum(nearest, np.asarray(frames)[:, None] - 1), dtype=torch.long)
        counts = [self.count(start, count) + 1 for start, count in zip(starts, frames, strict=True)]
        return content.gather(1, index[:, :, None].expand(-1, -1, content.shape[2])), counts

    def played(self, audio: np.ndarray, generated_frame: int, frame: int, frames: int, hop_samples: int) -> np.ndarray:
        """Change the speed of generated audio by r.

        Args:
            audio: Generated audio, float32 [S].
            generated_frame: Its first generated frame.
            frame: First frame of the output.
            frames: Frames of the output.
            hop_samples: Samples per frame.

        Returns:
            Float32 [N], N = frames * hop_samples; zero where it is not generated.
        """
        samples = frames * hop_samples
        if self.ratio == 1:
            return audio[:samples]
        p, q = self.ratio.as_integer_ratio()
        weights = _weights(self.ratio)
        # In units of 1 / Q generated samples, the output has a step of P, and starts `offset` after the first of the
        # samples that the filter returns.
        offset = (frame * p - generated_frame * q) * hop_samples + len(weights) // 2
        first = -(-offset // p)
        padded = np.pad(weights, (first * p - offset, 0))
        output = signal.upfirdn(padded, audio, q, p)[max(first, 0) : max(first + samples, 0)]
        before = min(max(-first, 0), samples)
        return np.pad(output, (before, samples - before - len(output)))

    def _places(self, frame: int, count: int) -> np.ndarray:
        """Return the centres of generated frames from `start(frame)` on, in frames after `frame`, float64 [count]."""
        p, q = self.ratio.as_integer_ratio()
        generated = self.start(frame) + np.arange(count, dtype=np.int64)
        return ((2 * generated + 1) * q - (2 * frame + 1) * p) / (2 * p)


def cycles_before(f0_hz: np.ndarray, frames: int) -> float:
    """Return the phase of a contour [G] of generated frames after the first of them, in cycles, 0 to 1."""
    return float(f0_hz[:frames].sum(dtype=np.float64) / FRAMES_PER_SECOND % 1.0)


@lru_cache(maxsize=4)
def _weights(ratio: Fraction) -> np.ndarray:
    """Return a low-pass filter at Q times the rate of generated audio, float32 [odd]."""
    slowness, q = max(1.0, float(ratio)), ratio.denominator
    crossings, cutoff = math.ceil(_CROSSINGS * slowness), _CUTOFF / slowness
    weights = signal.firwin(2 * crossings * q + 1, cutoff, window=("kaiser", _KAISER_BETA), fs=q)
    return (q * weights).astype(np.float32)
