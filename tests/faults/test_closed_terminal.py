"""A terminal that is closed in the middle of a training: the run saves its state and ends."""

import os
import re
import signal
import struct
import sys
import time

import psutil
import pytest
from runs import SMALL_RUN
from systems import POSIX

pytestmark = [pytest.mark.slow, POSIX]

ENDLESS = ("trainer.max_epochs=-1", "data.num_workers=1", "data.held_out=0", "callbacks.last.every_minutes=null")


def train_on_terminal(folder, recordings):
    """Start a training of many steps on a terminal, and return its process number and the terminal."""
    # The modules only exist on POSIX.
    import fcntl
    import pty
    import termios

    pid, terminal = pty.fork()
    if pid == 0:
        settings = (*SMALL_RUN, *ENDLESS, f"audio={recordings}", f"paths.root={folder}")
        # Buffered output is written at the exit again.
        environment = {**os.environ, "RVC_RUN": "run", "PYTHONUNBUFFERED": ""}
        # nohup may have started the tests.
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        os.execve(sys.executable, [sys.executable, "-m", "rvc_lightning.train", *settings], environment)
    # A terminal without a size shows no bar.
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    return pid, terminal


def test_run_is_saved_and_its_processes_end(tmp_path, recordings):
    pid, terminal = train_on_terminal(tmp_path, recordings)
    output = b""
    while not re.search(rb"[1-9]\d*step", output):
        output += os.read(terminal, 4096)
    workers = psutil.Process(pid).children(recursive=True)
    os.close(terminal)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status == 128 + signal.SIGHUP
    (run,) = tmp_path.glob("runs/*/run")
    assert (run / "checkpoints/last.ckpt").is_file()
    log = (run / "train.log").read_text(encoding="utf-8")
    assert "Training stopped by SIGHUP" in log and "Traceback" not in log
    time.sleep(2)
    assert workers and not any(map(psutil.Process.is_running, workers))
