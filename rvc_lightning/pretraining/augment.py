"""Speech as other rooms, microphones and lines would give it.

Letters: T samples at 16 kHz.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft

from rvc_lightning.audio.frames import SAMPLE_RATE

_ROOM_SAMPLES = SAMPLE_RATE // 2


@dataclass(frozen=True)
class AugmentConfig:
    """How far speech is changed; each change is drawn anew for each example.

    Attributes:
        speed: Largest factor of pace, pitch and formants together, up or down.
        formants: Largest factor of formants alone, up or down.
        level_db: Lowest peak, under full scale.
        equalizer_db: Deviation of the gain at points spread over the band.
        p_room: Share of examples with reverberation.
        p_noise: Share of examples with noise.
        least_snr_db: Of the noise.
        p_band: Share of examples whose band is cut.
        p_mask: Share of examples with bands and times left out.
    """

    speed: float = 1.3
    formants: float = 1.25
    level_db: float = 35.0
    equalizer_db: float = 5.0
    p_room: float = 0.25
    p_noise: float = 0.4
    least_snr_db: float = 3.0
    p_band: float = 0.2
    p_mask: float = 0.4


def augmented(speech: np.ndarray, other: np.ndarray, config: AugmentConfig, draw: np.random.Generator) -> np.ndarray:
    """Filtered, in a room, with noise, at another level: float32 [T] to the same length.

    Args:
        speech: Float32 [T].
        other: Other speech [T], for the noise of people talking.
        config: How far.
        draw: Of all choices.
    """
    # Room for the reverberation, so that the end does not come round to the beginning.
    total = next_fast_len(len(speech) + _ROOM_SAMPLES, real=True)
    spectrum = rfft(speech, total)
    frequency = np.linspace(0, 1, len(spectrum), dtype=np.float32)
    spectrum *= _equalizer(frequency, config, draw)
    if draw.random() < config.p_room:
        spectrum *= rfft(_room(draw), total)
    if draw.random() < config.p_band:
        spectrum *= _band(frequency, draw)
    heard = irfft(spectrum, total)[: len(speech)]
    if draw.random() < config.p_noise:
        snr_db = draw.uniform(config.least_snr_db, 40)
        noise = _noise(len(speech), other, draw)
        heard = heard + noise * _rms(heard) / _rms(noise) * 10 ** (-snr_db / 20)
    if draw.random() < 0.1:
        # An overdriven input.
        heard = np.tanh(heard / np.abs(heard).max(initial=1e-6) * draw.uniform(1, 4))
    peak_db = draw.uniform(-config.level_db, 0)
    return (heard / np.abs(heard).max(initial=1e-6) * 10 ** (peak_db / 20)).astype(np.float32)


def _equalizer(frequency: np.ndarray, config: AugmentConfig, draw: np.random.Generator) -> np.ndarray:
    """A smooth gain, over frequency from 0 to 1 of the band; points lie closer together below."""
    points = np.linspace(0, 1, 8) ** 2
    gain_db = np.interp(frequency, points, draw.normal(0, config.equalizer_db, 8))
    return 10 ** (gain_db.astype(np.float32) / 20)


def _room(draw: np.random.Generator) -> np.ndarray:
    """An impulse response: the direct sound, and noise that dies away in 0.1 to 0.7 s."""
    reverberation_s = draw.uniform(0.1, 0.7)
    time_s = np.arange(_ROOM_SAMPLES, dtype=np.float32) / SAMPLE_RATE
    tail = draw.standard_normal(_ROOM_SAMPLES, dtype=np.float32) * 10 ** (-3 * time_s / reverberation_s)
    tail[: round(draw.uniform(0.001, 0.01) * SAMPLE_RATE)] = 0
    response = tail / np.sqrt(np.square(tail).sum()) * 10 ** (-draw.uniform(-2, 12) / 20)
    response[0] = 1
    return response


def _band(frequency: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """A gain that cuts below 50 to 400 Hz and above 3 to 8 kHz, as small loudspeakers and lines do."""
    hz = np.maximum(frequency * (SAMPLE_RATE / 2), 1.0)
    low_hz, high_hz = draw.uniform(50, 400), draw.uniform(3000, 8000)
    return 1 / (1 + (low_hz / hz) ** 4) / (1 + (hz / high_hz) ** 16)


def _noise(samples: int, other: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Noise of any colour from white to brown, or people, or a hum."""
    kind = draw.random()
    if kind < 0.25 and np.any(other):
        return np.roll(other, draw.integers(samples)) + np.roll(other[::-1], draw.integers(samples))
    if kind < 0.35:
        time_s = np.arange(samples, dtype=np.float32) / SAMPLE_RATE
        hum_hz = draw.choice((50, 60))
        return np.sum([np.sin(np.float32(2 * np.pi * hum_hz * n) * time_s) / n for n in range(1, 6)], axis=0)
    spectrum = rfft(draw.standard_normal(samples, dtype=np.float32))
    slope = np.float32(draw.uniform(0, 1))
    return irfft(spectrum / np.maximum(np.arange(len(spectrum), dtype=np.float32), 10) ** slope, samples)


def _rms(audio: np.ndarray) -> float:
    return float(np.sqrt(np.square(audio).mean())) + 1e-8
