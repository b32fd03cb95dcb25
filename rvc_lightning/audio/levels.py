"""Measure level, clipping and silence of a recording.

Legend: N samples.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from rvc_lightning.audio.slicer import HOP_SECONDS

LOWEST_DB = -120.0
_CLIPPED_FROM = 0.999


def rms(audio: np.ndarray) -> float:
    """Return the root mean square of audio [N]; 0 if it is empty."""
    return math.sqrt(float(np.square(audio, dtype=np.float64).mean())) if len(audio) else 0.0


@dataclass(frozen=True)
class Levels:
    """Levels of a recording before any filter.

    Attributes:
        level_db: Root mean square outside silences, in dB of full scale; -120 if all is silent.
        clipped_share: Share of samples at full scale or beyond.
        silent_share: Share of time below the threshold of silence.
    """

    level_db: float
    clipped_share: float
    silent_share: float


class LevelMeter:
    """Measure a recording while it is read block by block.

    Use it before a resampler, which smooths clipped samples.
    """

    def __init__(self, sample_rate: int, threshold_db: float) -> None:
        """Start a recording.

        Args:
            sample_rate: Rate of the recording in Hz.
            threshold_db: Level below which a hop of 15 ms is silent, in dB of full scale.
        """
        self._hop_samples = round(HOP_SECONDS * sample_rate)
        self._min_power = 10 ** (threshold_db / 10)
        self._samples = self._clipped = self._hops = self._sounding = 0
        self._power = 0.0
        self._rest = np.zeros(0, dtype=np.float32)
        self._digest = hashlib.blake2b(digest_size=16, salt=str(sample_rate).encode())

    def watch(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Measure and yield the blocks, float32 [n]."""
        for block in blocks:
            self._add(block)
            yield block
        self._measure(np.pad(self._rest, (0, -len(self._rest) % self._hop_samples)))

    def _add(self, block: np.ndarray) -> None:
        self._samples += len(block)
        self._clipped += int(np.count_nonzero(np.abs(block) >= _CLIPPED_FROM))
        self._digest.update(block.tobytes())
        joined = np.concatenate([self._rest, block])
        whole = len(joined) // self._hop_samples * self._hop_samples
        self._rest = joined[whole:]
        self._measure(joined[:whole])

    def _measure(self, audio: np.ndarray) -> None:
        """Measure whole hops."""
        hops = audio.reshape(-1, self._hop_samples)
        power = np.einsum("ij,ij->i", hops, hops, dtype=np.float64) / self._hop_samples
        sounding = power[power >= self._min_power]
        self._hops += len(power)
        self._sounding += len(sounding)
        self._power += float(sounding.sum())

    @property
    def levels(self) -> Levels:
        """Levels of the recording, complete after iteration of `watch`."""
        power = self._power / max(self._sounding, 1)
        return Levels(
            level_db=max(10 * math.log10(max(power, 1e-30)), LOWEST_DB),
            clipped_share=self._clipped / max(self._samples, 1),
            silent_share=1 - self._sounding / max(self._hops, 1),
        )

    @property
    def sound(self) -> str:
        """Digest of rate and samples, which is the same for all lossless files with the same sound."""
        return self._digest.hexdigest()
