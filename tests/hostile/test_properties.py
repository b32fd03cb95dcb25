"""Properties that hold for any input, checked on generated examples.

`HYPOTHESIS_PROFILE=many` generates twenty times as many examples.
"""

import itertools
import os
from unittest import mock

import numpy as np
import pytest
from cutting import cut_recording
from defaults import make_slicing
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rvc_lightning.audio.decode import decode_audio, load_audio, resample
from rvc_lightning.audio.encode import fitting_rate, write_audio
from rvc_lightning.audio.frames import CONTENT_SAMPLES, FRAME_SAMPLES, SAMPLE_RATE
from rvc_lightning.audio.samples import SampleSink
from rvc_lightning.audio.slicer import Slicer
from rvc_lightning.conversion.chunking import FADE_FRAMES, Joiner, reflected, split
from rvc_lightning.conversion.lengths import ChunkLengths
from rvc_lightning.data.buckets import LengthBucketSampler
from rvc_lightning.data.slicing import MODES
from rvc_lightning.errors import AudioError

settings.register_profile("fast", max_examples=30, deadline=None, derandomize=True)
settings.register_profile("many", max_examples=600, deadline=None, derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))

RATE = 8000


@st.composite
def recordings(draw, max_parts=12):
    """Generate recordings at 8 kHz with parts of sound and silence of any lengths."""
    noise = np.random.default_rng(draw(st.integers(0, 9)))
    parts = []
    for _ in range(draw(st.integers(0, max_parts))):
        level, samples = draw(st.sampled_from([0.0, 0.001, 0.1, 0.5])), draw(st.integers(1, 3 * RATE))
        parts.append(noise.uniform(-level, level, samples).astype(np.float32))
    return np.concatenate([np.zeros(0, np.float32), *parts])


@given(recordings(), st.sampled_from([8000, 16000, 44100]))
@example(np.zeros(1, np.float32), 8000)
def test_slicer_drops_only_silence(audio, rate):
    pieces = Slicer()(audio, rate)
    borders = list(itertools.chain.from_iterable(pieces))
    assert borders == sorted(borders) and all(start < end for start, end in pieces)
    assert not borders or (borders[0] >= 0 and borders[-1] <= len(audio))
    kept = np.zeros(len(audio), bool)
    for start, end in pieces:
        kept[start:end] = True
    assert not pieces or loudest_lost(audio, kept, rate) < AUDIBLE


AUDIBLE = 3 * 10 ** (-42 / 20)
"""RMS level of 10 ms that keeps a frame of the slicer, which is a few hops of 10 ms long, above its -42 dB."""


def loudest_lost(audio, kept, rate):
    """Return the RMS level of the loudest 10 ms outside the parts that are kept."""
    hop = rate // 100
    starts = [start for start in range(0, len(audio) - hop, hop // 2) if not kept[start : start + hop].any()]
    return max((np.sqrt(np.mean(audio[start : start + hop] ** 2)) for start in starts), default=0.0)


@given(recordings(6), st.sampled_from(MODES), st.sampled_from([0.0, 0.3]), st.floats(0.1, 1.5))
def test_every_sample_is_in_a_slice_or_reported_or_silent(audio, mode, overlap_seconds, min_seconds):
    slicing = make_slicing(
        mode=mode, normalization="none", highpass_hz=0, overlap_seconds=overlap_seconds, min_seconds=min_seconds
    )
    cut = cut_recording(audio, RATE, slicing)
    accounted = np.zeros(len(audio), bool)
    for piece in cut.slices:
        start = round(piece.start_seconds * RATE)
        assert np.array_equal(piece.audio, audio[start : start + len(piece.audio)])
        assert len(piece.audio) >= min_seconds * RATE
        accounted[start : start + len(piece.audio)] = True
    for part in cut.left_out:
        assert part.reason
        accounted[round(part.start_seconds * RATE) : round((part.start_seconds + part.seconds) * RATE)] = True
    assert np.count_nonzero(~accounted) <= cut.silence_seconds * RATE + 1
    assert loudest_lost(audio, accounted, RATE) < AUDIBLE


@st.composite
def chunk_lengths(draw):
    search = draw(st.integers(1, 3))
    spacing = draw(st.integers(2 * search + 1, 9))
    return ChunkLengths(draw(st.integers(1, 2)), search, spacing, draw(st.integers(1, 12)))


@given(chunk_lengths(), st.integers(1, 30 * SAMPLE_RATE), st.integers(0, 9))
@example(ChunkLengths(), 29 * SAMPLE_RATE, 0)
def test_chunks_cover_all_and_join_without_a_seam(lengths, samples, seed):
    """With a network that returns its input, the joined chunks equal the recording."""
    audio = np.random.default_rng(seed).normal(size=samples).astype(np.float32)
    chunks = split(audio, lengths)
    assert chunks[0].start == 0 and chunks[-1].end == samples
    for before, after in itertools.pairwise(chunks):
        assert before.end == after.start and after.start % CONTENT_SAMPLES == 0
        assert before.end - before.start >= SAMPLE_RATE > FADE_FRAMES * FRAME_SAMPLES
    assert max(chunk.end - chunk.start for chunk in chunks) <= SAMPLE_RATE * max(
        lengths.longest_seconds, lengths.spacing_seconds + 2 * lengths.search_seconds + 1
    )
    joined = Joined()
    joiner = Joiner(joined, lengths.context_samples, FRAME_SAMPLES, samples)
    for number, chunk in enumerate(chunks):
        piece = chunk.window(audio, lengths.context_samples)
        joiner.add(piece, chunk, is_followed=number + 1 < len(chunks))
    joiner.end()
    np.testing.assert_allclose(joined.samples, audio, atol=1e-6)


class Joined(SampleSink):
    """Output in memory."""

    def __init__(self):
        self.samples = np.zeros(0, np.float32)

    def __len__(self):
        return len(self.samples)

    def append(self, block):
        self.samples = np.concatenate([self.samples, block])


@given(st.integers(1, 50), st.integers(-200, 200), st.integers(1, 300))
def test_reflection_equals_that_of_numpy(samples, start, length):
    audio = np.arange(samples, dtype=np.float32)
    stop = start + length
    padded = np.pad(audio, (max(-start, 0), max(stop - samples, 0)), mode="reflect" if samples > 1 else "edge")
    first = max(start, 0)
    assert np.array_equal(reflected(audio, start, stop), padded[first : first + length])


@given(
    st.lists(st.integers(1, 2000), min_size=1, max_size=200),
    st.integers(1, 9),
    st.lists(st.integers(1, 2000), max_size=6).map(sorted),
    st.integers(1, 9),
    st.integers(0, 3),
)
@example([100], 4, [], 8, 0)
def test_sampler_yields_every_slice_and_equal_batches_on_all_ranks(lengths, batch_size, boundaries, ranks, epoch):
    per_rank = []
    for rank in range(ranks):
        sampler = LengthBucketSampler(lengths, batch_size, boundaries, num_replicas=ranks, rank=rank, seed=3)
        sampler.set_epoch(epoch)
        per_rank.append(list(sampler))
        assert len(per_rank[-1]) == len(sampler)
    sizes = [[len(batch) for batch in batches] for batches in per_rank]
    assert all(each == sizes[0] for each in sizes) and all(0 < size <= batch_size for size in sizes[0])
    seen = [index for batches in per_rank for batch in batches for index in batch]
    assert set(seen) == set(range(len(lengths)))
    assert len(seen) - len(lengths) < ranks


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("formats")


@given(
    st.sampled_from([".wav", ".flac", ".ogg", ".mp3"]),
    st.integers(1, 5000),
    st.sampled_from([8000, 11025, 16000, 22050, 44100, 48000]),
    st.sampled_from([0.0, 0.01, 0.9, 1.5]),
)
def test_written_recordings_are_read_back(scratch, extension, samples, rate, level):
    """The length is unchanged, except that MP3 may add samples; lossless formats keep the samples."""
    rate = fitting_rate(extension, rate)
    audio = np.random.default_rng(samples).uniform(-level, level, samples).astype(np.float32)
    path = scratch / f"a{extension}"
    write_audio(path, audio, rate)
    decoded = decode_audio(path)
    assert decoded.sample_rate == rate and decoded.warning is None
    assert len(decoded.audio) == samples or (extension == ".mp3" and len(decoded.audio) >= samples)
    if extension in (".wav", ".flac"):
        np.testing.assert_allclose(decoded.audio, audio.clip(-1, 1), atol=1 / 32767)


@given(st.integers(0, 20000), st.integers(4000, 100000), st.integers(4000, 100000))
def test_resampling_keeps_the_length(samples, from_rate, to_rate):
    resampled = resample(np.ones(samples, np.float32), from_rate, to_rate)
    assert len(resampled) == (samples if from_rate == to_rate else -(-samples * to_rate // from_rate))
    assert np.isfinite(resampled).all()


@given(st.binary(max_size=400), st.sampled_from([b"", b"RIFF", b"OggS", b"fLaC", b"FORM", b"ID3", b".snd", b"RF64"]))
def test_any_bytes_are_a_recording_or_one_error(scratch, content, magic):
    path = scratch / "any.wav"
    path.write_bytes(magic + content)
    try:
        # The child process takes 0.1 s to start, and would find no audio either.
        with mock.patch("rvc_lightning.audio.decode.MediaProcess", side_effect=AudioError):
            audio, rate = load_audio(path)
    except AudioError as error:
        assert str(path) in str(error)
        return
    assert audio.ndim == 1 and len(audio) and rate > 0
