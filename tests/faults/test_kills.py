"""SIGKILL at any moment of `prepare`, `train` and `convert`: nothing is lost, half-written or done twice.

The long part, `python -m pytest -m long tests/faults`, kills each command fifty times on the whole demo.
"""

import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
from kills import FORK, Convert, Prepare, Train, check_end_of, children_of, kill_at_random, lives
from stubs import make_voice, quick_config
from torch.utils.data import DataLoader

from rvc_lightning.cli.resolvers import DEMO_FOLDER
from rvc_lightning.io.workers import end_with_parent

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")

FEW, MANY = 1, int(os.environ.get("RVC_TEST_KILLS", 50))


@pytest.fixture
def few(tmp_path):
    """Three short recordings of the demo."""
    folder = tmp_path / "few"
    folder.mkdir()
    for name in ("09", "10", "11"):
        shutil.copy(DEMO_FOLDER / "target" / f"{name}.flac", folder)
    return folder


@pytest.fixture
def voice(tmp_path):
    return make_voice(quick_config()).save(tmp_path / "voice.pth")


def report(name, tally):
    last = max(tally.seconds)
    sys.stdout.write(
        f"\n{name}: {tally.kills} kills up to {last:.1f} s after the start, {tally.ends} runs to the end, "
        f"{sum(tally.redone)} finished pieces redone\n"
    )


def test_a_killed_preparation(tmp_path, few):
    kill_at_random(Prepare(few, num_workers=0), tmp_path, FEW, seed=0)


def test_a_killed_training(tmp_path, few):
    kill_at_random(Train(few, epochs=2, batch_size=1), tmp_path, FEW, seed=0)


def test_a_killed_conversion(tmp_path, few, voice):
    kill_at_random(Convert(few, voice, num_workers=0), tmp_path, FEW, seed=0)


def read_one_and_wait(read):
    # More than a pipe holds: the worker waits for somebody to take the second.
    loader = DataLoader([b"x" * (1 << 20)] * 3, batch_size=None, num_workers=1, worker_init_fn=end_with_parent)
    for _ in loader:
        read.set()
        time.sleep(100)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc")
def test_a_loading_process_does_not_outlive_its_parent():
    read = FORK.Event()
    process = FORK.Process(target=read_one_and_wait, args=(read,))
    process.start()
    assert read.wait(60)
    workers = children_of(process)
    assert workers and all(map(lives, workers))
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    check_end_of(workers)


@pytest.mark.long
@pytest.mark.slow
def test_preparation_killed_many_times(tmp_path):
    report("prepare", kill_at_random(Prepare(DEMO_FOLDER / "target", num_workers=1), tmp_path, MANY, seed=1))


@pytest.mark.long
@pytest.mark.slow
def test_training_killed_many_times(tmp_path):
    report("train", kill_at_random(Train(DEMO_FOLDER / "target", epochs=2, batch_size=8), tmp_path, MANY, seed=2))


@pytest.mark.long
@pytest.mark.slow
def test_conversion_killed_many_times(tmp_path, voice):
    report("convert", kill_at_random(Convert(DEMO_FOLDER / "target", voice, num_workers=1), tmp_path, MANY, seed=3))
