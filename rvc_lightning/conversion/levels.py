"""Loudness of the output: that of the source where requested, within full scale (SPECIFICATION.md, section 10.5).

Legend: N output samples, M source samples, K points of an envelope, two per second.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rvc_lightning.audio.frames import SAMPLE_RATE
from rvc_lightning.audio.loudness import peak_of
from rvc_lightning.audio.samples import Samples, spans
from rvc_lightning.errors import VoiceError

OUTPUT_PEAK = 0.99

_MIN_RMS = 1e-6
_HOPS_PER_BLOCK = 64


def leveled_blocks(joined: Samples, sample_rate: int, source: Samples, mix: float | None) -> Iterator[np.ndarray]:
    """Apply the volume envelope, and reduce the level where it exceeds the limit.

    Args:
        joined: Output of the voice, [N].
        sample_rate: Sampling rate of `joined` in Hz.
        source: Recording that was converted, at 16 kHz, [M].
        mix: Share of the loudness of `joined` that is kept, or None, as in `VolumeEnvelope`.

    Returns:
        Iterator over blocks of the result, float32 [N] in total, within ±0.99.

    Raises:
        VoiceError: `joined` contains NaN or infinity.
    """
    envelope = VolumeEnvelope(joined, sample_rate, source, SAMPLE_RATE, mix)
    # numpy's max returns NaN if there is one.
    peak = float(np.max([peak_of(joined[span] * envelope.gain(span)) for span in spans(len(joined))], initial=0.0))
    check_finite(peak)
    limit = np.float32(min(1.0, OUTPUT_PEAK / max(peak, 1e-9)))
    return (joined[span] * envelope.gain(span) * limit for span in spans(len(joined)))


def check_finite(output: np.ndarray | float) -> None:
    """Raise VoiceError if the output of a voice contains NaN or infinity."""
    if not np.isfinite(output).all():
        raise VoiceError("the voice returned NaN or infinity; try precision=32-true")


class VolumeEnvelope:
    """Gains that give a converted recording the loudness of its source, partly or fully."""

    def __init__(
        self, converted: Samples, sample_rate: int, source: Samples, source_rate: int, mix: float | None
    ) -> None:
        """Measure `converted` [N] and `source` [M], at their rates in Hz.

        `mix` is the share of the loudness of `converted` that is kept: 1 keeps all of it, 0 imposes that of `source`.
        None imposes it only where `converted` is louder, so that noise that the voice has removed stays removed.
        """
        self._samples, self._power = len(converted), 1 - (mix or 0.0)
        self._max_gain = np.inf if mix is not None else 1.0
        if self._power:
            self._source = rms_envelope(source, source_rate)
            self._converted = rms_envelope(converted, sample_rate)

    def gain(self, span: slice) -> np.ndarray | np.float32:
        """Return the gains of the samples of a span, float32; 0 where the source is silent, unless `mix` is 1."""
        if not self._power:
            return np.float32(1)
        source, converted = (self._interpolate(envelope, span) for envelope in (self._source, self._converted))
        gain = (source / np.maximum(converted, _MIN_RMS)) ** self._power
        return np.minimum(gain, self._max_gain).astype(np.float32)

    def _interpolate(self, envelope: np.ndarray, span: slice) -> np.ndarray:
        """Stretch an envelope [K] over all N samples linearly, and return those of a span."""
        position = (np.arange(span.start, span.stop) + 0.5) * (len(envelope) / max(self._samples, 1)) - 0.5
        return np.interp(position, np.arange(len(envelope)), envelope)


def rms_envelope(audio: Samples, sample_rate: int) -> np.ndarray:
    """Return the root mean square over a second around each half second, with zeros beyond the ends.

    [N] -> float64 [K], K = N // (sample_rate // 2) + 1.
    """
    hop_samples = sample_rate // 2
    points = len(audio) // hop_samples + 1
    energy = np.zeros(points + 1)
    for span in spans(len(audio), hop_samples * _HOPS_PER_BLOCK):
        block = np.square(audio[span], dtype=np.float64)
        sums = np.add.reduceat(block, np.arange(0, len(block), hop_samples))
        first = span.start // hop_samples + 1
        energy[first : first + len(sums)] = sums[: points + 1 - first]
    return np.sqrt((energy[:-1] + energy[1:]) / (2 * hop_samples))
