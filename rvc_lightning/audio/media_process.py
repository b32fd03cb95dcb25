"""Decode media files in a child process, so that a crash or a hang of a decoder affects one file only.

Messages of the child, each one line of JSON; an empty line shows progress:

    {"sample_rate": 48000, "seconds": 3.2, "whole_seconds": 3.2}     once
    {"shape": [65536, 2]}                                            before each block of float32 [N, C]
    {"damage": "", "warnings": []}                                          once, at the end
    {"error": "holds no audio track"}                                instead

Run as a script, this module is the child; its standard input is the media file.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from av.error import FFmpegError

from rvc_lightning.audio.media import MediaReader

_STALL_SECONDS = 60.0
_MEMORY_BYTES = 8 << 30
_ROOT = Path(__file__).parents[2]


class MediaProcess:
    """A `MediaReader` in a child process, with the same attributes."""

    def __init__(self, path: Path) -> None:
        """Start to decode a file.

        Raises:
            LookupError: It cannot be decoded; the message states why.
        """
        paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        with path.open("rb") as file:
            self._process = subprocess.Popen(
                [sys.executable, __file__],
                stdin=file,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            )
        assert self._process.stdout is not None
        self._messages = self._process.stdout
        self.damage = ""
        self.warnings: list[str] = []
        self._is_stalled = False
        try:
            header, _ = self._receive()
        except LookupError:
            self.close()
            raise
        self.sample_rate: int = header["sample_rate"]
        self.seconds: float | None = header["seconds"]
        self.whole_seconds: float | None = header["whole_seconds"]

    def close(self) -> None:
        """End the child."""
        self._process.kill()
        self._messages.close()
        self._process.wait()

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield float32 [N, C]. Raises LookupError if the child fails."""
        while True:
            message, block = self._receive()
            if block is None:
                self.damage = message["damage"]
                self.warnings += message["warnings"]
                return
            yield block

    def _receive(self) -> tuple[dict[str, Any], np.ndarray | None]:
        """Wait for the next message and the block that follows it."""
        timer = threading.Timer(_STALL_SECONDS, self._stop_stalled)
        timer.daemon = True
        timer.start()
        try:
            line = next((line for line in self._messages if line.strip()), b"")
            message = json.loads(line) if line else {"error": self._failure()}
            if "error" in message:
                raise LookupError(message["error"])
            if "shape" not in message:
                return message, None
            content = self._messages.read(4 * math.prod(message["shape"]))
            if len(content) < 4 * math.prod(message["shape"]):
                raise LookupError(self._failure())
            return message, np.frombuffer(content, np.float32).reshape(message["shape"])  # type: ignore[arg-type]
        finally:
            timer.cancel()

    def _stop_stalled(self) -> None:
        self._is_stalled = True
        self._process.kill()

    def _failure(self) -> str:
        if self._is_stalled:
            return f"its decoder made no progress for {_STALL_SECONDS:g} s"
        return f"its decoder crashed (exit status {self._process.wait()})"


def main() -> None:
    """Decode the media file on standard input to messages on standard output."""
    _limit_memory()
    # Progress of the search for sound shows as an empty line.
    output = sys.stdout.buffer

    def on_progress() -> None:
        output.write(b"\n")
        output.flush()

    def send(**message: Any) -> None:
        output.write(json.dumps(message).encode() + b"\n")

    with contextlib.suppress(BrokenPipeError):
        try:
            reader = MediaReader(sys.stdin.buffer, on_progress=on_progress)
            send(sample_rate=reader.sample_rate, seconds=reader.seconds, whole_seconds=reader.whole_seconds)
            for block in reader:
                send(shape=block.shape)
                output.write(np.ascontiguousarray(block).tobytes())
                output.flush()
            send(damage=reader.damage, warnings=reader.warnings)
        except (FFmpegError, LookupError, MemoryError) as error:
            send(error=getattr(error, "strerror", None) or str(error))
        output.flush()


def _limit_memory() -> None:
    """Let allocations fail that no audio needs, where the system supports it."""
    with contextlib.suppress(ImportError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))


if __name__ == "__main__":
    main()
