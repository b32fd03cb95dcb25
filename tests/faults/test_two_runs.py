"""Two runs that are started in the same folder: one refuses and names the other; a killed one is in nobody's way."""

import multiprocessing
import os
import socket
import time

import pytest
from configurations import composed
from folders import OPTIONS, Doubler, recording

from rvc_lightning.conversion import folder as folder_conversion
from rvc_lightning.conversion.folder import convert_files
from rvc_lightning.errors import InUseError
from rvc_lightning.io.locks import LOCK_NAME, exclusive_lock
from rvc_lightning.training import run as workflow

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def hold(folder, inside):
    with exclusive_lock(folder):
        inside.set()
        time.sleep(100)


@pytest.fixture
def other():
    """Starts another process that is at work in a folder."""
    context, started = multiprocessing.get_context("fork"), []

    def start(folder):
        inside = context.Event()
        started.append(context.Process(target=hold, args=(folder, inside)))
        started[-1].start()
        assert inside.wait(20)
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.join()


def names(process):
    return rf"in use by another process \({process.pid} on '{socket.gethostname()}', since .*\d\d:\d\d.*\), and two"


def test_the_second_of_two_trainings_refuses(tmp_path, other, monkeypatch):
    monkeypatch.setattr(workflow, "KILL_GRACE_SECONDS", 0.1)
    config = composed(f"audio={tmp_path}", f"paths.root={tmp_path}", run=str(tmp_path / "run"))
    process = other(tmp_path / "run")
    with pytest.raises(InUseError, match=names(process)):
        workflow.train(config)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_the_second_of_two_conversions_refuses(tmp_path, other, monkeypatch):
    monkeypatch.setattr(folder_conversion, "KILL_GRACE_SECONDS", 0.1)
    recording(tmp_path / "in/a.wav")
    process = other(tmp_path / "out")
    with pytest.raises(InUseError, match=names(process)):
        convert_files(Doubler(), tmp_path / "in", tmp_path / "out", OPTIONS)
    process.kill()
    process.join()
    # What the killed one has left of itself is no hindrance, and goes.
    assert len(convert_files(Doubler(), tmp_path / "in", tmp_path / "out", OPTIONS).converted) == 1
    assert not any(path.name.startswith(LOCK_NAME) for path in (tmp_path / "out").iterdir())


def test_who_waits_says_for_whom(tmp_path, other, caplog):
    caplog.set_level("INFO")
    process = other(tmp_path)
    with pytest.raises(InUseError), exclusive_lock(tmp_path, timeout_seconds=0.1):
        pass
    assert f"Waiting for another process ({process.pid} on '" in caplog.text
    # A holder that has not yet said who it is.
    (tmp_path / ".lock.json").write_text("{")
    with (
        pytest.raises(InUseError, match="in use by another process, and two"),
        exclusive_lock(tmp_path, timeout_seconds=0.1),
    ):
        pass


def test_what_is_half_written_in_the_folder_goes_and_no_trace_is_left(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / ".writing-1.wav").touch()
    with exclusive_lock(folder, remove_after=True):
        assert sorted(path.name for path in folder.iterdir()) == [LOCK_NAME, f"{LOCK_NAME}.json"]
    assert not folder.exists()
