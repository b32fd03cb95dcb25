"""Temporary files of the page: limits, age, and folders of killed processes."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from rvc_lightning.app.storage import VisitorFiles, remove_abandoned, visitor_files


def test_temporary_files_are_private_and_deleted_at_exit():
    before = tempfile.gettempdir()
    with visitor_files(1000, 60) as files:
        folder = Path(tempfile.mkdtemp())
        assert folder.parent == files.folder
        # Windows reports no permissions of groups and others.
        private = 0 if os.name != "nt" else 0o077
        assert folder.parent.stat().st_mode & 0o077 == folder.parent.parent.stat().st_mode & 0o077 == private
    assert not files.folder.parent.exists()
    assert tempfile.gettempdir() == before


def test_sweep_deletes_old_files_in_any_folder(tmp_path):
    (tmp_path / "uploads").mkdir()
    for name, age in (("uploads/old.wav", 100), ("tmpinterrupted", 100), ("new.wav", 10)):
        (tmp_path / name).write_bytes(b"x")
        changed = (tmp_path / name).stat().st_mtime - age
        os.utime(tmp_path / name, (changed, changed))
    VisitorFiles(tmp_path, 1000, keep_seconds=60).sweep()
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["new.wav"]


def test_sweep_deletes_old_empty_folders(tmp_path):
    for name in ("old", "new", "full"):
        (tmp_path / name).mkdir()
    (tmp_path / "full" / "a.wav").touch()
    for name in ("old", "full"):
        os.utime(tmp_path / name, (1, 1))
    VisitorFiles(tmp_path, 1000, keep_seconds=60).sweep()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "new"]


def test_files_of_jobs_count(tmp_path):
    for name in ("input", "output", "other"):
        (tmp_path / "jobs" / "1" / name).mkdir(parents=True)
        (tmp_path / "jobs" / "1" / name / "a.wav").write_bytes(bytes(30))
    files = VisitorFiles(tmp_path / "files", max_bytes=100, keep_seconds=60, jobs=tmp_path / "jobs")
    with files.reserve(40) as first, files.reserve(1) as second:
        assert (first, second) == (True, False)


def test_files_are_swept_while_the_page_runs():
    with visitor_files(1000, keep_seconds=0.05) as files:
        path = files.folder / "a.wav"
        path.write_bytes(b"x")
        for _ in range(200):
            if not path.exists():
                return
            time.sleep(0.05)
    pytest.fail("the file was not deleted")


def test_uploads_reserve_space(tmp_path):
    files = VisitorFiles(tmp_path, max_bytes=100, keep_seconds=60)
    (tmp_path / "a").write_bytes(bytes(50))
    with files.reserve(40) as first, files.reserve(20) as second:
        assert (first, second) == (True, False)
    with files.reserve(50) as later:
        assert later


@pytest.mark.slow
def test_folders_of_killed_processes_are_deleted(tmp_path):
    code = (
        "import sys, time\n"
        "from rvc_lightning.app.storage import visitor_files\n"
        "with visitor_files(1000, 60) as files:\n"
        "    (files.folder / 'a.wav').write_bytes(b'x')\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(600)\n"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    processes = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE) for _ in range(2)
    ]
    try:
        assert all(process.stdout.readline() == b"ready\n" for process in processes)
        (tmp_path / "rvc-app-of-others").mkdir()
        assert len(list(tmp_path.glob("rvc-app-*/files/a.wav"))) == 2
        processes[0].kill()
        processes[0].wait()
        remove_abandoned(tmp_path)
        assert len(list(tmp_path.glob("rvc-app-*/files/a.wav"))) == 1
        assert (tmp_path / "rvc-app-of-others").is_dir()
    finally:
        for process in processes:
            process.kill()
            process.wait()
