"""The resampler of live audio: aligned, exact in length, with a short delay and a ratio that can change."""

import numpy as np
import pytest
import soxr

from rvc_lightning.audio.variable_rate import VariableResampler, resampling_delay

RATES = [(48000, 16000), (44100, 16000), (24000, 48000), (16000, 44100), (48000, 48000)]


def noise(samples, seed=0):
    return np.random.default_rng(seed).normal(size=samples).astype(np.float32) * 0.1


def band_limited(rate, highest_hz, seconds=0.5):
    time = np.arange(round(rate * seconds)) / rate
    return sum(0.1 * np.sin(2 * np.pi * hz * time + hz) for hz in np.linspace(100, highest_hz, 7)).astype(np.float32)


@pytest.mark.parametrize("from_rate, to_rate", RATES)
def test_agrees_with_soxr(from_rate, to_rate):
    audio = band_limited(from_rate, 0.43 * min(from_rate, to_rate))
    resampler = VariableResampler(from_rate, to_rate)
    result = np.concatenate([resampler.push(audio), resampler.finish()])
    expected = soxr.resample(audio, from_rate, to_rate, quality="VHQ")
    assert len(result) == -(-len(audio) * to_rate // from_rate)
    inner = slice(to_rate // 20, -to_rate // 20)
    assert np.abs(result[inner] - expected[: len(result)][inner]).max() < 2e-4


def test_frequencies_above_the_lower_rate_are_removed():
    tone = np.sin(2 * np.pi * 9000 * np.arange(24000) / 48000).astype(np.float32)
    assert np.abs(VariableResampler(48000, 16000).push(tone)[200:-200]).max() < 1e-3


@pytest.mark.parametrize("from_rate, to_rate", RATES)
def test_does_not_depend_on_the_blocks(from_rate, to_rate):
    audio = noise(5000)
    whole = VariableResampler(from_rate, to_rate)
    expected = np.concatenate([whole.push(audio), whole.finish()])
    parts = VariableResampler(from_rate, to_rate)
    pieces = [parts.push(piece) for piece in np.split(audio, [1, 2, 300, 301, 4000])]
    np.testing.assert_allclose(np.concatenate([*pieces, parts.finish()]), expected, atol=1e-6)


@pytest.mark.parametrize("from_rate, to_rate", RATES)
def test_delay_equals_the_retained_samples(from_rate, to_rate):
    resampler, given, held = VariableResampler(from_rate, to_rate), 0, 0.0
    for taken in range(48, from_rate // 4, 48):
        given += len(resampler.push(np.zeros(48, np.float32)))
        held = max(held, taken / from_rate - given / to_rate)
    assert 0 < held <= 50 / min(from_rate, to_rate)
    assert resampling_delay(from_rate, to_rate) == (0 if from_rate == to_rate else pytest.approx(held, rel=0.1))


def test_speed_changes_the_length_and_makes_no_click():
    audio = np.sin(2 * np.pi * 200 * np.arange(48000) / 48000).astype(np.float32)
    resampler, pieces = VariableResampler(48000, 44100), []
    for number, block in enumerate(np.split(audio, 100)):
        resampler.speed = 1.0005 if number % 2 else 0.9995
        pieces.append(resampler.push(block))
    result = np.concatenate(pieces)
    assert abs(len(result) - 44100) < 100
    assert np.abs(np.diff(result[200:], n=2)).max() < 1.05 * (2 * np.pi * 200 / 44100) ** 2
    fast = VariableResampler(48000, 48000)
    fast.speed = 1.01
    assert len(fast.push(audio)) == pytest.approx(48000 / 1.01, abs=60)
