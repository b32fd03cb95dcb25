"""Decode media files in a child process, so that a crash or a hang of a decoder affects one file only.

Messages of the child, each one line of JSON; an empty line shows progress:

    {"sample_rate": 48000, "seconds": 3.2, "whole_seconds": 3.2}     once
    {"shape": [65536, 2]}                                            before each block of float32 [N, C]
    {"damage": "", "warnings": []}                                   once, at the end
    {"error": "contains no audio"}                                   instead of the next message, after a failure

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
from rvc_lightning.audio.reader import AudioReader
from rvc_lightning.errors import AudioError

_STALL_SECONDS = 60.0
_MEMORY_BYTES = 8 << 30
_ROOT = Path(__file__).parents[2]


class MediaProcess(AudioReader):
    """A `MediaReader` in a child process."""

    def __init__(self, path: Path) -> None:
        """Start decoding a file. Raises AudioError with the reason if it cannot be decoded."""
        super().__init__()
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
        self._output = self._process.stdout
        self._is_stalled = False
        with contextlib.ExitStack() as stack:
            stack.callback(self.close)
            header = self._receive()
            stack.pop_all()
        self.sample_rate = header["sample_rate"]
        self.seconds, self.whole_seconds = header["seconds"], header["whole_seconds"]

    def close(self) -> None:
        """Terminate the child."""
        self._process.kill()
        self._output.close()
        self._process.wait()

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield float32 [N, C]. Raises AudioError if the child fails."""
        while "shape" in (message := self._receive()):
            yield np.frombuffer(message["content"], np.float32).reshape(message["shape"])
        self.damage = message["damage"]
        self.warnings += message["warnings"]

    def _receive(self) -> dict[str, Any]:
        """Wait for the next message; the bytes of a block become its `content`."""
        timer = threading.Timer(_STALL_SECONDS, self._stop_stalled)
        timer.daemon = True
        timer.start()
        try:
            line = next((line for line in self._output if line.strip()), b"")
            message: dict[str, Any] = json.loads(line) if line.endswith(b"\n") else {"error": ""}
            expected_bytes = 4 * math.prod(message.get("shape", [0]))
            message["content"] = self._output.read(expected_bytes)
        finally:
            timer.cancel()
        if "error" in message or len(message["content"]) < expected_bytes:
            raise AudioError(message.get("error") or self._failure())
        return message

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
    output = sys.stdout.buffer

    def send(content: bytes = b"", **message: Any) -> None:
        output.write((json.dumps(message).encode() if message else b"") + b"\n" + content)
        output.flush()

    with contextlib.suppress(BrokenPipeError):
        try:
            reader = MediaReader(sys.stdin.buffer, on_progress=send)
            send(sample_rate=reader.sample_rate, seconds=reader.seconds, whole_seconds=reader.whole_seconds)
            for block in reader:
                send(block.tobytes(), shape=block.shape)
            send(damage=reader.damage, warnings=reader.warnings)
        except (FFmpegError, AudioError, MemoryError) as error:
            send(error=getattr(error, "strerror", None) or str(error) or repr(error))


def _limit_memory() -> None:
    """Limit memory, where the system supports it, so that excessive allocations fail."""
    # macOS rejects some limits.
    with contextlib.suppress(ImportError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))


if __name__ == "__main__":
    main()
