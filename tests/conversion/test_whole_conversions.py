"""Conversions through all stages: alignment of chunks, and voices without pitch."""

import golden_rule
import numpy as np
import pytest
from golden import GOLDEN
from stubs import StubContent, StubPitch, cpu_trainer, make_voice, quick_config

from rvc_lightning import ConversionOptions, Voice, VoiceConverter
from rvc_lightning.conversion.lengths import ChunkLengths
from rvc_lightning.retrieval.index import RetrievalIndex, build_index

pytestmark = pytest.mark.slow


def make_converter(voice, index=None, lengths=None):
    return VoiceConverter(
        voice,
        index,
        lengths=lengths,
        content=StubContent(voice.config.content_dim),
        pitch=StubPitch(),
        trainer=cpu_trainer(),
    )


@pytest.mark.parametrize("samples", [100_000, 100_160, 100_007])
def test_chunks_are_aligned_up_to_the_last_sample(no_noise, samples):
    voice = make_voice(quick_config(generator="hifigan"))
    lengths = ChunkLengths(context_seconds=1, search_seconds=1, spacing_seconds=3, longest_seconds=4)
    audio = golden_rule.stub_audio("chunks", 7.0)[:samples]
    whole, chunked = (
        make_converter(voice, lengths=value).convert(audio, sample_rate=16000)[0] for value in (None, lengths)
    )
    assert len(whole) == len(chunked) == -(-samples * 8000 // 16000)
    end = slice(-4000, None)
    aligned, shifted = (np.corrcoef(whole[end], np.roll(chunked, shift)[end])[0, 1] for shift in (0, 80))
    assert aligned > 0.9 and aligned > shifted


@pytest.mark.parametrize("name", ["v2_nof0_40k_hifigan", "v1_nof0_32k_hifigan"])
def test_voices_without_pitch(name):
    voice = Voice.load(GOLDEN / f"voices/{name}.pth")
    features = np.random.default_rng(0).standard_normal((90, voice.config.content_dim)).astype(np.float32)
    converter = make_converter(voice, RetrievalIndex(build_index(features, 0)))
    audio, _ = converter.convert(golden_rule.stub_audio("no pitch", 0.3), ConversionOptions(protect=0.2), 16000)
    assert np.isfinite(audio).all() and audio.std() > 0
