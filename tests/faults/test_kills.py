"""SIGKILL at any moment of commands and of a job of the page: nothing is lost, incomplete or done twice.

`python -m pytest -m long tests/faults` kills each command fifty times on the whole demo, see README.md.
"""

import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
from job_kills import Server, kill_jobs_at_random
from kills import FORK, Convert, Cover, Prepare, Train, check_exit, children_of, is_alive, kill_at_random
from separation import write_model
from stubs import make_voice, quick_config
from torch.utils.data import DataLoader

from rvc_lightning.cli.resolvers import DEMO_FOLDER
from rvc_lightning.io.workers import end_with_parent

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")]

DEMO = DEMO_FOLDER / "target"
KILLS = int(os.environ.get("RVC_TEST_KILLS", 50))


@pytest.fixture
def short_recordings(tmp_path):
    """Three recordings of the demo."""
    audio = tmp_path / "audio"
    audio.mkdir()
    for name in ("09.flac", "10.flac", "11.flac"):
        shutil.copyfile(DEMO / name, audio / name)
    return audio


@pytest.fixture
def voice(tmp_path):
    return make_voice(quick_config()).save(tmp_path / "voice.pth")


@pytest.fixture
def models(tmp_path):
    """Tiny separation models."""
    pytest.importorskip("pyloudnorm")
    lead = write_model(tmp_path / "models", "lead", target="lead", instruments=("lead", "rest"))
    return {"vocals": write_model(tmp_path / "models", "vocals"), "lead": lead}


def report(name, statistics):
    first, last = min(statistics.seconds), max(statistics.seconds)
    line = f"{statistics.kills} kills {first:.1f} to {last:.1f} s after a start or a kill"
    sys.stdout.write(f"\n{name}: {line}, {statistics.runs} runs completed\n")


def test_killed_preparation(tmp_path, short_recordings):
    kill_at_random(Prepare(short_recordings, num_workers=0), tmp_path, 1, seed=0)


def test_killed_training(tmp_path, short_recordings):
    kill_at_random(Train(short_recordings, epochs=2, batch_size=1), tmp_path, 1, seed=0)


def test_killed_conversion(tmp_path, short_recordings, voice):
    kill_at_random(Convert(short_recordings, voice, num_workers=0), tmp_path, 1, seed=0)


def test_killed_cover(tmp_path, voice, models):
    kill_at_random(Cover(DEMO / "09.flac", voice, models), tmp_path, 1, seed=0)


def test_killed_job(tmp_path, short_recordings):
    kill_jobs_at_random(Server(short_recordings, ("anna",)), tmp_path, 1, seed=0)


def read_one_item_and_wait(read):
    # An item is larger than the buffer of a pipe, so the worker waits for a reader of the second.
    loader = DataLoader([b"x" * (1 << 20)] * 3, batch_size=None, num_workers=1, worker_init_fn=end_with_parent)
    for _ in loader:
        read.set()
        time.sleep(100)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc")
def test_worker_exits_after_its_parent_is_killed():
    read = FORK.Event()
    process = FORK.Process(target=read_one_item_and_wait, args=(read,))
    process.start()
    assert read.wait(60)
    workers = children_of(process)
    assert workers and all(map(is_alive, workers))
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    check_exit(workers)


@pytest.mark.long
def test_preparation_killed_many_times(tmp_path):
    report("prepare", kill_at_random(Prepare(DEMO, num_workers=1), tmp_path, KILLS, seed=1))


@pytest.mark.long
def test_training_killed_many_times(tmp_path):
    report("train", kill_at_random(Train(DEMO, epochs=2, batch_size=8), tmp_path, KILLS, seed=2))


@pytest.mark.long
def test_conversion_killed_many_times(tmp_path, voice):
    report("convert", kill_at_random(Convert(DEMO, voice, num_workers=1), tmp_path, KILLS, seed=3))


@pytest.mark.long
def test_cover_killed_many_times(tmp_path, voice, models):
    song = DEMO_FOLDER / "source" / "01.flac"
    report("cover", kill_at_random(Cover(song, voice, models), tmp_path, KILLS, seed=4))


@pytest.mark.long
def test_job_killed_many_times(tmp_path):
    statistics, roles = kill_jobs_at_random(Server(DEMO, ("anna", "ben")), tmp_path, KILLS, seed=5)
    report(f"job of the page ({', '.join(f'{role} {number}' for role, number in roles.items())})", statistics)
