"""Notices when one of several ranks has ended, says which, and ends the others: they would wait for it.

    rank 1 ──┐
    rank 2 ──┼── a connection each ──▶ rank 0, which tells the others what it sees
    rank 3 ──┘

The system closes the connections of a process that ends, however it does, and those to a machine that is gone. So
nobody has to answer in time, and a rank that is only slow is not taken for one that has ended.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import selectors
import signal
import socket
import threading
from contextlib import suppress
from typing import Any, NamedTuple

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import ParallelStrategy

from rvc_lightning.errors import LostRankError
from rvc_lightning.training.callbacks.last_checkpoint import TrainingStopped

log = logging.getLogger(__name__)

_LEAVES = "leaves"
_CONNECTING_SECONDS = 60.0
_LEARNING_SECONDS = 5.0
_PATIENCE_SECONDS = 30.0
_LINE_BYTES = 1 << 10
_WHY = (
    "Its own message says why; without one the system has killed it, most often for want of memory. What was saved "
    "before is kept"
)


class RankWatch(Callback):
    """Ends this rank with LostRankError once another has ended before its work was done.

    A rank that waits for the one that is gone, in a library that does not let go, is killed half a minute after the
    log has said why.
    """

    def __init__(self) -> None:
        """Watches from `setup` to `teardown`."""
        self._line: _Line | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Connects the ranks, where there are several."""
        if isinstance(trainer.strategy, ParallelStrategy) and trainer.world_size > 1:
            self._line = _connect(trainer.strategy, trainer)

    def on_train_batch_start(self, *args: Any) -> None:
        """Raises LostRankError if a rank has ended."""
        self._check()

    def on_validation_batch_start(self, *args: Any) -> None:
        """Raises LostRankError if a rank has ended."""
        self._check()

    def on_predict_batch_start(self, *args: Any) -> None:
        """Raises LostRankError if a rank has ended."""
        self._check()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Raises LostRankError in place of what a library makes of the connection to a rank that has ended."""
        line, self._line = self._line, None
        if line is None:
            return
        lost = line.lost(_LEARNING_SECONDS) if isinstance(exception, RuntimeError) else None
        # A mistake or a defect ends the others as well; these two reach all.
        line.end(leaves=isinstance(exception, KeyboardInterrupt | TrainingStopped) or lost is not None)
        if lost is not None:
            raise _error(lost) from exception

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Says that this rank is done."""
        if self._line is not None:
            self._line.end(leaves=True)
            self._line = None

    def _check(self) -> None:
        if self._line is not None and (lost := self._line.lost()) is not None:
            raise _error(lost)


def _error(lost: str) -> LostRankError:
    return LostRankError(f"{lost} has ended before the others, which cannot go on without it. {_WHY}")


class _Meeting(NamedTuple):
    """Where the ranks meet, and the word by which they know each other."""

    host: str
    port: int
    token: str


class _Line:
    """This rank's end of the connections: one to rank 0, or those of rank 0 to all others."""

    def __init__(self, others: dict[socket.socket, str]) -> None:
        """Listens from now on.

        Args:
            others: Connections, and who is at the other end.
        """
        self.others = others
        self._lost: str | None = None
        self._known, self._ended = threading.Event(), threading.Event()
        threading.Thread(target=self._listen, name="rank-watch", daemon=True).start()

    def lost(self, patience_seconds: float = 0.0) -> str | None:
        """Who has ended, as far as that is known, or comes to be known within so many seconds."""
        self._known.wait(patience_seconds)
        return self._lost

    def end(self, *, leaves: bool) -> None:
        """Lets go of the others; unless this rank `leaves`, they take it for one that has ended."""
        self._ended.set()
        for other in self.others:
            # They may be gone.
            with suppress(OSError):
                if leaves:
                    _say(other, _LEAVES)
                other.shutdown(socket.SHUT_RDWR)

    def _listen(self) -> None:
        """Waits for the first rank that ends without a word."""
        with selectors.DefaultSelector() as selector:
            for other in self.others:
                selector.register(other, selectors.EVENT_READ, other)
            while selector.get_map() and not self._ended.is_set():
                for key, _ in selector.select():
                    said = _heard(key.data)
                    if said != _LEAVES and not self._ended.is_set():
                        self._tell(said or self.others[key.data])
                        return
                    selector.unregister(key.data)

    def _tell(self, lost: str) -> None:
        """Lets all others know, then waits until this rank has ended; ends it if it does not."""
        # At length: Lightning kills the first rank within seconds of the end of one that it has started.
        log.error("Lost: %s, and the others end. %s", lost, _WHY)
        for other in self.others:
            # The one that has ended is among them.
            with suppress(OSError):
                _say(other, lost)
        # Known here only now: this rank then ends, and must not be taken for the one that was lost.
        self._lost = lost
        self._known.set()
        if not self._ended.wait(_PATIENCE_SECONDS):
            log.error("Error: %s", _error(lost))
            os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))


def _connect(strategy: ParallelStrategy, trainer: Trainer) -> _Line | None:
    """Connects all ranks; None, and a word, where that is not possible."""
    environment = strategy.cluster_environment
    assert environment is not None
    host = environment.main_address if trainer.num_nodes > 1 else "127.0.0.1"
    server = socket.create_server(("" if trainer.num_nodes > 1 else host, 0)) if trainer.is_global_zero else None
    own = _Meeting(host, server.getsockname()[1], secrets.token_hex()) if server else None
    meeting = strategy.broadcast(own)
    assert meeting is not None
    try:
        if server is None:
            return _Line({_joined(meeting, trainer.global_rank): "rank 0"})
        with server:
            return _Line(_gathered(server, meeting.token, trainer.world_size - 1))
    except OSError as error:
        log.warning("The ranks cannot watch each other (%s): one that ends may be noticed late", error)
        return None


def _joined(meeting: _Meeting, rank: int) -> socket.socket:
    connection = _watched(socket.create_connection((meeting.host, meeting.port), _CONNECTING_SECONDS))
    who = f"rank {rank} (process {os.getpid()} on '{socket.gethostname()}')"
    _say(connection, json.dumps([meeting.token, who]))
    return connection


def _gathered(server: socket.socket, token: str, count: int) -> dict[socket.socket, str]:
    """Connections of `count` ranks that know the word, and who they are."""
    server.settimeout(_CONNECTING_SECONDS)
    others: dict[socket.socket, str] = {}
    while len(others) < count:
        connection = _watched(server.accept()[0])
        try:
            said, who = json.loads(_heard(connection))
        except (ValueError, TypeError):
            said, who = None, ""
        if said == token:
            others[connection] = str(who)
        else:
            connection.close()
    return others


def _watched(connection: socket.socket) -> socket.socket:
    """A connection that also ends when the other machine has been silent for half a minute."""
    connection.settimeout(None)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return connection


def _say(connection: socket.socket, text: str) -> None:
    connection.sendall(text.encode() + b"\n")


def _heard(connection: socket.socket) -> str:
    """The next line; '' from one that has ended."""
    line = b""
    while not line.endswith(b"\n") and len(line) < _LINE_BYTES:
        try:
            got = connection.recv(1)
        except OSError:
            return ""
        if not got:
            return ""
        line += got
    return line.decode("utf-8", "replace").strip()
