"""How loud a recording is, how much of it is clipped and how much is silent.

Letters: N samples.
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


@dataclass(frozen=True)
class Levels:
    """Figures of a recording as it was found, before any filter.

    Attributes:
        level_db: root mean square of what is not silent, dB of full scale; -120 where all is.
        clipped_share: share of the samples at full scale or beyond.
        silent_share: share of the time that lies below the threshold of silence.
    """

    level_db: float
    clipped_share: float
    silent_share: float


class LevelMeter:
    """Measures a recording while it is read, block by block.

    It belongs before the resampler, which rounds off what was clipped.
    """

    def __init__(self, sample_rate: int, threshold_db: float) -> None:
        """Begins a recording.

        Args:
            sample_rate: its own, Hz.
            threshold_db: hops of 15 ms below this level are silence, dB of full scale.
        """
        self._hop_samples = round(HOP_SECONDS * sample_rate)
        self._least_power = 10 ** (threshold_db / 10)
        self._samples = self._clipped = self._hops = self._sounding = 0
        self._power = 0.0
        self._rest = np.zeros(0, dtype=np.float32)
        self._digest = hashlib.blake2b(digest_size=16, salt=str(sample_rate).encode())

    def watch(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """The blocks, float32 [n] each, as they are."""
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
        """Whole hops."""
        hops = audio.reshape(-1, self._hop_samples)
        power = np.einsum("ij,ij->i", hops, hops, dtype=np.float64) / self._hop_samples
        sounding = power[power >= self._least_power]
        self._hops += len(power)
        self._sounding += len(sounding)
        self._power += float(sounding.sum())

    @property
    def levels(self) -> Levels:
        """Of what was watched to its end."""
        power = self._power / max(self._sounding, 1)
        return Levels(
            level_db=max(10 * math.log10(max(power, 1e-30)), LOWEST_DB),
            clipped_share=self._clipped / max(self._samples, 1),
            silent_share=1 - self._sounding / max(self._hops, 1),
        )

    @property
    def sound(self) -> str:
        """Digest of rate and samples: the same for the same sound in another lossless file."""
        return self._digest.hexdigest()
