"""Chunks cover the whole recording and join without a seam."""

import itertools

import golden_rule
import numpy as np
import pytest

from rvc_lightning.audio.samples import SpillBuffer
from rvc_lightning.conversion.chunking import Joiner, cut_points, reflected, split
from rvc_lightning.conversion.lengths import ChunkLengths
from rvc_lightning.errors import ConfigurationError

SHORT = ChunkLengths(context_seconds=1, search_seconds=1, spacing_seconds=4, longest_seconds=5)
HOP = 240


def audio_of(seconds):
    return golden_rule.stub_audio("chunks", seconds)


def local_network(padded):
    """Resample from 16 to 24 kHz, ending 30 ms early as the network does."""
    frames = len(padded) // 160 - 3
    return np.interp(np.arange(frames * HOP) / 1.5, np.arange(len(padded)), padded).astype(np.float32)


def test_short_recording_is_not_cut():
    assert cut_points(audio_of(5.0), SHORT) == []
    assert [(chunk.start, chunk.end) for chunk in split(audio_of(5.0), SHORT)] == [(0, 80000)]


@pytest.mark.parametrize("seconds", [5.01, 6.5, 13.337, 20.0])
def test_chunks_cover_the_recording_on_the_grid(seconds):
    audio = audio_of(seconds)
    chunks = split(audio, SHORT)
    assert chunks[0].start == 0 and chunks[-1].end == len(audio)
    for before, after in itertools.pairwise(chunks):
        assert before.end == after.start and after.start % 320 == 0
        assert before.end - before.start >= 16000
    assert chunks[-1].end - chunks[-1].start >= 16000
    assert max(chunk.end - chunk.start for chunk in chunks) <= 7 * 16000


def test_cuts_lie_in_pauses():
    time = np.arange(16000 * 12) / 16000
    audio = np.sin(2 * np.pi * 100 * time).astype(np.float32)
    pauses = [3.7, 8.4]
    for pause in pauses:
        audio[int(pause * 16000) : int((pause + 0.1) * 16000)] *= 0.01
    for cut, pause in zip(cut_points(audio, SHORT), pauses, strict=True):
        assert pause - 0.02 <= cut / 16000 <= pause + 0.1


def test_hum_is_not_quiet():
    # Over 10 ms its samples sum to zero, and those of the soft noise after it do not.
    time = np.arange(16000 * 8) / 16000
    audio = 0.8 * np.sin(2 * np.pi * 100 * time)
    audio[72000:76000] = 0.001
    (cut,) = cut_points(audio.astype(np.float32), SHORT)
    assert 72000 - 320 <= cut < 76000


@pytest.mark.parametrize("seconds", [0.0007, 0.4, 5.0, 6.013, 17.77])
def test_joined_chunks_equal_the_whole(seconds, tmp_path):
    audio = audio_of(seconds)
    samples = -(-len(audio) * 24000 // 16000)
    context = SHORT.context_samples
    chunks, joiner = split(audio, SHORT), Joiner(SpillBuffer(tmp_path), context, HOP, samples)
    for chunk in chunks:
        joiner.add(local_network(chunk.window(audio, context)), chunk, is_followed=chunk is not chunks[-1])
    whole = local_network(reflected(audio, -context, len(audio) + context))[100 * HOP : 100 * HOP + samples]
    assert len(joiner.joined) == samples
    np.testing.assert_allclose(joiner.joined[:], whole, atol=2e-6)
    assert seconds < 6 or len(chunks) > 1


def test_gaps_between_parts_are_silent(tmp_path):
    audio = audio_of(20.0)
    parts = [(3200, 35200), (48000, 208000), (240000, len(audio))]
    samples, context = len(audio) * 3 // 2, SHORT.context_samples
    chunks, joiner = split(audio, SHORT, parts), Joiner(SpillBuffer(tmp_path), context, HOP, samples)
    starts = {chunk.start for chunk in chunks}
    assert starts > {3200, 48000, 240000}
    for chunk in chunks:
        joiner.add(local_network(chunk.window(audio, context)), chunk, is_followed=chunk.end in starts)
    joiner.end()
    joined = joiner.joined[:]
    whole = local_network(reflected(audio, -context, len(audio) + context))[100 * HOP : 100 * HOP + samples]
    outside = np.ones(samples, bool)
    for start, end in parts:
        outside[start * 3 // 2 : end * 3 // 2] = False
        # Except for the fades at the borders.
        inside = slice(start * 3 // 2 + 4 * HOP, end * 3 // 2 - 4 * HOP)
        np.testing.assert_allclose(joined[inside], whole[inside], atol=2e-6)
        assert abs(joined[start * 3 // 2]) < 0.01
    assert not joined[outside].any()
    np.testing.assert_allclose(joined[-2 * HOP :], whole[-2 * HOP :], atol=2e-6)


def test_reflection_of_one_sample():
    assert reflected(np.ones(1, np.float32), -5, 6).tolist() == [1.0] * 11


@pytest.mark.parametrize("samples", [2, 3, 7, 100])
@pytest.mark.parametrize(("start", "stop"), [(-20, 20), (0, 1), (-3, 0), (1, 150)])
def test_reflection_of_few_samples(samples, start, stop):
    audio = np.arange(samples, dtype=np.float32)
    padded = np.pad(audio, 200, mode="reflect")
    np.testing.assert_array_equal(reflected(audio, start, stop), padded[200 + start : 200 + stop])


@pytest.mark.parametrize("values", [{"context_seconds": 0}, {"search_seconds": 19}, {"search_seconds": 0}])
def test_invalid_lengths_are_rejected(values):
    with pytest.raises(ConfigurationError, match=r"chunks\.\w+_seconds=\d+: choose"):
        ChunkLengths(**values)
