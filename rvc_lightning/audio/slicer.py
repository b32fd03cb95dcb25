"""Cutting a recording at its silences.

The level is measured per hop of 15 ms over a window of four hops:

    samples   |....|....|....|....|....|          hop
    window    2 hops before ... 2 hops after the frame's time, zeros outside the recording
    frame           0    1    2   ...  N // hop

A run of frames below the threshold is a silence; a long enough one becomes a cut. Up to half a second of a
silence stays with its neighbours, the rest is dropped, and each border lies on the quietest frame near it.

Letters: N samples, F frames.
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
_LOWEST = 1e-6


@dataclass(frozen=True)
class Slicer:
    """Cuts at silence; all times are rounded to hops of 15 ms.

    Attributes:
        threshold_db: level below which a frame is silent, dB of full scale.
        min_length_seconds: a cut comes no sooner than this after the last one.
        min_interval_seconds: a silence shorter than this is no cut.
        max_kept_seconds: how much of a silence stays with the sound on either side.
    """

    threshold_db: float = -42.0
    min_length_seconds: float = 1.5
    min_interval_seconds: float = 0.4
    max_kept_seconds: float = 0.5

    def __call__(self, audio: Samples, sample_rate: int) -> list[tuple[int, int]]:
        """Find the pieces to keep.

        Args:
            audio: float32 [N].
            sample_rate: Hz.

        Returns:
            (start, end) of each piece in samples, in order; all else is silence, and nothing else gives [].
        """
        hop_samples = round(HOP_SECONDS * sample_rate)
        level = level_per_hop(audio, hop_samples)
        if not (level >= 10 ** (self.threshold_db / 20)).any():
            return []
        silences = self._silences_to_cut(level, sample_rate / hop_samples)
        pieces = _between(silences, len(level) + 1)
        borders = ((start * hop_samples, min(end * hop_samples, len(audio))) for start, end in pieces)
        return [(start, end) for start, end in borders if start < end]

    def silence_of(self, audio: Samples, sample_rate: int) -> str:
        """Why nothing of a recording, float32 [N] at Hz, is kept, in the terms in which the threshold is meant."""
        level = level_per_hop(audio, round(HOP_SECONDS * sample_rate)).max()
        window_ms = 1000 * _WINDOW_HOPS * HOP_SECONDS
        return (
            f"silent: its loudest {window_ms:.0f} ms have a level of {20 * math.log10(max(level, _LOWEST)):.1f} dB, "
            f"below slicing.threshold_db={self.threshold_db:g}"
        )

    def _silences_to_cut(self, level: np.ndarray, hops_per_second: float) -> list[tuple[int, int]]:
        """(begin, end) in hops of what is dropped; begin = end is a cut that drops nothing."""
        min_length = round(self.min_length_seconds * hops_per_second)
        min_interval = round(self.min_interval_seconds * hops_per_second)
        kept = round(self.max_kept_seconds * hops_per_second)
        if len(level) <= min_length:
            return []
        cuts: list[tuple[int, int]] = []
        for start, end in _quiet_runs(level < 10 ** (self.threshold_db / 20)):
            if end == len(level):
                if end - start >= min_interval:
                    cuts.append((_quietest(level, start, min(end, start + kept)), end + 1))
                continue
            leading = start == 0 and end > kept
            last_cut = cuts[-1][1] if cuts else 0
            if leading or (end - start >= min_interval and end - last_cut >= min_length):
                cuts.append(_cut_within(level, start, end, kept))
        return cuts


def level_per_hop(audio: Samples, hop_samples: int) -> np.ndarray:
    """Root mean square around the start of every hop.

    Args:
        audio: float32 [N].
        hop_samples: H.

    Returns:
        float64 [F], F = N // H + 1.
    """
    hops = len(audio) // hop_samples + _WINDOW_HOPS
    # Two hops of silence before the recording, and at its end what fills up the last one, and one more.
    energy = np.zeros(hops)
    before = _WINDOW_HOPS // 2
    for first in range(0, len(audio) // hop_samples + 1, _BLOCK_HOPS):
        block = audio[first * hop_samples : (first + _BLOCK_HOPS) * hop_samples]
        rows = np.pad(block, (0, -len(block) % hop_samples)).reshape(-1, hop_samples)
        energy[before + first : before + first + len(rows)] = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
    window_energy = np.lib.stride_tricks.sliding_window_view(energy, _WINDOW_HOPS).sum(axis=1)
    return np.sqrt(window_energy / (_WINDOW_HOPS * hop_samples))


def _quiet_runs(quiet: np.ndarray) -> list[tuple[int, int]]:
    """(first quiet frame, first loud frame after it) of every run; a run at the end ends at F."""
    steps = np.diff(quiet.astype(np.int8), prepend=0, append=0)
    return list(zip(np.flatnonzero(steps == 1).tolist(), np.flatnonzero(steps == -1).tolist(), strict=True))


def _cut_within(level: np.ndarray, start: int, end: int, kept: int) -> tuple[int, int]:
    """What to drop of the silence [start, end): nothing but a point if it is short, its middle if long."""
    if end - start <= kept:
        point = _quietest(level, start, end)
        return (0 if start == 0 else point), point
    begin = _quietest(level, start, start + kept)
    finish = _quietest(level, end - kept, end)
    if end - start <= 2 * kept and start > 0:
        # The two ranges overlap: the borders must not cross.
        middle = _quietest(level, end - kept, start + kept)
        begin, finish = min(begin, middle), max(finish, middle)
    return (0 if start == 0 else begin), finish


def _quietest(level: np.ndarray, first: int, last: int) -> int:
    """The first of the quietest frames of first..last, both included."""
    return first + int(np.argmin(level[first : last + 1]))


def _between(cuts: list[tuple[int, int]], total: int) -> list[tuple[int, int]]:
    """What the cuts leave of 0..total."""
    borders = [0, *itertools.chain.from_iterable(cuts), total]
    return [(begin, end) for begin, end in zip(borders[::2], borders[1::2], strict=True) if begin < end]
