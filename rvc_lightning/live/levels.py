"""Gains without clicks, noise reduction, noise gate and level meter.

Legend: N samples.
"""

from __future__ import annotations

import math

import numpy as np

from rvc_lightning.audio.levels import LOWEST_DB, rms
from rvc_lightning.audio.live_denoise import LiveDenoiser

_HOP_SECONDS = 0.01
_ATTACK_SECONDS = 0.005
_RELEASE_SECONDS = 0.06
_HOLD_SECONDS = 0.25


def decibels(level: float) -> float:
    """Return a level relative to full scale in dB, at least -120."""
    return max(20 * math.log10(max(level, 1e-12)), LOWEST_DB)


def amplitude(db: float) -> float:
    """Return the factor of a gain in dB."""
    return 10 ** (db / 20)


class Ramp:
    """A factor that moves linearly to its target."""

    def __init__(self, value: float, samples: int) -> None:
        """Start at `value`; a change from 0 to 1 takes `samples`."""
        self.value = self.target = value
        self._samples = samples

    def take(self, count: int) -> np.ndarray:
        """Return the next values, float32 [count]."""
        distance = self.target - self.value
        steps = np.minimum(np.arange(1, count + 1) * (max(abs(distance), 1) / self._samples), abs(distance))
        values = self.value + math.copysign(1, distance) * steps
        if count:
            self.value = float(values[-1])
        return values.astype(np.float32)


class Gate:
    """Noise gate: mutes audio below a threshold. The 10 ms that open the gate are not muted."""

    def __init__(self, sample_rate: int) -> None:
        self.threshold_db: float | None = None
        """Level of a hop that opens the gate, in dB of full scale; None keeps it open."""
        self._rate, self._hop = sample_rate, max(round(_HOP_SECONDS * sample_rate), 1)
        self._gain, self._hold = 1.0, 0

    def push(self, audio: np.ndarray) -> np.ndarray:
        """Return the samples [N], faded out where the gate is closed."""
        hops = [self._apply(audio[start : start + self._hop]) for start in range(0, len(audio), self._hop)]
        return np.concatenate([np.zeros(0, np.float32), *hops])

    def _apply(self, hop: np.ndarray) -> np.ndarray:
        if self.threshold_db is None or decibels(rms(hop)) >= self.threshold_db:
            self._hold = round(_HOLD_SECONDS * self._rate)
        else:
            self._hold -= len(hop)
        seconds = _ATTACK_SECONDS if self._hold > 0 else -_RELEASE_SECONDS
        gains = np.clip(self._gain + np.arange(1, len(hop) + 1) / (seconds * self._rate), 0, 1)
        self._gain = float(gains[-1])
        return hop * gains.astype(np.float32)


class InputDenoiser:
    """Noise reduction that can be turned on and off; its delay fades in and out."""

    def __init__(self, sample_rate: int, fade_samples: int) -> None:
        self.strength = 0.0
        """Share of the noise to remove, 0 to 1; 0 returns the input without delay."""
        self._rate, self._share = sample_rate, Ramp(0.0, fade_samples)
        self._recent = np.zeros(LiveDenoiser(0.0, sample_rate).delay_samples, np.float32)
        self._denoiser: LiveDenoiser | None = None

    @property
    def delay_samples(self) -> int:
        """Delay of the result."""
        return len(self._recent) if self.strength else 0

    def push(self, audio: np.ndarray) -> np.ndarray:
        """Return the samples [N] with less noise."""
        self._share.target = float(self.strength > 0)
        if self.strength and self._denoiser is None:
            self._denoiser = LiveDenoiser(self.strength, self._rate)
            self._denoiser.push(self._recent)
        self._recent = np.concatenate([self._recent, audio])[len(audio) :]
        if self._denoiser is None:
            return audio
        self._denoiser.strength = self.strength or self._denoiser.strength
        share = self._share.take(len(audio))
        output = audio * (1 - share) + self._denoiser.push(audio) * share
        if not self._share.value and not self.strength:
            self._denoiser = None
        return output

    def finish(self) -> np.ndarray:
        """Return the samples that are still delayed."""
        return self._denoiser.finish() if self._denoiser and self.strength else np.zeros(0, np.float32)


class Meter:
    """Level meter with exponential averaging."""

    def __init__(self, sample_rate: int, seconds: float = 0.2) -> None:
        self._samples = sample_rate * seconds
        self._power = 0.0

    def push(self, audio: np.ndarray) -> None:
        """Measure samples [N]."""
        keep = math.exp(-len(audio) / self._samples)
        self._power = keep * self._power + (1 - keep) * rms(audio) ** 2

    @property
    def level_db(self) -> float:
        """Level in dB of full scale."""
        return decibels(math.sqrt(self._power))
