"""Progress of long work: a bar on a terminal, a line per minute in a log, and never more than the total."""

import io
import json

import pytest
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from rvc_lightning.cli import progress, progress_file
from rvc_lightning.cli.progress import Progress
from rvc_lightning.cli.progress_file import ProgressFile


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """The time in seconds, set by the test."""
    now = [0.0]
    for module in (progress, progress_file):
        monkeypatch.setattr(module, "perf_counter", lambda: now[0])
    return now


def test_terminal_shows_a_bar_that_ends_at_100_percent(monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr("sys.stderr", stream := Terminal())
    with Progress("converting", 3.3, "s") as work:
        for _ in range(5):
            # 0.07 more than the total, as for a file whose header only estimates its length.
            work.update(0.674)
            work._bar.refresh()
    assert work.done == 3.3 and "converting 100% " in stream.getvalue()
    assert " left" in stream.getvalue() and "clamping" not in stream.getvalue() and "s/s" not in stream.getvalue()
    assert caplog.text == ""


def test_terminal_of_unknown_size_shows_the_progress(monkeypatch):
    controller, terminal = pytest.importorskip("pty").openpty()
    with open(terminal, "w") as stream, open(controller, "rb", buffering=0) as screen:
        monkeypatch.setattr("sys.stderr", stream)
        Progress("converting", 3, "s").close()
        print("end", file=stream, flush=True)
        assert b"converting   0% " in screen.read(1000)


def test_log_gets_one_line_per_minute(capsys, caplog, clock):
    caplog.set_level("INFO")
    with Progress("converting", 400, "s") as work:
        for _ in range(4):
            clock[0] += 31
            work.update(50)
    assert [record.getMessage() for record in caplog.records] == [
        "converting: 100 of 400 s (25 %), 3 min left", "converting: 200 of 400 s (50 %), 2 min left"]  # fmt: skip
    assert capsys.readouterr().err == ""


def test_disabled_progress_prints_nothing(monkeypatch, caplog, clock):
    caplog.set_level("INFO")
    monkeypatch.setattr("sys.stderr", stream := Terminal())
    for work in (Progress("converting", 3, "s", enabled=False), Progress("converting", 0, "s", enabled=False)):
        clock[0] += 100
        work.update(1)
        work.close()
    assert (stream.getvalue(), caplog.text) == ("", "")


CONFIG = OmegaConf.create({"hydra": {"runtime": {"output_dir": "runs/anna"}}})


def test_progress_file_has_stage_share_and_time_left(tmp_path, clock):
    path = tmp_path / "progress.json"
    file = ProgressFile(str(path))
    file.on_job_start(CONFIG)
    expected = {"stage": "", "share": None, "seconds_left": None, "output_folder": "runs/anna", "finished": False}
    assert json.loads(path.read_text(encoding="utf-8")) == expected
    with Progress("converting", 100, "s") as work, Progress("hidden", 1, "s", enabled=False) as hidden:
        hidden.update(1)
        clock[0] += 10
        work.update(20)
        expected |= {"stage": "converting", "share": 0.2, "seconds_left": 40.0}
        assert json.loads(path.read_text(encoding="utf-8")) == expected
        clock[0] += 0.5
        work.update(20)
        assert json.loads(path.read_text(encoding="utf-8")) == expected
        clock[0] += 1
        work.update(0)
        assert json.loads(path.read_text(encoding="utf-8"))["share"] == 0.4
    file.on_job_end(CONFIG, JobReturn(status=JobStatus.COMPLETED))
    expected |= {"share": 1.0, "seconds_left": 0.0, "finished": True}
    assert json.loads(path.read_text(encoding="utf-8")) == expected
    assert [name.name for name in tmp_path.iterdir()] == ["progress.json"]


def test_another_rank_leaves_the_progress_file_alone(tmp_path, clock):
    (tmp_path / "progress.json").write_text("{}")
    file = ProgressFile(str(tmp_path / "progress.json"))
    file.on_job_start(CONFIG)
    with Progress("converting", 100, "s") as work:
        work.update(20)
    file.on_job_end(CONFIG, JobReturn(status=JobStatus.COMPLETED))
    assert (tmp_path / "progress.json").read_text(encoding="utf-8") == "{}"


def test_progress_file_that_cannot_be_written_does_not_end_the_command(tmp_path, clock):
    file = ProgressFile(str(tmp_path / "missing" / "progress.json"))
    file.on_job_start(CONFIG)
    with Progress("converting", 100, "s") as work:
        work.update(20)
    file.on_job_end(CONFIG, JobReturn(status=JobStatus.FAILED))
    assert list(tmp_path.iterdir()) == []
