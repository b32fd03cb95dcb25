"""Speakers derived from a few recordings."""

import csv
import shutil

import numpy as np
import pytest
import soundfile
from hydra import compose, initialize_config_module

from rvc_lightning.cli import resolvers
from rvc_lightning.errors import ConfigurationError
from rvc_lightning.pretraining import augment_speakers
from rvc_lightning.pretraining.augment_speakers import AugmentSettings, write_augmented_speakers
from rvc_lightning.pretraining.synthesizers import AlignedSpeech

resolvers.register()

RATE, TONE_HZ = 16000, 300


@pytest.fixture
def augment(tmp_path):
    """Run the command on three recordings of two people, a second of a tone each."""
    rows = [("anna", "1"), ("anna", "2"), ("ben", "3")]
    with (tmp_path / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "speaker", "transcript"))
        writer.writerows((f"{name}.wav", speaker, f"Number {name}.") for speaker, name in rows)
    tone = np.sin(2 * np.pi * TONE_HZ * np.arange(RATE) / RATE) / 2
    for _, name in rows:
        soundfile.write(tmp_path / f"{name}.wav", tone, RATE)

    def run(*overrides):
        overrides = [f"output={tmp_path / 'speakers'}", f"recordings={tmp_path / 'table.csv'}", *overrides]
        with initialize_config_module("rvc_lightning.conf", version_base="1.3"):
            config = compose("pretraining_augment_speakers", overrides=overrides)
        write_augmented_speakers(AugmentSettings.from_config(config))
        return tmp_path / "speakers"

    return run


def test_each_pace_derives_a_speaker(augment):
    folder = augment("synthesizers=[]", "paces=[0.8,1.25]")
    assert {path.name for path in folder.iterdir()} == {
        *("anna", "anna_0.8", "anna_1.25", "ben", "ben_0.8", "ben_1.25")
    }
    assert sorted(path.name for path in (folder / "anna").iterdir()) == ["00001_1.flac", "00002_2.flac"]
    for name, pace in (("ben", 1.0), ("ben_0.8", 0.8), ("ben_1.25", 1.25)):
        audio, rate = soundfile.read(folder / name / "00001_3.flac")
        assert rate == 24000 and len(audio) == pytest.approx(rate / pace, abs=2)
        loudest_hz = np.abs(np.fft.rfft(audio)).argmax() * rate / len(audio)
        assert loudest_hz == pytest.approx(TONE_HZ * pace, abs=2)


def test_minutes_limit_derived_speakers(augment):
    folder = augment("synthesizers=[]", "paces=[0.9]", f"minutes={0.5 / 60}")
    assert len([*(folder / "anna").iterdir()]) == 2 and len([*(folder / "anna_0.9").iterdir()]) == 1


@pytest.mark.program
@pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")
def test_synthesizers_read_the_transcripts(augment):
    folder = augment("synthesizers=[slt]", "paces=[]")
    clips = sorted((folder / "flite_slt").iterdir())
    assert len(clips) == 3 and all(soundfile.info(clip).samplerate == 24000 for clip in clips)


def test_empty_transcripts_are_not_read(augment, tmp_path, monkeypatch):
    table = tmp_path / "table.csv"
    table.write_text(table.read_text().replace("Number 2.", ""))
    read = []

    def synthesize(voice, text, rng):
        read.append(text)
        return AlignedSpeech("flite-slt", np.zeros(160, np.float32), [])

    monkeypatch.setattr(augment_speakers, "synthesize_flite", synthesize)
    augment("synthesizers=[slt]", "paces=[]")
    assert sorted(read) == ["Number 1.", "Number 3."]


@pytest.mark.parametrize(
    ("override", "message"),
    [("paces=[1.1,3]", "from 0.5 to 2"), ("paces=[1]", "other than 1"), ("synthesizers=[siri]", "'siri'.*slt")],
)
def test_invalid_settings_write_nothing(augment, override, message, tmp_path):
    with pytest.raises(ConfigurationError, match=message):
        augment(override)
    assert not (tmp_path / "speakers").exists()


def test_folder_that_is_not_empty(augment):
    folder = augment("synthesizers=[]", "paces=[]")
    before = sorted(folder.rglob("*"))
    with pytest.raises(ConfigurationError, match="is not empty"):
        augment("synthesizers=[]", "paces=[0.9]")
    assert sorted(folder.rglob("*")) == before


def test_empty_table(augment, tmp_path):
    (tmp_path / "table.csv").write_text("path,speaker,transcript\n")
    with pytest.raises(ConfigurationError, match="lists no recordings"):
        augment()
