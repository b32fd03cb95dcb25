"""Write live audio to a file without delaying it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

import numpy as np

from rvc_lightning.audio.encode import audio_writer
from rvc_lightning.errors import ConfigurationError, RVCError
from rvc_lightning.io.disk import explain

_FORMATS = (".wav", ".flac", ".ogg")


class Recorder:
    """A file that is written by a thread, and complete after `close`."""

    def __init__(self, path: str, sample_rate: int) -> None:
        """Start a recording.

        Args:
            path: File to write.
            sample_rate: Sampling rate in Hz.

        Raises:
            ConfigurationError: The format is not supported.
            NotWritableError: The file cannot be created.
        """
        if Path(path).suffix.lower() not in _FORMATS:
            raise ConfigurationError(f"'{path}': live audio is recorded to {', '.join(_FORMATS)}")
        self.path = path
        """File to write."""
        self.error: str | None = None
        """Reason why the file cannot be written, if so."""
        self._stack = contextlib.ExitStack()
        self._file = self._stack.enter_context(audio_writer(path, sample_rate))
        self._blocks: SimpleQueue[np.ndarray | None] = SimpleQueue()
        self._thread = Thread(target=self._write, daemon=True)
        self._thread.start()

    def push(self, audio: np.ndarray) -> None:
        """Queue samples, float32 [N], without waiting for the disk; after an error they are dropped."""
        if self.error is None:
            self._blocks.put(audio)

    def close(self) -> None:
        """Write the queued samples and complete the file."""
        self._blocks.put(None)
        self._thread.join()

    def _write(self) -> None:
        try:
            with self._stack:
                while (block := self._blocks.get()) is not None:
                    self._file.write(block)
        except (RVCError, OSError) as error:
            self.error = explain(error)
