"""Stages: the result does not depend on the blocks."""

import numpy as np
import pytest

from rvc_lightning.audio.decode import resample
from rvc_lightning.audio.denoise import Denoiser
from rvc_lightning.audio.stages import Chain, Parts, Resampler, run

RATE = 8000


def noise(seconds, level=0.1, seed=0):
    return (level * np.random.default_rng(seed).standard_normal(round(seconds * RATE))).astype(np.float32)


def through(stage, audio, block=None):
    blocks = [audio] if block is None else np.split(audio, range(block, len(audio), block))
    return np.concatenate(list(run(stage, blocks)))


STAGES = {
    "resampler": lambda: Resampler(RATE, 11025),
    "denoiser": lambda: Denoiser(0.8, RATE),
    "parts": lambda: Parts(lambda audio: np.flip(np.cumsum(audio)).astype(np.float32), RATE, part_seconds=2.0,
                           search_seconds=0.5, context_seconds=0.25),
    "chain": lambda: Chain([Denoiser(0.5, RATE), Resampler(RATE, 6000)]),
    "empty chain": lambda: Chain([]),
}  # fmt: skip


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize("block", [1001, 8192])
def test_blocks_equal_the_whole(name, block):
    audio = noise(5.3)
    whole = through(STAGES[name](), audio)
    assert whole.dtype == np.float32 and np.isfinite(whole).all()
    np.testing.assert_array_equal(through(STAGES[name](), audio, block), whole)


@pytest.mark.parametrize("name", [name for name in STAGES if name not in ("resampler", "chain")])
@pytest.mark.parametrize("samples", [0, 1, 127, 128, 129, 15999, 16000, 16001])
def test_length_is_preserved(name, samples):
    assert len(through(STAGES[name](), noise(3)[:samples], 4000)) == samples


@pytest.mark.parametrize(("from_rate", "to_rate"), [(40000, 48000), (48000, 44100), (8000, 8000), (40000, 16000)])
@pytest.mark.parametrize("samples", [0, 1, 4801])
def test_resampler_equals_resample(from_rate, to_rate, samples):
    audio = noise(1)[:samples]
    np.testing.assert_array_equal(
        through(Resampler(from_rate, to_rate), audio, 500), resample(audio, from_rate, to_rate)
    )


def test_parts_have_context_and_join_seamlessly():
    audio = noise(7)
    # Each output sample depends on 0.1 s on each side.
    kernel = np.hanning(1601).astype(np.float32) / 800

    def smooth(part):
        return np.convolve(part, kernel, mode="same")[: len(part)].astype(np.float32)

    parts = Parts(smooth, RATE, part_seconds=2.0, search_seconds=0.5, context_seconds=0.25)
    np.testing.assert_allclose(through(parts, audio, 3000), smooth(audio), atol=1e-6)


def test_parts_are_cut_at_quiet_places():
    audio = noise(3)
    audio[13000:13200] = 0
    lengths = []
    parts = Parts(
        lambda part: lengths.append(len(part)) or part, RATE, part_seconds=2.0, search_seconds=0.5, context_seconds=0.25
    )
    np.testing.assert_allclose(through(parts, audio, 500), audio, atol=1e-7)
    # The first part ends in the pause and has context.
    assert 13000 <= lengths[0] - 2000 <= 13200 and len(lengths) == 2


def sdr(estimate, truth):
    return 10 * np.log10(np.sum(truth**2) / np.sum((estimate - truth) ** 2))


def test_denoiser_removes_noise_and_keeps_held_notes():
    time = np.arange(12 * RATE) / RATE
    # Notes of three seconds, with pauses of one.
    voice = (0.2 * np.sin(2 * np.pi * 220 * time) * (time % 4 > 1)).astype(np.float32)
    noisy = voice + noise(12, 0.01)
    cleaned = through(Denoiser(1.0, RATE), noisy)
    assert sdr(cleaned, voice) > sdr(noisy, voice) + 8
    assert np.std(cleaned[voice == 0]) < 0.2 * np.std(noisy[voice == 0])


def test_denoiser_strength_is_a_share():
    noisy = noise(4) + np.sin(np.arange(4 * RATE, dtype=np.float32))
    none, half, all_of_it = (through(Denoiser(strength, RATE), noisy) for strength in (0.0, 0.5, 1.0))
    np.testing.assert_allclose(none, noisy, atol=1e-6)
    np.testing.assert_allclose(half, (none + all_of_it) / 2, atol=1e-6)
    assert np.abs(all_of_it - noisy).max() > 0.1


def test_denoiser_keeps_digital_silence():
    audio = np.concatenate([np.zeros(2 * RATE), noise(2), np.zeros(2 * RATE)]).astype(np.float32)
    cleaned = through(Denoiser(1.0, RATE), audio)
    assert not cleaned[: 2 * RATE - 256].any() and not cleaned[4 * RATE + 256 :].any()
    assert not through(Denoiser(1.0, RATE), np.zeros(RATE, np.float32)).any()
