"""Samples of a recording of any length: in memory while they are few, in a file when they are many.

Legend: N samples.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
from filelock import FileLock, Timeout

BLOCK_SAMPLES = 1 << 18
"""What is worked on at once, where it does not matter."""

# 4 MB: a minute at 16 kHz.
_MOST_IN_MEMORY = 1 << 20
_FOLDER_PREFIX = ".converting-"
_LOCK_NAME = "lock"


class Growing(Protocol):
    """What samples can be added to, such as a reel."""

    def __len__(self) -> int:
        """Samples that were added, whether they are still there or not."""
        ...

    def append(self, block: np.ndarray, /) -> None:
        """Adds samples [N'] to the end."""
        ...


class Reel:
    """Mono float32 samples [N] that are appended block by block and read anywhere.

    It may go from one process to another: it keeps no file open.
    """

    def __init__(self, folder: Path, most_in_memory: int = _MOST_IN_MEMORY) -> None:
        """An empty one.

        Args:
            folder: Where a file may be made; whoever made the folder removes it.
            most_in_memory: As many samples may be without one.
        """
        self._path = folder / f"{uuid.uuid4().hex}.f32"
        self._most_in_memory = most_in_memory
        self._blocks: list[np.ndarray] = []
        self._samples = 0
        self._in_file = False

    def __len__(self) -> int:
        """N."""
        return self._samples

    def append(self, block: np.ndarray) -> None:
        """Adds samples [N'] to the end."""
        self._blocks.append(np.asarray(block, dtype=np.float32))
        self._samples += len(block)
        if self._in_file or self._samples > self._most_in_memory:
            with self._path.open("ab") as file:
                for waiting in self._blocks:
                    file.write(waiting.tobytes())
            self._blocks, self._in_file = [], True

    def __getitem__(self, part: slice) -> np.ndarray:
        """The samples of a part, whose step is 1."""
        start, stop, _ = part.indices(self._samples)
        if self._in_file:
            return np.fromfile(self._path, np.float32, max(stop - start, 0), offset=start * np.float32().itemsize)
        if len(self._blocks) != 1:
            self._blocks = [np.concatenate([np.zeros(0, np.float32), *self._blocks])]
        return self._blocks[0][start:stop]

    def remove(self) -> None:
        """Drops the samples, and the file if there is one."""
        self._blocks, self._samples, self._in_file = [], 0, False
        self._path.unlink(missing_ok=True)


def spans(samples: int, length: int = BLOCK_SAMPLES) -> Iterator[slice]:
    """Consecutive parts of at most `length` that make up `samples`."""
    for start in range(0, samples, length):
        yield slice(start, min(start + length, samples))


@contextmanager
def reel_folder(parent: Path | None) -> Iterator[Path]:
    """A folder for reels, removed at the end; what killed processes have left in `parent` is removed as well.

    Args:
        parent: Where it is made, beside what the samples become: on a disk with room for them. None takes the folder
            of the system for temporary files.
    """
    if parent is not None:
        parent.mkdir(parents=True, exist_ok=True)
        for leftover in parent.glob(f"{_FOLDER_PREFIX}*"):
            _remove_if_left(leftover)
    folder = Path(tempfile.mkdtemp(prefix=_FOLDER_PREFIX, dir=parent))
    lock = FileLock(folder / _LOCK_NAME)
    lock.acquire()
    try:
        yield folder
    finally:
        lock.release()
        shutil.rmtree(folder, ignore_errors=True)


def _remove_if_left(folder: Path) -> None:
    """Removes a folder of reels whose process has ended."""
    if not os.access(folder / _LOCK_NAME, os.W_OK):
        return
    try:
        with FileLock(folder / _LOCK_NAME).acquire(blocking=False):
            shutil.rmtree(folder, ignore_errors=True)
    except Timeout:
        return
