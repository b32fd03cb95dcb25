"""The demo recordings: small, with two voices, and sentences read by both that are not in the training part."""

import soundfile

from rvc_lightning.cli.resolvers import DEMO_FOLDER, counterpart_of, demo


def test_demo():
    sentences = (DEMO_FOLDER / "sentences.txt").read_text(encoding="utf-8").splitlines()
    names = {part: [path.name for path in sorted((DEMO_FOLDER / part).glob("*.flac"))] for part in
             ("target", "source", "counterpart")}  # fmt: skip
    assert names["source"] == names["counterpart"] and len(names["source"]) == 8
    assert not set(names["target"]) & set(names["source"])
    assert len(names["target"]) + len(names["source"]) == len(sentences) == len(set(sentences))
    files = list(DEMO_FOLDER.glob("*/*.flac"))
    assert sum(path.stat().st_size for path in files) <= 4e6
    for path in files:
        facts = soundfile.info(path)
        assert (facts.samplerate, facts.channels, facts.format) == (16000, 1, "FLAC")
        assert 2 <= facts.duration <= 5


def test_only_the_demo_voice_has_counterparts():
    assert counterpart_of(demo("target")) == demo("counterpart")
    assert counterpart_of("my/recordings") is None
    assert counterpart_of(None) is None
