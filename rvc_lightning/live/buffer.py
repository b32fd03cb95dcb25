"""Buffer between the engine and an audio callback, whose clocks differ.

    engine ─▶ resampler, a little faster or slower ─▶ waiting samples ─▶ callback
                       ▲                                   │
                       └────────── fill, target ───────────┘

Drift drops no samples: a control loop holds the fill at its target by adjusting the speed of the resampler. Late blocks
are concealed like lost packets (ITU-T G.711, appendix I): the last pitch period is repeated and fades out, until the
block arrives and fades in. Each late block raises the target, which then slowly returns to its initial value.

Legend: N samples.
"""

from __future__ import annotations

from threading import Lock

import numpy as np

from rvc_lightning.audio.variable_rate import VariableResampler

_MAX_DRIFT = 0.005
"""Largest change of speed: 9 cents."""
_PROPORTIONAL, _INTEGRAL = 0.1, 0.0025
"""Gains of the loop in 1/s and 1/s²: critically damped, with a time constant of 20 seconds."""
_SMOOTHING_SECONDS = 2.0
_RELAXATION = 0.0005
"""Seconds per second by which the target returns to its initial value: 100 ms of latency in about three minutes."""
_MAX_SURPLUS_SECONDS = 0.5
"""Excess fill beyond which audio is skipped, for instance after the machine was suspended."""
_MAX_TARGET_SECONDS = 0.5
_FADE_SECONDS = 0.005
_HOLD_SECONDS = 0.1
_LOWEST_HZ, _HIGHEST_HZ = 66, 400


class PlayBuffer:
    """Queue between an engine and a device with different clocks."""

    def __init__(self, engine_rate: int, device_rate: int, target_seconds: float) -> None:
        """Initialize an empty buffer.

        Args:
            engine_rate: Sampling rate of the written audio in Hz.
            device_rate: Sampling rate of the returned audio in Hz.
            target_seconds: Initial and smallest target of the mean fill.
        """
        self.target_seconds = self._least_target_seconds = target_seconds
        self.underruns = 0
        """Number of underruns since the start of playback."""
        self.skipped_seconds = 0.0
        """Audio that was skipped."""
        self._engine_rate, self._rate = engine_rate, device_rate
        self._resampler = VariableResampler(engine_rate, device_rate)
        self._fade = round(_FADE_SECONDS * device_rate)
        self._lock = Lock()
        self._waiting = np.zeros(0, np.float32)
        self._past = np.zeros(round(2 * device_rate / _LOWEST_HZ), np.float32)
        # Extrapolated audio for an underrun, and the number of its samples played.
        self._hold, self._held = np.zeros(0, np.float32), 0
        self._started = False
        self._mean_fill, self._integral = target_seconds, 0.0

    @property
    def fill_seconds(self) -> float:
        """Mean time that samples spend in the buffer."""
        return self._mean_fill

    @property
    def speed(self) -> float:
        """Speed of the resampler: the ratio of the clocks, once the loop has settled."""
        return self._resampler.speed

    def write(self, audio: np.ndarray) -> None:
        """Append samples at the rate of the engine, float32 [N]."""
        self._control(len(audio) / self._engine_rate)
        audio = self._resampler.push(audio)
        if not len(audio):
            return
        self._past = np.concatenate([self._past, audio])[-len(self._past) :]
        hold = extension(self._past, self._rate)
        with self._lock:
            if self._held:
                audio = self._joined(audio)
            self._waiting = np.concatenate([self._waiting, audio])
            self._hold = hold
            self._started = self._started or len(self._waiting) >= self.target_seconds * self._rate
            self._skip()

    def read(self, count: int) -> np.ndarray:
        """Return the next samples at the rate of the device, float32 [count]; never waits for the engine."""
        with self._lock:
            if not self._started:
                return np.zeros(count, np.float32)
            ready, self._waiting = self._waiting[:count], self._waiting[count:]
            missing = count - len(ready)
            if not missing:
                return ready
            self.underruns += not self._held
            held = self._hold[self._held : self._held + missing]
            self._held += missing
            return np.concatenate([ready, held, np.zeros(missing - len(held), np.float32)])

    def _joined(self, audio: np.ndarray) -> np.ndarray:
        """Crossfade from the extrapolated audio to the next samples, and raise the target."""
        held = self._hold[self._held : self._held + min(self._fade, len(audio))]
        ramp = (np.arange(min(self._fade, len(audio)), dtype=np.float32) + 0.5) / self._fade
        audio = audio.copy()
        audio[: len(ramp)] *= ramp
        audio[: len(held)] += held * (1 - ramp[: len(held)])
        raised = self.target_seconds + min(self._held / self._rate, _MAX_TARGET_SECONDS / 4)
        self.target_seconds, self._held = min(raised, _MAX_TARGET_SECONDS), 0
        return audio

    def _skip(self) -> None:
        surplus = len(self._waiting) - round((self.target_seconds + _MAX_SURPLUS_SECONDS) * self._rate)
        if surplus <= 0:
            return
        skipped = len(self._waiting) - round(self.target_seconds * self._rate) - self._fade
        old, new = self._waiting[: self._fade], self._waiting[skipped:].copy()
        ramp = (np.arange(self._fade, dtype=np.float32) + 0.5) / self._fade
        new[: self._fade] = old * (1 - ramp) + new[: self._fade] * ramp
        self._waiting = new
        self.skipped_seconds += skipped / self._rate
        self._mean_fill = self.target_seconds

    def _control(self, seconds: float) -> None:
        """Set the speed of the resampler from the fill; `seconds` have passed."""
        self.target_seconds = max(self.target_seconds - _RELAXATION * seconds, self._least_target_seconds)
        share = min(seconds / _SMOOTHING_SECONDS, 1)
        self._mean_fill += share * (len(self._waiting) / self._rate + seconds / 2 - self._mean_fill)
        error = self._mean_fill - self.target_seconds
        drift = _PROPORTIONAL * error + self._integral
        if abs(drift) < _MAX_DRIFT:
            self._integral += _INTEGRAL * error * seconds
        self._resampler.speed = 1 + float(np.clip(drift, -_MAX_DRIFT, _MAX_DRIFT))


def extension(past: np.ndarray, sample_rate: int) -> np.ndarray:
    """Extrapolate audio [N]: repeat its last period with a fade-out; return float32."""
    shortest, longest = sample_rate // _HIGHEST_HZ, sample_rate // _LOWEST_HZ
    pattern = past[-shortest:]
    # Every fourth lag: enough for speech, and quick.
    lags = np.arange(shortest, longest, 4)
    candidates = np.lib.stride_tricks.sliding_window_view(past, shortest)[len(past) - shortest - lags]
    correlation = candidates @ pattern / np.sqrt(np.einsum("lk,lk->l", candidates, candidates) + 1e-9)
    period = past[-lags[int(correlation.argmax())] :]
    samples = round(_HOLD_SECONDS * sample_rate)
    repeated = np.tile(period, samples // len(period) + 1)[:samples]
    return (repeated * np.minimum(np.linspace(1.25, 0, samples), 1)).astype(np.float32)
