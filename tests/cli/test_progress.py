"""Progress of long work: a bar on a terminal, a line per minute in a log, and never more than the total."""

import io

import pytest

from rvc_lightning.cli import progress
from rvc_lightning.cli.progress import Progress


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """The time in seconds, set by the test."""
    now = [0.0]
    monkeypatch.setattr(progress, "perf_counter", lambda: now[0])
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
