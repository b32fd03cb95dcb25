"""Noise goes, speech stays, silence is no special case."""

import numpy as np
import pytest

from rvc_lightning.audio import noise
from rvc_lightning.audio.decode import load_audio
from rvc_lightning.audio.noise import check_strength, noise_profile, reduce_noise
from rvc_lightning.errors import ConfigurationError
from rvc_lightning.resolvers import DEMO_FOLDER

RATE = 16000


@pytest.fixture(scope="module")
def sentence():
    """A sentence and a second after it, and noise."""
    audio, _ = load_audio(min((DEMO_FOLDER / "target").iterdir()), RATE)
    audio = np.concatenate([audio, np.zeros(RATE, np.float32)])
    return audio, np.random.default_rng(0).normal(0, 0.003, len(audio)).astype(np.float32)


def rms(audio):
    return float(np.sqrt(np.square(audio, dtype=np.float64).mean()))


def test_strength_is_the_share_of_noise_that_goes_and_speech_stays(sentence):
    clean, hiss = sentence
    after, before = slice(-RATE // 2, None), slice(None, -RATE)
    reduced = {strength: reduce_noise(clean + hiss, RATE, strength) for strength in (0.0, 0.5, 1.0)}
    left = [rms(audio[after]) / rms(hiss[after]) for audio in reduced.values()]
    np.testing.assert_allclose(left, [1.0, 0.5, 0.05], atol=0.05)
    assert rms(reduced[1.0][before]) > 0.85 * rms(clean[before])


def test_the_same_every_time_and_in_place(sentence):
    clean, hiss = sentence
    once, twice = (reduce_noise(clean + hiss, RATE, 0.7) for _ in range(2))
    np.testing.assert_array_equal(once, twice)
    assert once.dtype == np.float32 and len(once) == len(clean)
    lags = np.arange(-50, 51)
    assert lags[int(np.argmax([np.dot(np.roll(once, lag), clean) for lag in lags]))] == 0


def test_digital_silence_is_no_noise_and_no_nan(sentence):
    clean, hiss = sentence
    gated = np.concatenate([clean + hiss, np.zeros(20 * RATE, np.float32)])
    assert rms(noise_profile(gated, RATE)) == pytest.approx(rms(hiss), rel=0.1)
    reduced = reduce_noise(gated, RATE, 1.0)
    assert np.isfinite(reduced).all() and not reduced[-RATE:].any()
    assert not reduce_noise(np.zeros(RATE, np.float32), RATE, 1.0).any()


def test_blocks_do_not_matter(sentence, monkeypatch):
    audio = sentence[0] + sentence[1]
    whole = reduce_noise(audio, RATE, 1.0)
    monkeypatch.setattr(noise, "_BLOCK_SAMPLES", 1 << 14)
    np.testing.assert_allclose(reduce_noise(audio, RATE, 1.0), whole, atol=2e-3)


@pytest.mark.parametrize("samples", [0, 1, 600, 5000])
def test_any_length(sentence, samples):
    reduced = reduce_noise(sentence[1][:samples], RATE, 1.0)
    assert len(reduced) == samples and np.isfinite(reduced).all()


def test_the_profile_of_hours_is_short(sentence):
    assert len(noise_profile(np.tile(sentence[1], 40), RATE)) <= 5 * RATE


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_a_strength_is_a_share(strength):
    with pytest.raises(ConfigurationError, match=r"noise=.*from 0 "):
        check_strength("noise", strength)
