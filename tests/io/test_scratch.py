"""Temporary folders for unfinished files."""

import subprocess
import sys

import pytest

from rvc_lightning.io.scratch import scratch_folder


def folders(parent):
    return [path for path in parent.iterdir() if path.name.startswith(".converting-")]


def test_folder_is_removed_at_the_end(tmp_path):
    with pytest.raises(KeyError), scratch_folder(tmp_path / "new") as folder:
        assert folder.parent == tmp_path / "new"
        (folder / "samples.f32").touch()
        raise KeyError
    assert not folders(tmp_path / "new")


def test_folders_of_others_in_use_are_kept(tmp_path):
    with scratch_folder(tmp_path) as first, scratch_folder(tmp_path) as second:
        assert set(folders(tmp_path)) == {first, second}


@pytest.mark.parametrize("files", [(), ("lock",), ("lock", "samples.f32"), ("samples.f32",)])
def test_leftovers_are_removed(tmp_path, files):
    leftover = tmp_path / ".converting-killed"
    leftover.mkdir()
    for name in files:
        (leftover / name).touch()
    with scratch_folder(tmp_path) as folder:
        assert folders(tmp_path) == [folder]


@pytest.mark.slow
def test_folder_of_a_killed_process_is_removed(tmp_path):
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from rvc_lightning.io.scratch import scratch_folder\n"
        "with scratch_folder(Path(sys.argv[1])): os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert len(folders(tmp_path)) == 1
    with scratch_folder(tmp_path) as folder:
        assert folders(tmp_path) == [folder]
