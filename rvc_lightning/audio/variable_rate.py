"""Resample a stream with a short delay, at a ratio that may change at any time.

Streams of soxr delay audio by up to 80 ms, and their ratio is fixed. In this resampler, each output sample is a sum
over a window of the input, with the weights of a windowed sinc whose phase follows the position of the sample (Smith
and Gossett 1984, "A flexible sampling-rate conversion method").

    input     |  |  |  |  |  |  |  |  |       48 kHz
    window       |<---- K taps --->|          40 zero crossings on each side: 2.5 ms at 16 kHz
    output          |       |       |         16 kHz

Legend: N input samples, M output samples, K taps, P phases.
"""

from __future__ import annotations

import math

import numpy as np

from rvc_lightning.audio.stages import Stage

_CROSSINGS = 40
_KAISER_BETA = 9.0
"""Stop band at -90 dB; with the crossings, the transition band is 7 % of the lower rate."""
_CUTOFF = 0.464
_PHASES = 512


class VariableResampler(Stage):
    """Resample with a delay of 40 samples of the lower rate; output and input are aligned in time."""

    def __init__(self, from_rate: int, to_rate: int) -> None:
        self._from_rate, self._to_rate = from_rate, to_rate
        self.speed = 1.0
        """Input samples used, relative to the ratio of the rates; may change at any time."""
        self._half = _half_taps(from_rate, to_rate)
        self._table = _weights(self._half, _CUTOFF * min(1.0, to_rate / from_rate))
        self._buffer = np.zeros(self._half - 1, np.float32)
        # Position of the next output sample in the buffer, in units of 1 / to_rate: exact at speed 1.
        self._position = 0.0
        self._n_in = self._n_out = 0

    def push(self, block: np.ndarray) -> np.ndarray:
        """See `Stage`."""
        self._n_in += len(block)
        self._buffer = np.concatenate([self._buffer, np.asarray(block, np.float32)])
        step = self._from_rate * self.speed
        windows = len(self._buffer) - 2 * self._half + 1
        count = max(math.ceil((windows * self._to_rate - self._position) / step), 0)
        positions = self._position + step * np.arange(count + 1)
        starts = (positions // self._to_rate).astype(np.int64)
        output = self._filter(starts[:-1], positions[:-1] % self._to_rate / self._to_rate)
        dropped = min(int(starts[-1]), len(self._buffer))
        self._buffer, self._position = self._buffer[dropped:], float(positions[-1]) - dropped * self._to_rate
        self._n_out += count
        return output

    def finish(self) -> np.ndarray:
        """See `Stage`; the length is rounded up, at speed 1."""
        missing = -(-self._n_in * self._to_rate // self._from_rate) - self._n_out
        return self.push(np.zeros(2 * self._half, np.float32))[: max(missing, 0)]

    def _filter(self, starts: np.ndarray, fractions: np.ndarray) -> np.ndarray:
        """Filter the windows that start at `starts` [M] plus `fractions` [M] of an input sample: float32 [M]."""
        if not len(starts):
            return np.zeros(0, np.float32)
        phase = fractions * _PHASES
        below = phase.astype(np.int64)
        weights = self._table[below]
        weights += (phase - below).astype(np.float32)[:, None] * (self._table[below + 1] - weights)
        windows = np.lib.stride_tricks.sliding_window_view(self._buffer, 2 * self._half)[starts]
        return np.einsum("mk,mk->m", windows, weights)


def resampling_delay(from_rate: int, to_rate: int) -> float:
    """Return the delay of a `VariableResampler` in seconds; 0 for equal rates, which need no resampler."""
    return 0.0 if from_rate == to_rate else _half_taps(from_rate, to_rate) / from_rate


def _half_taps(from_rate: int, to_rate: int) -> int:
    return math.ceil(_CROSSINGS * max(1.0, from_rate / to_rate))


def _weights(half: int, cutoff: float) -> np.ndarray:
    """Return the windowed sinc at each phase, float32 [P + 1, K]; `cutoff` is in cycles per input sample."""
    offset = np.arange(2 * half) - (half - 1) - np.arange(_PHASES + 1)[:, None] / _PHASES
    window = np.i0(_KAISER_BETA * np.sqrt(np.maximum(1 - np.square(offset / half), 0)))
    weights = np.sinc(2 * cutoff * offset) * window
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
