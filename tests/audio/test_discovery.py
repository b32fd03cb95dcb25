"""Listing of folders: each entry is a recording or is reported."""

import os

import pytest
from systems import LINKS

from rvc_lightning.audio.discovery import discover_audio


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_listing_is_sorted_and_reports_other_files(tmp_path):
    for name in ["b.wav", "a.FLAC", "sub/c.mp3", "音/ü.ogg", ".hidden.wav", ".git/x.wav", "notes.txt", "bare"]:
        touch(tmp_path / name)
    found = discover_audio(tmp_path)
    assert [path.as_posix() for path in found.recordings] == ["a.FLAC", "b.wav", "sub/c.mp3", "音/ü.ogg"]
    reasons = {file.path: file.reason for file in found.skipped}
    assert list(reasons) == sorted(reasons)
    assert reasons[".git"] == "hidden folder" and reasons[".hidden.wav"] == "hidden file"
    assert "'.txt'" in reasons["notes.txt"] and "''" in reasons["bare"]


@LINKS
def test_links(tmp_path):
    touch(tmp_path / "in" / "a.wav")
    touch(tmp_path / "elsewhere" / "b.wav")
    (tmp_path / "in" / "circle").symlink_to(tmp_path / "in", target_is_directory=True)
    (tmp_path / "in" / "self").symlink_to(tmp_path / "in" / "self")
    (tmp_path / "in" / "broken.wav").symlink_to(tmp_path / "nowhere.wav")
    (tmp_path / "in" / "more").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    found = discover_audio(tmp_path / "in")
    assert [path.as_posix() for path in found.recordings] == ["a.wav", "more/b.wav"]
    reasons = {file.path: file.reason for file in found.skipped}
    assert set(reasons) == {"circle", "self", "broken.wav"}
    assert "already" in reasons["circle"] and "link" in reasons["self"] and "link" in reasons["broken.wav"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="requires pipes")
def test_pipe_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    found = discover_audio(tmp_path)
    assert found.recordings == [] and found.skipped[0].reason == "not a regular file"


def test_excluded_folder_is_not_reported(tmp_path):
    touch(tmp_path / "a.wav")
    touch(tmp_path / "prepared" / "slice.wav")
    found = discover_audio(tmp_path, exclude=(tmp_path / "prepared", tmp_path / "absent"))
    assert len(found.recordings) == 1 and found.skipped == []


def test_single_file(tmp_path):
    path = touch(tmp_path / "a.wav")
    assert [entry.name for entry in discover_audio(path).recordings] == ["a.wav"]
