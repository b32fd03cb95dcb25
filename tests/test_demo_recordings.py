"""The demo that ships: small, two voices, the same sentences."""

from pathlib import Path

import soundfile

import rvc_lightning

DEMO = Path(rvc_lightning.__path__[0]) / "assets" / "demo"


def test_demo():
    sentences = (DEMO / "sentences.txt").read_text(encoding="utf-8").splitlines()
    voices = {voice: sorted((DEMO / voice).glob("*.flac")) for voice in ("slt", "rms")}
    assert len(sentences) == len(set(sentences)) == len(voices["slt"]) == 40
    assert [path.name for path in voices["rms"]] == [path.name for path in voices["slt"][: len(voices["rms"])]]
    files = [path for paths in voices.values() for path in paths]
    assert sum(path.stat().st_size for path in files) <= 3.6e6
    for path in files:
        facts = soundfile.info(path)
        assert (facts.samplerate, facts.channels, facts.format) == (16000, 1, "FLAC")
        assert 2 <= facts.duration <= 5
