"""A lost rank ends the others soon, with an error that names it."""

import os
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from tiny import write_tiny_dataset

from rvc_lightning.errors import DatasetError, DivergenceError, LostRankError
from rvc_lightning.training.callbacks import rank_watch
from rvc_lightning.training.callbacks.last_checkpoint import TrainingStopped
from rvc_lightning.training.callbacks.rank_watch import RankWatch

SCRIPT = Path(__file__).parents[1] / "support/lost_ranks.py"


class Ranks:
    """The watches of several ranks, in threads of this process."""

    def __init__(self, count, n_absent=0):
        self.address, self.sent, self.watches = None, threading.Event(), [RankWatch() for _ in range(count)]
        threads = [threading.Thread(target=self.connect, args=(rank,)) for rank in range(count - n_absent)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert n_absent or all(watch._peers is not None for watch in self.watches)

    def connect(self, rank):
        environment = SimpleNamespace(main_address="127.0.0.1")
        strategy = SimpleNamespace(cluster_environment=environment, broadcast=self.broadcast)
        trainer = SimpleNamespace(
            strategy=strategy, world_size=len(self.watches), num_nodes=1, global_rank=rank, is_global_zero=rank == 0
        )
        self.watches[rank]._peers = rank_watch._connect(strategy, trainer)

    def broadcast(self, address):
        if address[0]:
            self.address = address
            self.sent.set()
        assert self.sent.wait(20)
        return self.address

    def report_error(self, rank, error):
        self.watches[rank].on_exception(None, None, error)


def detected_by(watch):
    """Return the message that a rank raises before its next batch."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            watch.on_train_batch_start()
        except LostRankError as error:
            return str(error)
        time.sleep(0.01)
    return None


@pytest.mark.parametrize("victim", [0, 1, 2])
def test_all_other_ranks_raise_an_error_with_the_lost_rank(victim, caplog):
    ranks = Ranks(3)
    # An error on one rank ends the others.
    ranks.report_error(victim, DatasetError("slice '7' cannot be read"))
    for number, watch in enumerate(ranks.watches):
        if number != victim:
            assert detected_by(watch).startswith(f"rank {victim}")
            # In place of the library's own error.
            with pytest.raises(LostRankError, match=f"rank {victim}.* has ended before the others"):
                ranks.report_error(number, RuntimeError("Connection closed by peer"))
    assert f"Lost: rank {victim}" in caplog.text


@pytest.mark.parametrize("stop", [TrainingStopped(15, Path("last.ckpt")), DivergenceError("a loss became nan")])
def test_finished_and_stopped_ranks_are_not_lost(caplog, stop):
    ranks = Ranks(3)
    trainer = SimpleNamespace(strategy=SimpleNamespace(barrier=lambda name: None))
    ranks.watches[1].teardown(trainer, None, "fit")
    ranks.report_error(2, stop)
    time.sleep(0.2)
    ranks.watches[0].on_train_batch_start()
    ranks.watches[0].teardown(trainer, None, "fit")
    assert "Lost" not in caplog.text


def test_rank_that_fails_last_ends_those_that_have_finished():
    ranks = Ranks(2)

    def barrier(name):
        ranks.report_error(1, DatasetError("slice '7' cannot be read"))
        assert ranks.watches[0]._peers.lost_rank(20)
        raise RuntimeError("Connection closed by peer")

    with pytest.raises(RuntimeError) as error:
        ranks.watches[0].teardown(SimpleNamespace(strategy=SimpleNamespace(barrier=barrier)), None, "predict")
    with pytest.raises(LostRankError, match="rank 1"):
        ranks.report_error(0, error.value)


def test_rank_that_cannot_connect_ends_no_other(monkeypatch, caplog):
    monkeypatch.setattr(rank_watch, "_CONNECT_SECONDS", 0.2)
    ranks = Ranks(3, n_absent=1)
    assert ranks.watches[0]._peers is None and "The ranks cannot watch each other" in caplog.text
    time.sleep(0.2)
    ranks.watches[1].on_train_batch_start()
    assert "Lost" not in caplog.text


def test_silent_client_does_not_block_the_ranks(monkeypatch):
    monkeypatch.setattr(rank_watch, "_CONNECT_SECONDS", 0.2)
    server = socket.create_server(("127.0.0.1", 0))
    with server, socket.create_connection(server.getsockname()), pytest.raises(TimeoutError):
        rank_watch._accept(server, "token", 1)


def test_error_of_a_rank_itself_is_not_replaced(monkeypatch):
    monkeypatch.setattr(rank_watch, "_DETECT_SECONDS", 0.1)
    ranks = Ranks(2)
    ranks.report_error(0, RuntimeError("shapes do not match"))
    assert detected_by(ranks.watches[1]).startswith("rank 0")
    ranks.report_error(1, LostRankError("rank 0"))


def test_hanging_rank_is_killed(monkeypatch, caplog):
    killed = threading.Event()
    monkeypatch.setattr(rank_watch, "_KILL_SECONDS", 0.1)
    monkeypatch.setattr(rank_watch.os, "kill", lambda pid, number: killed.set() if pid == os.getpid() else None)
    ranks = Ranks(2)
    ranks.report_error(1, DatasetError("slice '7' cannot be read"))
    assert killed.wait(20) and "Error: rank 1 (process" in caplog.text


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "victim"), [("ddp", 1), ("ddp", 0), ("fsdp", 1)])
def test_killed_rank_ends_the_run_within_a_minute(tmp_path, strategy, victim):
    write_tiny_dataset(tmp_path)
    command = [sys.executable, str(SCRIPT), str(tmp_path), strategy, str(victim)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(SCRIPT.parent)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
    seconds = time.time() - (tmp_path / "killed").stat().st_mtime
    assert seconds < 60
    assert done.returncode != 0
    assert re.search(rf"Error: rank {victim}.* has ended before the others", done.stderr), done.stderr[-3000:]
    assert "Traceback" not in done.stderr
