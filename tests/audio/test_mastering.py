"""Loudness and true peaks of finished audio."""

import logging
import math
import sys

import numpy as np
import pytest

from rvc_lightning.audio.mastering import loudness_lufs, master, match_loudness, true_peak
from rvc_lightning.errors import ConfigurationError

pytest.importorskip("pyloudnorm")

RATE = 44100


def tone(seconds=3.0, hertz=997.0, peak=0.1, channels=2, sample_rate=RATE):
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    return np.repeat(peak * np.sin(2 * np.pi * hertz * time)[:, None], channels, axis=1).astype(np.float32)


def music(seconds=5.0, level=0.1):
    """Return noise with bursts, float32 [N, 2]."""
    rng = np.random.default_rng(0)
    audio = rng.normal(0, level, (round(seconds * RATE), 2))
    audio[:: RATE // 4] += 1.5
    return audio.astype(np.float32)


@pytest.mark.parametrize("sample_rate", [22050, 44100, 48000, 96000])
def test_loudness_of_the_reference_tone(sample_rate):
    # BS.1770: a tone of 997 Hz at full scale in one channel has -3.01 LUFS.
    audio = tone(peak=1.0, channels=1, sample_rate=sample_rate)
    assert loudness_lufs(audio, sample_rate) == pytest.approx(-3.01, abs=0.1)


def test_silence_and_short_audio_have_a_loudness():
    assert loudness_lufs(np.zeros((RATE, 2), np.float32), RATE) == -math.inf
    assert loudness_lufs(np.zeros((0, 2), np.float32), RATE) == -math.inf
    assert math.isfinite(loudness_lufs(tone(0.1), RATE))


def test_true_peak_lies_between_samples():
    # A quarter of the rate, sampled at 45 degrees: samples reach 0.707 of the peak.
    samples = np.arange(2000)
    audio = np.sin(np.pi / 2 * samples + np.pi / 4).astype(np.float32)[:, None]
    assert np.abs(audio).max() == pytest.approx(0.7071, abs=1e-3)
    assert true_peak(audio[500:1500] * np.hanning(1000).astype(np.float32)[:, None]) == pytest.approx(1.0, abs=0.01)
    assert true_peak(np.zeros((0, 2), np.float32)) == 0


@pytest.mark.parametrize("target", [-23.0, -14.0, -9.0])
def test_target_is_reached_below_the_limit(target):
    result = master(music(), RATE, target, -1.0)
    assert loudness_lufs(result, RATE) == pytest.approx(target, abs=0.1)
    assert 20 * math.log10(true_peak(result)) <= -1.0 + 0.01
    assert result.shape == music().shape and result.dtype == np.float32


def test_audio_below_the_limit_is_only_scaled():
    result = master(tone(), RATE, -20.0, -1.0)
    gain = result[100, 0] / tone()[100, 0]
    np.testing.assert_allclose(result, tone() * gain, atol=1e-6)


def test_limiter_keeps_the_place_of_peaks():
    result = master(music(), RATE, -9.0, -1.0)
    loud = np.flatnonzero(np.abs(music()[:, 0]) > 1)
    assert np.argmax(np.abs(result[: loud[1] - 100, 0])) == loud[0]


def test_unreachable_loudness_is_reported(caplog):
    clicks = np.zeros((3 * RATE, 1), np.float32)
    clicks[:: RATE // 2] = 0.5
    with caplog.at_level(logging.WARNING):
        result = master(clicks, RATE, -5.0, -1.0)
    assert "-5.0 needs peaks above peak_db=-1" in caplog.text
    assert true_peak(result) <= 10 ** (-1 / 20) * 1.001


def test_silence_is_returned_unchanged():
    silence = np.zeros((RATE, 2), np.float32)
    np.testing.assert_array_equal(master(silence, RATE, -14.0, -1.0), silence)
    np.testing.assert_array_equal(match_loudness(silence, RATE, -14.0), silence)
    np.testing.assert_array_equal(match_loudness(tone(), RATE, -math.inf), tone())


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyloudnorm", None)
    with pytest.raises(ConfigurationError, match=r'package pyloudnorm .*pip install "rvc-lightning\[covers\]"'):
        loudness_lufs(tone(), RATE)
