"""The second of two runs in the same folder is an error that names the first; a killed run blocks nothing."""

import multiprocessing
import os
import socket
import time

import pytest
from configurations import compose_config
from folders import OPTIONS, Doubler, recording

from rvc_lightning.conversion import folder as folder_conversion
from rvc_lightning.conversion.folder import convert_files
from rvc_lightning.errors import InUseError
from rvc_lightning.io.locks import LOCK_NAME, exclusive_lock
from rvc_lightning.training import run as workflow

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def hold_lock(folder, is_locked):
    with exclusive_lock(folder):
        is_locked.set()
        time.sleep(100)


@pytest.fixture
def lock_in_other_process():
    """Start another process that holds the lock of a folder."""
    context, started = multiprocessing.get_context("fork"), []

    def start(folder):
        is_locked = context.Event()
        started.append(context.Process(target=hold_lock, args=(folder, is_locked)))
        started[-1].start()
        assert is_locked.wait(20)
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.join()


def in_use_message(process):
    return rf"in use by another process \({process.pid} on '{socket.gethostname()}', since .*\d\d:\d\d.*\), and two"


def test_second_training_is_an_error(tmp_path, lock_in_other_process, monkeypatch):
    monkeypatch.setattr(workflow, "KILL_GRACE_SECONDS", 0.1)
    config = compose_config(f"audio={tmp_path}", f"paths.root={tmp_path}", run=str(tmp_path / "run"))
    process = lock_in_other_process(tmp_path / "run")
    with pytest.raises(InUseError, match=in_use_message(process)):
        workflow.train(config)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert (tmp_path / "run" / LOCK_NAME).exists()


def test_second_conversion_is_an_error(tmp_path, lock_in_other_process, monkeypatch):
    monkeypatch.setattr(folder_conversion, "KILL_GRACE_SECONDS", 0.1)
    recording(tmp_path / "in/a.wav")
    process = lock_in_other_process(tmp_path / "out")
    with pytest.raises(InUseError, match=in_use_message(process)):
        convert_files(Doubler(), tmp_path / "in", tmp_path / "out", OPTIONS)
    process.kill()
    process.join()
    # The files of the killed process block nothing and are removed.
    assert len(convert_files(Doubler(), tmp_path / "in", tmp_path / "out", OPTIONS).converted) == 1
    assert not any(path.name.startswith(LOCK_NAME) for path in (tmp_path / "out").iterdir())


def test_waiting_process_logs_the_holder(tmp_path, lock_in_other_process, caplog):
    caplog.set_level("INFO")
    process = lock_in_other_process(tmp_path)
    with pytest.raises(InUseError), exclusive_lock(tmp_path, timeout_seconds=0.1):
        pass
    assert f"Waiting for another process ({process.pid} on '" in caplog.text
    # A holder that has not yet written its identity.
    (tmp_path / ".lock.json").write_text("{")
    with (
        pytest.raises(InUseError, match="in use by another process, and two"),
        exclusive_lock(tmp_path, timeout_seconds=0.1),
    ):
        pass


def test_unfinished_files_and_the_lock_are_removed(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / ".writing-1.wav").touch()
    with exclusive_lock(folder, remove_after=True):
        assert sorted(path.name for path in folder.iterdir()) == [LOCK_NAME, f"{LOCK_NAME}.json"]
    assert not folder.exists()
