"""Detection of sound in a recording."""

import librosa
import numpy as np
import pytest

from rvc_lightning.conversion.silence import SoundDetector

RATE = 16000


def recording(*parts):
    """Return consecutive noise of (seconds, level)."""
    noise = np.random.default_rng(0)
    return np.concatenate([level * noise.standard_normal(round(s * RATE)) for s, level in parts]).astype(np.float32)


AUDIO = recording((0.7, 0), (1.3, 0.1), (2, 1e-6), (0.3, 0.02), (0.5, 0), (1.111, 0.1))


def sounding_parts(audio, grid_samples=1):
    detector = SoundDetector()
    detector.push(audio)
    return detector.parts(grid_samples)


@pytest.mark.slow
@pytest.mark.parametrize("audio", [AUDIO, AUDIO[:40000], recording((2, 0.1), (3.05, 0)), AUDIO[-999:]])
def test_parts_equal_those_of_librosa(audio):
    expected = librosa.effects.split(audio, top_db=60, frame_length=4000, hop_length=2000)
    assert sounding_parts(audio) == [tuple(pair) for pair in expected.tolist()]


@pytest.mark.parametrize("block", [1, 777, 16000])
def test_parts_do_not_depend_on_blocks(block):
    detector = SoundDetector()
    for start in range(0, len(AUDIO[:20000]), block):
        detector.push(AUDIO[:20000][start : start + block])
    assert detector.parts() == sounding_parts(AUDIO[:20000])


def test_parts_contain_all_sound():
    for start, end in sounding_parts(AUDIO, 320):
        assert start % 320 == 0 and (end % 320 == 0 or end == len(AUDIO))
    silent = np.ones(len(AUDIO), bool)
    for start, end in sounding_parts(AUDIO, 320):
        silent[start:end] = False
    assert np.abs(AUDIO[silent]).max() < 1e-5 and silent.mean() > 0.3


@pytest.mark.parametrize("samples", [0, 1, 5000])
def test_silence_has_no_parts(samples):
    assert sounding_parts(np.zeros(samples, np.float32)) == []
