"""End all ranks when one of them is lost, with an error that names it.

    rank 1 ──┐
    rank 2 ──┼── one connection each ──▶ rank 0, which reports a lost rank to the others
    rank 3 ──┘

torch and Lightning detect a lost rank only by timeouts, which must be long because ranks may be slow, and never name
it. The operating system closes the connections of a process as soon as it ends; TCP keepalive closes those to a machine
that is unreachable.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
from collections.abc import Iterable
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from threading import Event, Thread

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import ParallelStrategy

from rvc_lightning.errors import DivergenceError, LostRankError
from rvc_lightning.training.callbacks.last_checkpoint import TrainingStopped

log = logging.getLogger(__name__)

_FINISHED = b"finished"
_CONNECT_SECONDS = 60.0
_DETECT_SECONDS = 5.0
_KILL_SECONDS = 30.0
_POLL_SECONDS = 0.2
_MESSAGE_BYTES = 1 << 10
_LOCAL = "127.0.0.1"
_ADVICE = (
    "Its own message gives the reason; without one, the system has killed it, usually for lack of memory. Earlier "
    "checkpoints are kept"
)


class RankWatch(Callback):
    """Raises LostRankError on every rank once one of them has ended before its work was done.

    A rank that waits for the lost one inside a library is killed after half a minute.
    """

    def __init__(self) -> None:
        """Initialize the callback; it watches from `setup` to `teardown` if there are several ranks."""
        self._peers: _Peers | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Connect the ranks."""
        if isinstance(trainer.strategy, ParallelStrategy) and trainer.world_size > 1:
            self._peers = _connect(trainer.strategy, trainer)

    def on_train_batch_start(self, *args: object) -> None:
        """Raise LostRankError if a rank is lost."""
        if self._peers is not None and (lost := self._peers.lost_rank()) is not None:
            raise _error(lost)

    def on_validation_batch_start(self, *args: object) -> None:
        """Raise LostRankError if a rank is lost."""
        self.on_train_batch_start()

    def on_predict_batch_start(self, *args: object) -> None:
        """Raise LostRankError if a rank is lost."""
        self.on_train_batch_start()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Raise LostRankError in place of a library's error about the connection to a lost rank."""
        peers, self._peers = self._peers, None
        if peers is None:
            return
        lost = peers.lost_rank(_DETECT_SECONDS) if isinstance(exception, RuntimeError) else None
        # Ctrl-C and signals reach all ranks, which also diverge together. Any other error must end the other ranks.
        together = isinstance(exception, KeyboardInterrupt | TrainingStopped | DivergenceError)
        peers.close(finished=lost is not None or together)
        if lost is not None:
            raise _error(lost) from exception

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Wait for all ranks, then disconnect this one."""
        # Watched, since a rank may still fail while the others wait for it.
        trainer.strategy.barrier("finished")
        if self._peers is not None:
            self._peers.close(finished=True)
            self._peers = None


def _error(lost: str) -> LostRankError:
    return LostRankError(f"{lost} has ended before the others, which cannot continue without it. {_ADVICE}")


class _Peers:
    """Connections of this rank: one to rank 0, or those of rank 0 to all others."""

    def __init__(self, connections: dict[Connection, str]) -> None:
        """Start watching `connections`, which map to the names of the ranks at the other ends."""
        self._connections = connections
        self._lost: str | None = None
        self._detected, self._closing = Event(), Event()
        self._thread = Thread(target=self._watch, name="rank-watch", daemon=True)
        self._thread.start()

    def lost_rank(self, timeout_seconds: float = 0.0) -> str | None:
        """Return the name of the lost rank, waiting for its detection; None if no rank is lost."""
        self._detected.wait(timeout_seconds)
        return self._lost

    def close(self, *, finished: bool) -> None:
        """Close the connections; the other ranks count this one as lost unless it has `finished`."""
        self._closing.set()
        self._thread.join()
        _close(self._connections, finished=finished)

    def _watch(self) -> None:
        watched = dict(self._connections)
        while watched and not self._closing.is_set():
            for connection in wait(list(watched), timeout=_POLL_SECONDS):
                assert isinstance(connection, Connection)
                message = _receive(connection)
                if message != _FINISHED:
                    self._report(message.decode() or watched[connection])
                    return
                del watched[connection]

    def _report(self, lost: str) -> None:
        """Report a lost rank to the other ranks, and kill this one if it does not end by itself."""
        # The whole message, since Lightning kills rank 0 seconds after the end of a rank that it has started.
        log.error("Lost: %s; the other ranks end. %s", lost, _ADVICE)
        for connection in self._connections:
            with suppress(OSError):
                connection.send_bytes(lost.encode())
        self._lost = lost
        self._detected.set()
        if not self._closing.wait(_KILL_SECONDS):
            log.error("Error: %s", _error(lost))
            os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))


def _connect(strategy: ParallelStrategy, trainer: Trainer) -> _Peers | None:
    """Connect all ranks to rank 0; None, with a warning, if that fails."""
    environment, several = strategy.cluster_environment, trainer.num_nodes > 1
    assert environment is not None
    server = socket.create_server(("" if several else _LOCAL, 0)) if trainer.is_global_zero else None
    # Rank 0 recognizes the ranks of this run by the token.
    port, token = strategy.broadcast((server.getsockname()[1], secrets.token_hex()) if server else (0, ""))
    try:
        if server is None:
            host = environment.main_address if several else _LOCAL
            connection = _keep_alive(socket.create_connection((host, port), _CONNECT_SECONDS))
            name = f"rank {trainer.global_rank} (process {os.getpid()} on '{socket.gethostname()}')"
            connection.send_bytes(f"{token} {name}".encode())
            return _Peers({connection: "rank 0"})
        with server:
            return _Peers(_accept(server, token, trainer.world_size - 1))
    except (OSError, EOFError) as error:
        log.warning("The ranks cannot watch each other (%s): a lost rank may be detected late", error)
        return None


def _accept(server: socket.socket, token: str, count: int) -> dict[Connection, str]:
    """Accept connections of `count` ranks with this token, and return them with the names of the ranks."""
    server.settimeout(_CONNECT_SECONDS)
    connections: dict[Connection, str] = {}
    try:
        while len(connections) < count:
            connection = _keep_alive(server.accept()[0])
            message = _receive(connection) if connection.poll(_CONNECT_SECONDS) else b""
            received_token, _, name = message.decode(errors="replace").partition(" ")
            if received_token == token:
                connections[connection] = name
            else:
                connection.close()
    except OSError:
        # Otherwise the connected ranks would count this one as lost.
        _close(connections, finished=True)
        raise
    return connections


def _close(connections: Iterable[Connection], *, finished: bool) -> None:
    """Close connections; the other ends count this rank as lost unless it has `finished`."""
    for connection in connections:
        with suppress(OSError):
            if finished:
                connection.send_bytes(_FINISHED)
            connection.close()


def _keep_alive(connected: socket.socket) -> Connection:
    """Return a connection that ends once the other machine has not responded for half a minute."""
    connected.settimeout(None)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return Connection(connected.detach())


def _receive(connection: Connection) -> bytes:
    """Return the next message; an empty one if the other end is closed."""
    try:
        return connection.recv_bytes(_MESSAGE_BYTES)
    except (EOFError, OSError):
        return b""
