"""Paths of a prepared dataset."""

import os

import pytest
from defaults import make_slicing
from preparation import all_files, run, speech, write

from rvc_lightning.data.layout import existing_slices, recording_path, slice_path
from rvc_lightning.data.manifest import read_manifest


@pytest.mark.slow
def test_folders_stay_small(tmp_path, monkeypatch):
    monkeypatch.setattr("rvc_lightning.data.layout._SLICES_PER_FOLDER", 3)
    write(tmp_path / "in/a.wav", speech(8.0))
    report = run(tmp_path / "in", tmp_path / "out", slicing=make_slicing(slice_seconds=1.0, mode="simple"))
    rows = list(read_manifest(tmp_path / "out"))
    assert len(rows) == report.slices > 9 and rows[3].audio.endswith("/1/0003.wav")
    assert all((tmp_path / "out" / row.content).is_file() for row in rows)
    for folder, folders, files in os.walk(tmp_path / "out"):
        assert len(files) + len(folders) <= 9, folder
    before = all_files(tmp_path / "out")
    run(tmp_path / "in", tmp_path / "out", slicing=make_slicing(slice_seconds=1.0, mode="simple"))
    assert {
        path for path, at in all_files(tmp_path / "out").items() if before.get(path) != at and len(path.parts) > 1
    } == set()


def test_folders_spread_and_slices_are_found(tmp_path):
    folders = {recording_path(f"a-{number:016x}").split("/")[0] for number in range(0, 2**64, 2**58)}
    assert len(folders) == 64
    for number in (0, 7, 499, 500, 12345):
        path = tmp_path / f"{slice_path(number)}.npy"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / ".writing-1.npy").touch()
    assert existing_slices(tmp_path) == {0, 7, 499, 500, 12345}
