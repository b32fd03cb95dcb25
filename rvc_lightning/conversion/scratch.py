"""Where samples of long recordings lie while they are converted: folders that go with the process that made them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

_FOLDER_PREFIX = ".converting-"
_LOCK_NAME = "lock"


@contextmanager
def scratch_folder(parent: Path | None) -> Iterator[Path]:
    """A folder, removed at the end; what killed processes have left in `parent` is removed as well.

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
    """Removes a folder whose process has ended."""
    if not os.access(folder / _LOCK_NAME, os.W_OK):
        return
    try:
        with FileLock(folder / _LOCK_NAME).acquire(blocking=False):
            shutil.rmtree(folder, ignore_errors=True)
    except Timeout:
        return
