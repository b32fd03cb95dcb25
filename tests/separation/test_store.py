"""Files of extracted parts: made once for each content and model, in the channels of the recording."""

import logging
import multiprocessing
import os
import shutil
import signal

import numpy as np
import pytest
import soundfile
from separators import Halver

from rvc_lightning.audio.decode import load_channels
from rvc_lightning.audio.encode import write_audio
from rvc_lightning.errors import AudioError
from rvc_lightning.separation.store import PartStore


@pytest.fixture
def song(tmp_path):
    audio = np.random.default_rng(0).uniform(-0.5, 0.5, (70_000, 2)).astype(np.float32)
    write_audio(tmp_path / "söng.wav", audio, 22050, "FLOAT")
    return tmp_path / "söng.wav"


def test_parts_follow_each_other(song, tmp_path):
    separator = Halver()
    path = PartStore(separator, tmp_path / "stems").extract(song, "dry")
    assert separator.extracted == ["vocals", "lead", "dry"]
    audio, sample_rate = load_channels(path)
    np.testing.assert_allclose(audio, load_channels(song)[0] / 8)
    assert sample_rate == 22050


def test_each_part_is_extracted_once(song, tmp_path, caplog):
    separator = Halver()
    store = PartStore(separator, tmp_path / "stems")
    first = store.extract(song, "vocals")
    with caplog.at_level(logging.INFO):
        again = store.extract(song, "lead")
    assert separator.extracted == ["vocals", "lead"] and first != again
    assert "Found the vocals of" in caplog.text


def test_content_counts_and_not_the_name(song, tmp_path):
    separator = Halver()
    store = PartStore(separator, tmp_path / "stems")
    copy = tmp_path / "elsewhere" / "copy.wav"
    copy.parent.mkdir()
    shutil.copy(song, copy)
    assert store.extract(song, "vocals") == store.extract(copy, "vocals")
    write_audio(copy, np.zeros((100, 2), np.float32), 22050)
    assert store.extract(song, "vocals") != store.extract(copy, "vocals")


def test_another_model_extracts_again(song, tmp_path):
    paths = {PartStore(Halver(version), tmp_path / "stems").extract(song, "vocals") for version in "12"}
    assert len(paths) == 2


def test_mono_stays_mono(tmp_path):
    write_audio(tmp_path / "a.wav", np.full(100, 0.5, np.float32), 8000)
    path = PartStore(Halver(), tmp_path / "stems").extract(tmp_path / "a.wav", "vocals")
    assert soundfile.info(path).channels == 1 and soundfile.info(path).frames == 100


def test_interrupted_extraction_leaves_no_file(song, tmp_path):
    class Interrupted(Halver):
        def extract(self, part, blocks, sample_rate):
            yield next(iter(blocks))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        PartStore(Interrupted(), tmp_path / "stems").extract(song, "vocals")
    assert list((tmp_path / "stems").iterdir()) == []


def test_more_than_two_channels_are_rejected(tmp_path):
    write_audio(tmp_path / "a.wav", np.zeros((100, 6), np.float32), 8000)
    with pytest.raises(AudioError, match=r"a.wav' has 6 channels: convert it to stereo first"):
        PartStore(Halver(), tmp_path / "stems").extract(tmp_path / "a.wav", "vocals")


class Killed(Halver):
    """Is killed within the first block."""

    def extract(self, part, blocks, sample_rate):
        yield next(blocks)
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
def test_unfinished_file_of_a_killed_process_is_removed(song, tmp_path):
    store = PartStore(Killed(), tmp_path / "stems")
    process = multiprocessing.get_context("fork").Process(target=store.extract, args=(song, "vocals"))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL and len(list((tmp_path / "stems").rglob("*.wav"))) == 1
    path = PartStore(Halver(), tmp_path / "stems").extract(song, "vocals")
    assert list((tmp_path / "stems").iterdir()) == [path]
