"""A preview predicts a preparation without writing anything."""

import numpy as np
import pytest
from defaults import make_recipe
from preparation import RATE, all_files, run, speech, write

from rvc_lightning.audio.decode import load_audio
from rvc_lightning.audio.encode import write_audio
from rvc_lightning.data.manifest import read_manifest
from rvc_lightning.data.preview import preview
from rvc_lightning.data.selection import SelectionConfig
from rvc_lightning.errors import DatasetError


def preview_recordings(audio, output, **changes):
    recipe = make_recipe(**{"selection": SelectionConfig(speakers="folders")} | changes)
    return preview(audio, output, recipe, content_dim=768, precision="32-true")


@pytest.fixture
def recordings(tmp_path):
    write(tmp_path / "in/anna/long.wav", speech(7.0, seed=1))
    write(tmp_path / "in/ben/short.flac", speech(2.0, seed=2))
    (tmp_path / "in/ben/empty.wav").touch()
    (tmp_path / "in/ben/words.mp3").write_text("not a recording")
    (tmp_path / "in/notes.txt").touch()
    return tmp_path / "in"


@pytest.mark.slow
def test_preview_predicts_the_preparation(recordings, tmp_path):
    before = all_files(tmp_path)
    found = preview_recordings(recordings, tmp_path / "out")
    assert all_files(tmp_path) == before and not (tmp_path / "out").exists()
    assert [(r.recording, r.speaker, r.seconds, r.is_done) for r in found.recordings] == [
        ("anna/long.wav", "anna", 7.0, False),
        ("ben/short.flac", "ben", 2.0, False),
    ]
    summary = found.summary()
    for part in ("anna/long.wav", "notes.txt: not audio", "empty.wav: is empty", "words.mp3", "7.0 s", "0 done"):
        assert part in summary

    report = run(recordings, tmp_path / "out", selection=SelectionConfig(speakers="folders"))
    assert [r.slices for r in found.recordings] == [used.slices for used in report.used]
    assert [file.path for file in found.skipped] == [file.path for file in report.skipped]
    files = [path for path in tmp_path.glob("out/*-*/*/*/*/*") if path.suffix in (".wav", ".npy")]
    assert found.needed_bytes == pytest.approx(sum(path.stat().st_size for path in files), rel=0.02)


@pytest.mark.slow
def test_finished_recordings_are_recognized(recordings, tmp_path):
    run(recordings, tmp_path / "out", selection=SelectionConfig(speakers="folders"))
    before = all_files(tmp_path)
    found = preview_recordings(recordings, tmp_path / "out")
    assert all(recording.is_done for recording in found.recordings) and found.needed_bytes == 0
    assert "2 done" in found.summary() and all_files(tmp_path) == before

    row = next(row for row in read_manifest(tmp_path / "out") if row.recording == "anna/long.wav")
    (tmp_path / "out" / row.content).unlink()
    write(recordings / "ben/short.flac", speech(3.5, seed=3))
    write(recordings / "ben/silent.wav", np.zeros(RATE, np.float32))
    found = preview_recordings(recordings, tmp_path / "out")
    assert [(r.recording, r.is_done, r.slices) for r in found.recordings] == [
        ("anna/long.wav", False, 3),
        ("ben/short.flac", False, 2),
        ("ben/silent.wav", False, 1),
    ]
    run(recordings, tmp_path / "out", selection=SelectionConfig(speakers="folders"))
    reasons = {file.path: file.reason for file in preview_recordings(recordings, tmp_path / "out").skipped}
    assert "silent" in reasons["ben/silent.wav"]


@pytest.mark.slow
def test_headers_of_compressed_files(recordings, tmp_path):
    write_audio(recordings / "anna/long.m4a", *load_audio(recordings / "anna/long.wav"))
    found = preview_recordings(recordings, tmp_path / "out")
    seconds = {recording.recording: recording.seconds for recording in found.recordings}
    assert seconds["anna/long.m4a"] == pytest.approx(7.0, abs=0.1)


def test_lack_of_disk_space_is_reported(recordings, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 1000}))
    assert "not enough" in preview_recordings(recordings, tmp_path / "out").summary()


def test_missing_folder(tmp_path):
    with pytest.raises(DatasetError, match="does not exist"):
        preview_recordings(tmp_path / "nowhere", tmp_path / "out")
