"""Run the engine in a separate process, so that networks and garbage collection do not interrupt playback.

    this process   push ─▶ queue ─▶ thread ─▶ pipe ─▶ engine      the engine's process
                          audio, status ◀─ thread ◀─ pipe ◀─

Audio that arrives during the conversion of a block is converted immediately afterwards.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import multiprocessing
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from queue import SimpleQueue
from threading import Thread
from typing import Any

import numpy as np

from rvc_lightning.errors import RVCError
from rvc_lightning.io.processes import raise_priority
from rvc_lightning.live.engine import Engine, Status
from rvc_lightning.live.failures import user_errors

log = logging.getLogger(__name__)

_STATUS_SECONDS = 0.1
_MAX_BACKLOG_SECONDS = 1.0
_END_SECONDS = 10.0
_END = "end", None


@dataclass(frozen=True)
class Started:
    """Result of the warm-up."""

    output_rate: int
    """Sampling rate of the output in Hz."""
    latency_seconds: float
    """Delay of the output, not counting the time of the computation."""
    block_seconds: float
    """Length of a block."""
    compute_median_seconds: float
    """Median of the time per block."""
    compute_max_seconds: float
    """Maximum of the time per block."""


class EngineProcess:
    """An engine in another process."""

    def __init__(self, make: Callable[[], Engine], receive: Callable[[np.ndarray], None]) -> None:
        """Start the process, load the voice and warm up.

        Args:
            make: Function that builds the engine; it is sent to the process.
            receive: Called in a thread with each piece of output, float32 [M].

        Raises:
            RVCError: The engine cannot be built.
        """
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(make, other), daemon=True)
        self._process.start()
        other.close()
        self._receive = receive
        self._outgoing: SimpleQueue[tuple[str, Any]] = SimpleQueue()
        self.status: Status | None = None
        """Last state of the engine."""
        self.skipped_seconds = 0.0
        """Input that was skipped because the engine had fallen behind."""
        self.error: RVCError | None = None
        """Reason why the engine has ended, if it has."""
        self.started = self._first_answer()
        self._sender = Thread(target=self._send, daemon=True)
        for thread in (self._sender, Thread(target=self._listen, daemon=True)):
            thread.start()

    def push(self, audio: np.ndarray) -> None:
        """Send samples of the input, float32 [N], without waiting for a slow engine."""
        self._outgoing.put(("audio", np.asarray(audio, np.float32).tobytes()))

    def change(self, values: Mapping[str, Any]) -> None:
        """Change options; an error is the next `status.message`."""
        self._outgoing.put(("change", dict(values)))

    def close(self) -> None:
        """End the engine; recordings are completed."""
        self._outgoing.put(_END)
        self._process.join(_END_SECONDS)
        if self._process.is_alive():
            self._process.kill()
        self._sender.join()
        self._connection.close()

    def _send(self) -> None:
        """Send messages until the end; `_listen` reports the end of the process."""
        with contextlib.suppress(OSError):
            while (message := self._outgoing.get()) != _END:
                self._connection.send(message)
            self._connection.send(_END)

    def _first_answer(self) -> Started:
        try:
            kind, content = self._connection.recv()
        except EOFError:
            raise RVCError("the process of the engine has ended before it was ready") from None
        if kind == "error":
            raise content
        return content

    def _listen(self) -> None:
        try:
            while True:
                kind, content = self._connection.recv()
                if kind == "audio":
                    self._receive(np.frombuffer(content, np.float32))
                elif kind == "status":
                    self.status, self.skipped_seconds = content
                else:
                    self.error = content
        except (EOFError, OSError):
            self.error = self.error or RVCError("the process of the engine has ended")


def _serve(make: Callable[[], Engine], connection: Connection) -> None:
    """Run the engine until the other end is closed."""
    # The parent process handles Ctrl-C.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    # If the system does not permit it, other programs delay more blocks.
    raise_priority()
    try:
        # Recordings are also completed after an error.
        with user_errors(), contextlib.closing(make()) as engine:
            median, worst = engine.warm_up()
            gc.collect()
            gc.freeze()
            started = Started(engine.output_rate, engine.latency_seconds, engine.lengths.block_seconds, median, worst)
            with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
                connection.send(("started", started))
                _Loop(engine, connection).run()
            engine.finish()
    except RVCError as error:
        connection.send(("error", error))


class _Loop:
    """Message loop of the engine's process."""

    def __init__(self, engine: Engine, connection: Connection) -> None:
        self._engine, self._connection = engine, connection
        self._skipped_samples = 0
        self._due = 0.0

    def run(self) -> None:
        while True:
            messages = [self._connection.recv()]
            while self._connection.poll():
                messages.append(self._connection.recv())
            for values in (content for kind, content in messages if kind == "change"):
                self._engine.try_change(values)
            self._convert([np.frombuffer(content, np.float32) for kind, content in messages if kind == "audio"])
            if _END in messages:
                return
            if time.monotonic() >= self._due:
                self._due = time.monotonic() + _STATUS_SECONDS
                skipped = self._skipped_samples / self._engine.input_rate
                self._connection.send(("status", (self._engine.status, skipped)))

    def _convert(self, pieces: list[np.ndarray]) -> None:
        audio = np.concatenate([np.zeros(0, np.float32), *pieces])
        surplus = len(audio) - round(_MAX_BACKLOG_SECONDS * self._engine.input_rate)
        if surplus > 0:
            self._skipped_samples += surplus
            audio = audio[surplus:]
        if len(audio):
            self._connection.send(("audio", self._engine.process(audio).tobytes()))
