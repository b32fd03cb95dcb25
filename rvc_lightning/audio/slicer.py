"""Cut a recording at silences.

The level is measured per hop of 15 ms over a window of four hops:

    samples   |....|....|....|....|....|          hop
    window    2 hops before ... 2 hops after the frame's time, zeros outside the recording
    frame           0    1    2   ...  N // hop

A run of frames below the threshold is a silence, and a long silence becomes a cut. Up to half a second of a silence is
kept on each side, the rest is dropped, and each border is moved to the quietest frame near it.

Legend: N samples, F frames.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from rvc_lightning.audio.samples import Samples

HOP_SECONDS = 0.015
_WINDOW_HOPS = 4
_BLOCK_HOPS = 2048
_MIN_LEVEL = 1e-6


@dataclass(frozen=True)
class Slicer:
    """Cut a recording at silences; all times are rounded to hops of 15 ms.

    Attributes:
        threshold_db: Level below which a frame is silent, in dB of full scale.
        min_length_seconds: Minimum time between two cuts.
        min_interval_seconds: Minimum length of a silence to cut.
        max_kept_seconds: Maximum length of silence to keep on each side of a cut.
    """

    threshold_db: float = -42.0
    min_length_seconds: float = 1.5
    min_interval_seconds: float = 0.4
    max_kept_seconds: float = 0.5

    def __call__(self, audio: Samples, sample_rate: int) -> list[tuple[int, int]]:
        """Return the pieces to keep.

        Args:
            audio: float32 [N].
            sample_rate: Hz.

        Returns:
            (start, end) of each piece in samples, in order; empty if the recording is silent.
        """
        hop_samples = round(HOP_SECONDS * sample_rate)
        level = level_per_hop(audio, hop_samples)
        if not (level >= 10 ** (self.threshold_db / 20)).any():
            return []
        silences = self._silences_to_cut(level, sample_rate / hop_samples)
        pieces = _between(silences, len(level) + 1)
        borders = ((start * hop_samples, min(end * hop_samples, len(audio))) for start, end in pieces)
        return [(start, end) for start, end in borders if start < end]

    def explain_silence(self, audio: Samples, sample_rate: int) -> str:
        """Return the reason why no piece of a recording, float32 [N], is kept."""
        level = level_per_hop(audio, round(HOP_SECONDS * sample_rate)).max()
        window_ms = 1000 * _WINDOW_HOPS * HOP_SECONDS
        return (
            f"silent: its loudest {window_ms:.0f} ms have a level of {20 * math.log10(max(level, _MIN_LEVEL)):.1f} dB, "
            f"below slicing.threshold_db={self.threshold_db:g}"
        )

    def _silences_to_cut(self, level: np.ndarray, hops_per_second: float) -> list[tuple[int, int]]:
        """Return (start, end) of each dropped silence in hops; nothing is dropped where both are equal."""
        min_length = round(self.min_length_seconds * hops_per_second)
        min_interval = round(self.min_interval_seconds * hops_per_second)
        max_kept = round(self.max_kept_seconds * hops_per_second)
        if len(level) <= min_length:
            return []
        cuts: list[tuple[int, int]] = []
        for start, end in _quiet_runs(level < 10 ** (self.threshold_db / 20)):
            if end == len(level):
                if end - start >= min_interval:
                    cuts.append((_quietest(level, start, min(end, start + max_kept)), end + 1))
                continue
            is_leading = start == 0 and end > max_kept
            last_cut = cuts[-1][1] if cuts else 0
            if is_leading or (end - start >= min_interval and end - last_cut >= min_length):
                cuts.append(_cut_within(level, start, end, max_kept))
        return cuts


def level_per_hop(audio: Samples, hop_samples: int) -> np.ndarray:
    """Return the root mean square around the start of each hop.

    Args:
        audio: float32 [N].
        hop_samples: H.

    Returns:
        float64 [F], F = N // H + 1.
    """
    hops = len(audio) // hop_samples + _WINDOW_HOPS
    # Zeros before the recording for two hops, and after it to the end of the last hop and for one more.
    energy = np.zeros(hops)
    before = _WINDOW_HOPS // 2
    for first in range(0, len(audio) // hop_samples + 1, _BLOCK_HOPS):
        block = audio[first * hop_samples : (first + _BLOCK_HOPS) * hop_samples]
        rows = np.pad(block, (0, -len(block) % hop_samples)).reshape(-1, hop_samples)
        energy[before + first : before + first + len(rows)] = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
    window_energy = np.lib.stride_tricks.sliding_window_view(energy, _WINDOW_HOPS).sum(axis=1)
    return np.sqrt(window_energy / (_WINDOW_HOPS * hop_samples))


def _quiet_runs(quiet: np.ndarray) -> list[tuple[int, int]]:
    """Return (first quiet frame, first loud frame after it) of each run; a run at the end ends at F."""
    steps = np.diff(quiet.astype(np.int8), prepend=0, append=0)
    return list(zip(np.flatnonzero(steps == 1).tolist(), np.flatnonzero(steps == -1).tolist(), strict=True))


def _cut_within(level: np.ndarray, start: int, end: int, max_kept: int) -> tuple[int, int]:
    """Return the part of the silence [start, end) to drop: a point if it is short, its middle if it is long."""
    if end - start <= max_kept:
        point = _quietest(level, start, end)
        return (0 if start == 0 else point), point
    cut_start = _quietest(level, start, start + max_kept)
    cut_end = _quietest(level, end - max_kept, end)
    if end - start <= 2 * max_kept and start > 0:
        # The two ranges overlap: the borders must not cross.
        middle = _quietest(level, end - max_kept, start + max_kept)
        cut_start, cut_end = min(cut_start, middle), max(cut_end, middle)
    return (0 if start == 0 else cut_start), cut_end


def _quietest(level: np.ndarray, first: int, last: int) -> int:
    """Return the first of the quietest frames from `first` to `last`, both included."""
    return first + int(np.argmin(level[first : last + 1]))


def _between(cuts: list[tuple[int, int]], total: int) -> list[tuple[int, int]]:
    """Return the pieces of 0..total between the cuts."""
    borders = [0, *itertools.chain.from_iterable(cuts), total]
    return [(start, end) for start, end in zip(borders[::2], borders[1::2], strict=True) if start < end]
