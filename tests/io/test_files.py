"""Atomic writes, and files of arrays."""

import errno
import hashlib
import io
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hostile_pickles import Calls, npy_bytes

from rvc_lightning.errors import NotWritableError
from rvc_lightning.io.disk import write_error
from rvc_lightning.io.files import atomic_path, digest, read_json, read_npy, replace_file, write_json, write_npy
from rvc_lightning.io.locks import exclusive_lock


def test_replace_a_file(tmp_path):
    target = tmp_path / "deep" / "a.txt"
    for text in ("one", "two"):
        with atomic_path(target) as temporary:
            assert temporary.parent == target.parent
            assert temporary.suffix == ".txt"
            temporary.write_text(text)
    assert target.read_text(encoding="utf-8") == "two"
    assert list(target.parent.iterdir()) == [target]


def test_errors_without_a_file_name_name_none():
    message = str(write_error(OSError(errno.EIO, "Input/output error"), "out.wav"))
    assert message == "'out.wav' cannot be written: Input/output error; choose another place, or change permissions"


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder in which nobody can make files")
def test_file_system_without_files_is_not_writable():
    with pytest.raises(NotWritableError, match="'/proc/there/a' cannot be created"), atomic_path("/proc/there/a"):
        pass


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_failure_keeps_the_old_file(tmp_path, error):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(error), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise error
    assert target.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [target]


def open_elsewhere(action, times):
    """Return `action`, which first raises the error of Windows for files that another program has open."""
    errors = [PermissionError(errno.EACCES, "Access is denied") for _ in range(times)]
    for error in errors:
        error.winerror = 5

    def attempt(*args, **options):
        if errors:
            raise errors.pop()
        return action(*args, **options)

    return attempt


def test_files_that_others_have_open_on_windows(tmp_path, monkeypatch):
    monkeypatch.setattr("rvc_lightning.io.files.time.sleep", lambda seconds: None)
    monkeypatch.setattr(os, "replace", open_elsewhere(os.replace, 3))
    write_json(tmp_path / "a.json", {"a": 1})
    monkeypatch.setattr(Path, "read_text", open_elsewhere(Path.read_text, 3))
    assert read_json(tmp_path / "a.json") == {"a": 1}
    monkeypatch.setattr(os, "replace", open_elsewhere(os.replace, 30))
    with pytest.raises(NotWritableError, match=r"a\.json' cannot be written: Access is denied"):
        write_json(tmp_path / "a.json", {"a": 2})
    assert read_json(tmp_path / "a.json") == {"a": 1}


def test_files_to_remove_that_others_have_open_on_windows(tmp_path, monkeypatch):
    monkeypatch.setattr("rvc_lightning.io.files.time.sleep", lambda seconds: None)
    with exclusive_lock(tmp_path / "locked"):
        # A waiting process reads who holds the lock.
        monkeypatch.setattr(Path, "unlink", open_elsewhere(Path.unlink, 3))
    assert not (tmp_path / "locked" / ".lock.json").exists()
    with pytest.raises(ValueError), atomic_path(tmp_path / "a.txt"):
        monkeypatch.setattr(Path, "unlink", open_elsewhere(Path.unlink, 3))
        raise ValueError
    assert not list(tmp_path.glob(".writing-*"))


def test_errors_of_other_systems_are_raised_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("rvc_lightning.io.files.time.sleep", lambda seconds: pytest.fail("it waits"))
    with pytest.raises(FileNotFoundError):
        replace_file(tmp_path / "none", tmp_path / "a")


def test_permissions(tmp_path):
    ordinary = tmp_path / "ordinary"
    ordinary.touch()
    with atomic_path(tmp_path / "atomic") as temporary:
        temporary.write_text("x")
    assert (tmp_path / "atomic").stat().st_mode == ordinary.stat().st_mode


def test_json_npy_digest(tmp_path):
    write_json(tmp_path / "a.json", {"name": "Zoë"})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"name": "Zoë"}
    with pytest.raises(ValueError):
        write_json(tmp_path / "b.json", {"value": float("nan")})
    assert not (tmp_path / "b.json").exists()
    write_npy(tmp_path / "a.npy", np.arange(3, dtype=np.float16))
    assert np.load(tmp_path / "a.npy").dtype == np.float16
    content = (tmp_path / "a.npy").read_bytes()
    assert digest(tmp_path / "a.npy") == hashlib.blake2b(content, digest_size=16).hexdigest()


def npz_bytes():
    stream = io.BytesIO()
    np.savez(stream, a=np.zeros(3))
    return stream.getvalue()


def test_hostile_arrays(tmp_path):
    trace, path = tmp_path / "ran", tmp_path / "a.npy"
    good = np.arange(12, dtype=np.float32).reshape(3, 4)
    path.write_bytes(npy_bytes(good))
    assert np.array_equal(read_npy(path, 2), good)
    claims = npy_bytes(good).replace(b"(3, 4), }          ", b"(99999999999, 4), }")
    for content in (
        npy_bytes(np.array([Calls(os.mkdir, str(trace))], dtype=object)),
        pickle.dumps(Calls(os.mkdir, str(trace))),
        npz_bytes(),
        claims,
        npy_bytes(np.array(["text"])),
        npy_bytes(np.zeros(3)),
        *(npy_bytes(good)[:length] for length in (0, 1, 8, 40, 100, 128, 140, 175)),
    ):
        path.write_bytes(content)
        with pytest.raises((ValueError, OSError)):
            read_npy(path, 2)
    assert not trace.exists()
