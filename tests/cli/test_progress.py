"""How far a long work is: a bar on a terminal, lines in a log, and never more than there is to do."""

import io

import pytest

from rvc_lightning.cli import progress
from rvc_lightning.cli.progress import Progress


class Terminal(io.StringIO):
    """A stream that says it is one."""

    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass as the test says."""
    now = [0.0]
    monkeypatch.setattr(progress, "perf_counter", lambda: now[0])
    return now


def test_a_terminal_has_a_bar_that_ends_at_its_end(monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr("sys.stderr", stream := Terminal())
    with Progress("converting", 3.3, "s") as work:
        for _ in range(5):
            # Seven hundredths more than there is, as of a file whose header only estimates its length.
            work.update(0.674)
            work._bar.refresh()
    assert work.done == 3.3 and "converting 100% " in stream.getvalue()
    assert " left" in stream.getvalue() and "clamping" not in stream.getvalue() and "s/s" not in stream.getvalue()
    assert caplog.text == ""


def test_elsewhere_there_is_a_line_a_minute(capsys, caplog, clock):
    caplog.set_level("INFO")
    with Progress("converting", 400, "s") as work:
        for _ in range(4):
            clock[0] += 31
            work.update(50)
    assert [record.getMessage() for record in caplog.records] == [
        "converting: 100 of 400 s (25 %), 3 min left", "converting: 200 of 400 s (50 %), 2 min left"]  # fmt: skip
    assert capsys.readouterr().err == ""


def test_who_is_not_asked_says_nothing(monkeypatch, caplog, clock):
    caplog.set_level("INFO")
    monkeypatch.setattr("sys.stderr", stream := Terminal())
    for work in (Progress("converting", 3, "s", enabled=False), Progress("converting", 0, "s", enabled=False)):
        clock[0] += 100
        work.update(1)
        work.close()
    assert (stream.getvalue(), caplog.text) == ("", "")
