"""Noise reduction for streams: less steady noise, little change of a clean voice, a delay of 8 ms."""

import golden_rule
import numpy as np
import pytest

from rvc_lightning.audio.live_denoise import LiveDenoiser

RATE = 16000


def denoised(strength, audio, *blocks, sample_rate=RATE):
    """Return the result for audio in blocks of these lengths, repeated, without the delay."""
    denoiser, pieces, start = LiveDenoiser(strength, sample_rate), [], 0
    while start < len(audio):
        block = audio[start : start + blocks[len(pieces) % len(blocks)]]
        pieces.append(denoiser.push(block))
        assert len(pieces[-1]) == len(block)
        start += len(block)
    return np.concatenate([*pieces, denoiser.finish()])[denoiser.delay_samples :]


def words(seconds=4.0):
    """Return a voice with pauses after a second of silence."""
    time = np.arange(round(seconds * RATE)) / RATE
    tone = sum(np.sin(2 * np.pi * k * (140 + 20 * np.sin(2 * np.pi * time)) * time) / k for k in range(1, 20))
    voice = 0.15 * tone * (np.sin(2 * np.pi * 1.3 * time) > 0) * np.abs(np.sin(2 * np.pi * 4 * time))
    return np.concatenate([np.zeros(RATE), voice]).astype(np.float32)


@pytest.mark.parametrize("sample_rate", [8000, 16000, 44100, 192000])
def test_strength_0_reconstructs_the_input(sample_rate):
    audio = golden_rule.stub_audio("denoise", 0.7, sample_rate)
    np.testing.assert_allclose(denoised(0.0, audio, 480, sample_rate=sample_rate), audio, atol=1e-6)
    assert LiveDenoiser(0.0, sample_rate).delay_samples == pytest.approx(0.008 * sample_rate, rel=0.01)


def test_result_does_not_depend_on_the_blocks():
    audio = words(2.0) + np.random.default_rng(0).normal(0, 0.01, 3 * RATE).astype(np.float32)
    expected = denoised(1.0, audio, len(audio))
    for blocks in ((1, 700, 63), (64,), (160,)):
        np.testing.assert_allclose(denoised(1.0, audio, *blocks), expected, atol=1e-7)


def test_noise_is_removed_and_a_voice_is_kept():
    voice = words()
    noise = np.random.default_rng(0).normal(0, 1, len(voice)).astype(np.float32)
    noise *= np.std(voice[RATE:]) / np.std(noise) / 10**0.5
    output, clean = denoised(1.0, voice + noise, 160), denoised(1.0, voice, 160)
    pause = slice(RATE * 6 // 10, RATE)
    assert np.std(output[pause]) < 0.2 * np.std(noise[pause])
    assert np.std((output - voice)[RATE:]) < 0.75 * np.std(noise[RATE:])
    assert np.std((clean - voice)[RATE:]) < 0.1 * np.std(voice[RATE:])


def test_silence_stays_silent():
    assert not denoised(1.0, np.zeros(2 * RATE, np.float32), 160).any()
