"""Augmentation of speech by rooms, microphones, noise and transmission.

Legend: T samples at 16 kHz.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft

from rvc_lightning.audio.frames import SAMPLE_RATE
from rvc_lightning.audio.levels import rms
from rvc_lightning.config.options import Settings, option

_ROOM_SAMPLES = SAMPLE_RATE // 2
_SILENT_RMS = 1e-8


@dataclass(frozen=True, kw_only=True)
class AugmentConfig(Settings, group="model.augment"):
    """Ranges of the random changes of each example; the defaults are in `conf/pretraining_train.yaml`."""

    speed: float = option(help="largest factor of pace, pitch and formants together, up or down", min=1, max=4)
    formants: float = option(help="largest factor of the formants alone, up or down", min=1, max=4)
    level_db: float = option(help="largest attenuation of the peak below full scale", unit="dB", min=0)
    equalizer_db: float = option(help="standard deviation of the gain across the band", unit="dB", min=0)
    p_room: float = option(help="share of examples with reverberation", min=0, max=1)
    p_noise: float = option(help="share of examples with noise", min=0, max=1)
    min_snr_db: float = option(help="lowest signal-to-noise ratio", unit="dB", min=-40, max=40)
    p_band: float = option(help="share of examples with a limited band", min=0, max=1)
    p_mask: float = option(help="share of examples with masked bands and times", min=0, max=1)


def augment_speech(
    speech: np.ndarray, other: np.ndarray, config: AugmentConfig, rng: np.random.Generator
) -> np.ndarray:
    """Filter speech, put it in a room, add noise and change its level: [T] -> [T], float32.

    Args:
        speech: Float32 [T].
        other: Other speech [T], for babble noise.
        config: Ranges of the changes.
        rng: Source of all random choices.
    """
    # Padding for the reverberation, since the convolution is circular.
    total = next_fast_len(len(speech) + _ROOM_SAMPLES, real=True)
    spectrum = rfft(speech, total)
    frequency = np.linspace(0, 1, len(spectrum), dtype=np.float32)
    spectrum *= _equalizer(frequency, config, rng)
    if rng.random() < config.p_room:
        spectrum *= rfft(_room(rng), total)
    if rng.random() < config.p_band:
        spectrum *= _band(frequency, rng)
    audio = irfft(spectrum, total)[: len(speech)]
    if rng.random() < config.p_noise:
        snr_db = rng.uniform(config.min_snr_db, 40)
        noise = _noise(len(speech), other, rng)
        audio = audio + noise * rms(audio) / max(rms(noise), _SILENT_RMS) * 10 ** (-snr_db / 20)
    if rng.random() < 0.1:
        # An overdriven input.
        audio = np.tanh(audio / np.abs(audio).max(initial=1e-6) * rng.uniform(1, 4))
    peak_db = rng.uniform(-config.level_db, 0)
    return (audio / np.abs(audio).max(initial=1e-6) * 10 ** (peak_db / 20)).astype(np.float32)


def _equalizer(frequency: np.ndarray, config: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """Return a smooth gain over the relative frequency 0 to 1; its nodes are denser at low frequencies."""
    nodes = np.linspace(0, 1, 8) ** 2
    gain_db = np.interp(frequency, nodes, rng.normal(0, config.equalizer_db, 8))
    return 10 ** (gain_db.astype(np.float32) / 20)


def _room(rng: np.random.Generator) -> np.ndarray:
    """Return a room impulse response: the direct sound, and noise that decays by 60 dB in 0.1 to 0.7 s."""
    reverberation_s = rng.uniform(0.1, 0.7)
    time_s = np.arange(_ROOM_SAMPLES, dtype=np.float32) / SAMPLE_RATE
    tail = rng.standard_normal(_ROOM_SAMPLES, dtype=np.float32) * 10 ** (-3 * time_s / reverberation_s)
    tail[: round(rng.uniform(0.001, 0.01) * SAMPLE_RATE)] = 0
    response = tail / np.sqrt(np.square(tail).sum()) * 10 ** (-rng.uniform(-2, 12) / 20)
    response[0] = 1
    return response


def _band(frequency: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a gain that cuts below 50 to 400 Hz and above 3 to 8 kHz, like small loudspeakers and phone lines."""
    hz = np.maximum(frequency * (SAMPLE_RATE / 2), 1.0)
    low_hz, high_hz = rng.uniform(50, 400), rng.uniform(3000, 8000)
    return 1 / (1 + (low_hz / hz) ** 4) / (1 + (hz / high_hz) ** 16)


def _noise(samples: int, other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return babble, mains hum, or noise of a color between white and brown."""
    kind = rng.random()
    if kind < 0.25 and np.any(other):
        return np.roll(other, rng.integers(samples)) + np.roll(other[::-1], rng.integers(samples))
    if kind < 0.35:
        time_s = np.arange(samples, dtype=np.float32) / SAMPLE_RATE
        hum_hz = rng.choice((50, 60))
        return np.sum([np.sin(np.float32(2 * np.pi * hum_hz * n) * time_s) / n for n in range(1, 6)], axis=0)
    spectrum = rfft(rng.standard_normal(samples, dtype=np.float32))
    slope = np.float32(rng.uniform(0, 1))
    return irfft(spectrum / np.maximum(np.arange(len(spectrum), dtype=np.float32), 10) ** slope, samples)
