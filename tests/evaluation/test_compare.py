"""Distances between recordings whose differences are known."""

import numpy as np
import pytest
import soundfile

import rvc_lightning
from rvc_lightning.errors import AudioError
from rvc_lightning.evaluation import Comparison, compare, log_mel, render_table

DEMO = next(iter(rvc_lightning.__path__)) + "/assets/demo"


@pytest.fixture(scope="module")
def speech():
    """A sentence by two speakers, and another sentence by the first, at 16 kHz."""
    return [
        soundfile.read(f"{DEMO}/{name}.flac", dtype="float32") for name in ("source/01", "counterpart/01", "source/02")
    ]


@pytest.mark.slow
def test_identical_recordings_have_distance_0(speech):
    audio, rate = speech[0]
    same = compare(audio, audio, rate)
    assert same.mel_distance_db == same.level_matched_mel_distance_db == 0
    assert same.pitch_correlation == pytest.approx(1)
    assert same.voicing_agreement == 1


def test_level_affects_only_the_plain_distance(speech):
    audio, rate = speech[0]
    softer = compare(audio / 2, audio, rate)
    assert 3 < softer.mel_distance_db < 6.1
    assert softer.level_matched_mel_distance_db < 0.1


@pytest.mark.slow
def test_same_words_are_closer_than_other_words(speech):
    (first, rate), (counterpart, _), (other, _) = speech
    same_words, other_words = compare(counterpart, first, rate), compare(other, counterpart, rate)
    assert 0 < same_words.level_matched_mel_distance_db < other_words.level_matched_mel_distance_db
    assert same_words.voicing_agreement > other_words.voicing_agreement


@pytest.mark.slow
def test_warping_removes_a_delay(speech):
    audio, rate = speech[0]
    late = np.concatenate([np.zeros(rate // 5, np.float32), audio])
    assert compare(late, audio, rate).mel_distance_db < 1


def harmonic(cycles):
    return sum(np.sin(2 * np.pi * number * cycles) / number for number in range(1, 9)) / 4


def test_pitch_correlation_follows_the_melody():
    rate, time = 16000, np.arange(16000) / 16000
    glide = [harmonic(np.cumsum(hz) / rate) for hz in (150 + 50 * time, 220 + 80 * time)]
    assert compare(glide[0], glide[0] * 0.9, rate).pitch_correlation > 0.99
    assert compare(glide[0], glide[1], rate).pitch_correlation > 0.9


def test_silence_has_no_pitch_correlation():
    silence = np.zeros(8000, np.float32)
    result = compare(silence, silence, 16000)
    assert result == Comparison(0.0, 0.0, None, 1.0)
    with pytest.raises(AudioError, match="empty"):
        compare(silence[:0], silence, 16000)


@pytest.mark.parametrize("rate", [16000, 24000, 40000, 48000])
def test_log_mel_is_independent_of_the_sampling_rate(rate):
    tone = np.sin(2 * np.pi * 1000 * np.arange(rate) / rate).astype(np.float32)
    mel = log_mel(tone, rate)
    assert mel.shape == (80, 101)
    assert mel.min() >= -80 and -1.0 < mel[:, 50].max() < 2.0
    assert mel[:, 50].argmax() == log_mel(np.sin(2 * np.pi * np.arange(16000) / 16), 16000)[:, 50].argmax()


def test_table_has_aligned_columns():
    rows = {"to the counterpart": Comparison(6.24, 5.0, 0.876, 0.9), "to the source": Comparison(12, 11, None, 1)}
    lines = render_table(rows).splitlines()
    assert [title.strip() for title in lines[0].split("  ") if title.strip()] == [
        "mel dB",
        "mel dB, same level",
        "pitch correlation",
        "voicing agreement",
    ]
    assert lines[1].split() == ["to", "the", "counterpart", "6.2", "5.0", "0.88", "0.90"]
    assert lines[2].split() == ["to", "the", "source", "12.0", "11.0", "-", "1.00"]
    assert len({len(line) for line in lines}) == 1
