"""Measure the round-trip latency of an output and an input device with sine sweeps.

The input must pick up the output: by a loudspeaker near the microphone, a cable, or a virtual cable.
"""

from __future__ import annotations

import time
from queue import Empty, SimpleQueue

import numpy as np
from scipy import signal

from rvc_lightning.errors import AudioError
from rvc_lightning.live.devices import Device, DeviceStream

_SWEEPS = 5
_PERIOD_SECONDS = 0.6
_SWEEP_SECONDS = 0.05
_LEAD_SECONDS = 0.5
_MIN_SCORE = 8.0
"""Smallest ratio of the peak of the correlation to its root mean square at which a sweep counts as detected."""


def measure_round_trip(
    source: Device, sink: Device, rates: tuple[int, int], latency_seconds: float | None
) -> list[float]:
    """Play and record sweeps; return the delay of each detected sweep in seconds.

    Args:
        source: Input device.
        sink: Output device.
        rates: Sampling rates of input and output in Hz.
        latency_seconds: Latency to request from each device; None for its lowest one.

    Raises:
        AudioError: No sweep was detected.
        ConfigurationError: A device cannot be opened.
    """
    recorded: SimpleQueue[tuple[float, np.ndarray]] = SimpleQueue()
    sound, played = _sweeps(rates[1]), _Player()
    player = DeviceStream(sink, "output", rates[1], lambda count: played.read(sound, count), latency_seconds)
    recorder = DeviceStream(
        source, "input", rates[0], lambda audio: recorded.put((time.monotonic(), audio)), latency_seconds
    )
    time.sleep(len(sound) / rates[1] + 1.0)
    player.close()
    recorder.close()
    delays = _delays(recorded, rates[0], played.started_at)
    if not delays:
        raise AudioError(
            f"nothing came back from '{sink.name}' to '{source.name}': turn the volume up, or connect them"
        )
    return delays


class _Player:
    """Position in a sound that is played once."""

    def __init__(self) -> None:
        self.started_at = 0.0
        self._position = 0

    def read(self, sound: np.ndarray, count: int) -> np.ndarray:
        if not self._position:
            self.started_at = time.monotonic()
        part = sound[self._position : self._position + count]
        self._position += count
        return np.pad(part, (0, count - len(part)))


def _sweep(sample_rate: int) -> np.ndarray:
    times = np.arange(round(_SWEEP_SECONDS * sample_rate)) / sample_rate
    return 0.5 * signal.chirp(times, 300, _SWEEP_SECONDS, 3500) * np.hanning(len(times))


def _sweeps(sample_rate: int) -> np.ndarray:
    """Return silence, then sweeps at equal distances, float32 [N]."""
    sound = np.zeros(round((_LEAD_SECONDS + _SWEEPS * _PERIOD_SECONDS) * sample_rate), np.float32)
    for start in _starts(sample_rate):
        sound[start : start + round(_SWEEP_SECONDS * sample_rate)] = _sweep(sample_rate)
    return sound


def _starts(sample_rate: int) -> list[int]:
    return [round((_LEAD_SECONDS + number * _PERIOD_SECONDS) * sample_rate) for number in range(_SWEEPS)]


def _delays(recorded: SimpleQueue[tuple[float, np.ndarray]], sample_rate: int, started_at: float) -> list[float]:
    """Return the delays of the detected sweeps in seconds, counted from the first callback of the output."""
    pieces, arrived = [], 0.0
    while True:
        try:
            at, audio = recorded.get_nowait()
        except Empty:
            break
        pieces.append(audio.mean(axis=1))
        arrived = at
    audio = np.concatenate([np.zeros(0), *pieces])
    # The last piece arrived when all was recorded.
    first_at = arrived - len(audio) / sample_rate
    sweep = _sweep(sample_rate)
    delays = []
    for start in _starts(sample_rate):
        begin = max(round((started_at - first_at) * sample_rate) + start, 0)
        window = audio[begin : begin + round(_PERIOD_SECONDS * sample_rate)]
        if len(window) < len(sweep):
            continue
        correlation = np.abs(signal.correlate(window, sweep, "valid"))
        if correlation.max() > _MIN_SCORE * np.sqrt(np.mean(correlation**2) + 1e-12):
            delays.append(int(correlation.argmax()) / sample_rate)
    return delays
