"""High-pass filters and normalization."""

import numpy as np
import pytest
from scipy import signal

from rvc_lightning.audio.filters import highpass_blocks, highpass_zero_phase
from rvc_lightning.audio.loudness import normalization_gain, normalize, peak_defect, peak_of


def tone(frequency_hz, sample_rate=16000):
    return np.sin(2 * np.pi * frequency_hz * np.arange(2 * sample_rate) / sample_rate).astype(np.float32)


def highpass(audio, sample_rate, block_samples=1000):
    blocks = [audio[start : start + block_samples] for start in range(0, len(audio), block_samples)]
    return np.concatenate([*highpass_blocks(blocks, sample_rate)])


@pytest.mark.parametrize("apply", [highpass, highpass_zero_phase])
def test_rumble_is_removed_and_speech_is_kept(apply):
    middle = slice(8000, 24000)
    assert np.abs(apply(tone(10) + 0.5, 16000)[middle]).max() < 1e-2
    np.testing.assert_allclose(np.abs(apply(tone(200), 16000)[middle]).max(), 1, atol=1e-2)


@pytest.mark.parametrize("sample_rate", [16000, 24000, 40000, 48000])
def test_causal_filter_equals_lfilter(sample_rate):
    audio = np.random.default_rng(0).normal(0, 0.3, sample_rate).astype(np.float32)
    numerator, denominator = signal.butter(5, 48, btype="highpass", fs=sample_rate)
    expected = signal.lfilter(numerator, denominator, audio.astype(np.float64))
    result = highpass(audio, sample_rate)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, atol=1e-4)


def test_empty_blocks_are_ignored():
    """Resamplers may yield them."""
    audio = np.random.default_rng(0).normal(0, 0.3, 3000).astype(np.float32)
    blocks = [audio[:0], audio[:1000], audio[:0], audio[1000:], audio[:0]]
    np.testing.assert_array_equal(np.concatenate([*highpass_blocks(blocks, 16000)]), highpass(audio, 16000, len(audio)))


def test_zero_phase_equals_filtfilt():
    audio = np.random.default_rng(0).normal(0, 0.3, 5000).astype(np.float32)
    numerator, denominator = signal.butter(5, 48, btype="highpass", fs=16000)
    np.testing.assert_allclose(
        highpass_zero_phase(audio, 16000), signal.filtfilt(numerator, denominator, audio), atol=1e-6
    )


@pytest.mark.parametrize("samples", [1, 2, 17, 18, 19, 20])
def test_zero_phase_accepts_short_input(samples):
    result = highpass_zero_phase(np.full(samples, 0.1, np.float32), 16000)
    assert result.shape == (samples,) and np.isfinite(result).all()


def test_normalization_formula():
    audio = np.array([0.5, -0.2], np.float32)
    np.testing.assert_allclose(normalize(audio), 0.9 * 0.75 * audio / 0.5 + 0.25 * audio, rtol=1e-6)
    assert normalization_gain(0.9) == pytest.approx(0.9 * 0.75 / 0.9 + 0.25)


def test_silence_is_not_normalized():
    np.testing.assert_array_equal(normalize(np.zeros(10, np.float32)), np.zeros(10))
    assert peak_of(np.zeros(0)) == 0


def test_peak_defects():
    assert peak_defect(0.5) is None and peak_defect(2.5) is None
    assert "silent" in peak_defect(0.0)
    assert "2.5" in peak_defect(2.6)
