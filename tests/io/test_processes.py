"""Processes and their groups."""

import os
import signal
import subprocess
import sys

import pytest

from rvc_lightning.cli.overrides import parse_overrides
from rvc_lightning.io import processes


@pytest.fixture
def interruptible():
    """Let children receive Ctrl-C, which they ignore if this process was started in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(processes.IS_WINDOWS, reason="the exit statuses are those of POSIX")
@pytest.mark.parametrize(("end", "number"), [(processes.interrupt, signal.SIGINT), (processes.kill, 9)])
def test_processes_are_ended_with_their_children(interruptible, end, number):
    process = processes.start_process_group(["sh", "-c", "(echo started; exec sleep 60); true"], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"started\n"
    end(process.pid)
    # The child has the other end of the pipe.
    assert process.communicate(timeout=30) == (b"", None) and process.returncode == -number
    end(process.pid)


def test_output_of_a_process_is_utf8():
    script = "import os; print(os.environ['PYTHONIOENCODING'], os.environ['ADDED'])"
    process = processes.start_process_group([sys.executable, "-c", script], {"ADDED": "1"}, stdout=subprocess.PIPE)
    assert process.communicate()[0].split() == [b"utf-8", b"1"]


@pytest.mark.skipif(processes.IS_WINDOWS, reason="the numbers are those of POSIX")
def test_priority_is_raised_where_the_system_permits_it():
    script = "from rvc_lightning.io.processes import raise_priority; import os; raise_priority(); print(os.nice(0))"
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert int(output) == (-10 if may_raise_priority() else os.nice(0))


def may_raise_priority():
    return subprocess.run([sys.executable, "-c", "import os; os.nice(-10)"], capture_output=True).returncode == 0


def test_peak_memory_is_in_bytes():
    assert 2**23 < processes.peak_memory_bytes() < 2**38


def test_ctrl_break_on_windows(monkeypatch):
    """A process that gets any other signal there is terminated, and cannot save its state."""
    sent = []
    monkeypatch.setattr(processes, "IS_WINDOWS", True)
    monkeypatch.setattr(signal, "CTRL_BREAK_EVENT", 1, raising=False)
    monkeypatch.setattr(processes.os, "kill", lambda *arguments: sent.append(arguments))
    processes.interrupt(1234)
    assert sent == [(1234, 1)]


@pytest.mark.parametrize(
    ("argument", "quoted"),
    [
        ("redo=true", "redo=true"),
        (r"C:\voices\anna.pth", r"C:\voices\anna.pth"),
        (r'voice="C:\my voices\anna.pth"', r'''"voice='C:\my voices\anna.pth'"'''),
        ("effects=[compressor,reverb]", '"effects=[compressor,reverb]"'),
        ("Anna's", '"Anna\'s"'),
        ('voice="Anna\'s voice.pth"', r'''"voice=\"Anna's voice.pth\""'''),
    ],
)
def test_arguments_for_shells_of_windows(monkeypatch, argument, quoted):
    monkeypatch.setattr(processes, "IS_WINDOWS", True)
    assert processes.quote_argument(argument) == quoted


def test_hydra_reads_single_quotes_like_double_ones():
    given = r'voice="C:\my voices\a"', r"voice='C:\my voices\a'"
    assert {parse_overrides([text])["voice"].value() for text in given} == {r"C:\my voices\a"}
