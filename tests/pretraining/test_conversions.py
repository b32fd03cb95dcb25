"""Conversions of a corpus to the speakers of a voice."""

import numpy as np
from corpora import make_corpus
from stubs import StubContent, StubPitch, cpu_trainer, make_voice, quick_config
from tiny import write_tiny_dataset

from rvc_lightning import VoiceConverter
from rvc_lightning.pretraining.conversions import write_conversions
from rvc_lightning.pretraining.corpus import read_audio, read_manifest


def test_conversions_have_the_names_of_their_sources(tmp_path):
    (tmp_path / "dataset").mkdir()
    dataset = write_tiny_dataset(tmp_path / "dataset", n_slices=4)
    voice = make_voice(quick_config(speaker_count=2))
    content = StubContent(voice.config.content_dim)
    converter = VoiceConverter(voice, content=content, pitch=StubPitch(), trainer=cpu_trainer())
    sources = make_corpus(tmp_path / "corpus", sentences=2, speakers=("recorded-anna", "tone-a"))
    assert write_conversions(tmp_path / "corpus", converter, dataset, tmp_path / "converted") == 4
    written = read_manifest(tmp_path / "converted")
    assert [one.speaker for one in written] == ["recorded-anna"] * 4
    assert sorted(one.audio for one in written) == [
        f"audio/{source:06}-{speaker}.flac" for source in (0, 2) for speaker in (0, 1)
    ]
    source = read_audio(tmp_path / "corpus" / sources[0].audio)
    first, second = (read_audio(tmp_path / f"converted/audio/000000-{speaker}.flac") for speaker in (0, 1))
    assert len(first) == len(second) == len(source) and np.abs(first).max() > 0
    assert not np.array_equal(first, second)
