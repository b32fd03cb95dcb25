"""The loudness of one recording imposed on another (specification 10.5), block by block.

Legend: N output samples, M source samples, K points of an envelope, two a second.
"""

from __future__ import annotations

import numpy as np

from rvc_lightning.audio.samples import Samples, spans

_LEAST_RMS = 1e-6
_HOPS_AT_ONCE = 64


def rms_envelope(audio: Samples, sample_rate: int) -> np.ndarray:
    """Root mean square over a second around every half second: [N] -> float64 [K], K = N // (sample_rate // 2) + 1.

    Beyond the ends there is silence.
    """
    hop_samples = sample_rate // 2
    points = len(audio) // hop_samples + 1
    energy = np.zeros(points + 1)
    for span in spans(len(audio), hop_samples * _HOPS_AT_ONCE):
        block = np.square(audio[span], dtype=np.float64)
        sums = np.add.reduceat(block, np.arange(0, len(block), hop_samples))
        first = span.start // hop_samples + 1
        energy[first : first + len(sums)] = sums[: points + 1 - first]
    return np.sqrt((energy[:-1] + energy[1:]) / (2 * hop_samples))


class EnvelopeMix:
    """Gains that give a recording the loudness of its source, in part or in full."""

    def __init__(self, converted: Samples, sample_rate: int, source: Samples, source_rate: int, share: float) -> None:
        """Measures both.

        Args:
            converted: [N].
            sample_rate: Rate of `converted` in Hz.
            source: The recording that was converted, [M].
            source_rate: Rate of `source` in Hz.
            share: Of the loudness `converted` has already: 1 leaves it alone, 0 imposes that of `source`.
        """
        self._samples, self._power = len(converted), 1 - share
        if self._power:
            self._wanted = rms_envelope(source, source_rate)
            self._present = rms_envelope(converted, sample_rate)

    def gain(self, span: slice) -> np.ndarray | np.float32:
        """What the samples of a span are multiplied by, float32; 0 where `share` is below 1 and the source silent."""
        if not self._power:
            return np.float32(1)
        wanted, present = (self._stretched(envelope, span) for envelope in (self._wanted, self._present))
        return ((wanted / np.maximum(present, _LEAST_RMS)) ** self._power).astype(np.float32)

    def _stretched(self, envelope: np.ndarray, span: slice) -> np.ndarray:
        """[K] -> the samples of a span, linearly, each point standing for the middle of its share of all N."""
        middle = (np.arange(span.start, span.stop) + 0.5) * (len(envelope) / max(self._samples, 1)) - 0.5
        return np.interp(middle, np.arange(len(envelope)), envelope)
