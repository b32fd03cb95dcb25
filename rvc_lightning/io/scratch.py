"""Temporary folders for unfinished files, removed even if the process that created them was killed."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from rvc_lightning.io.disk import explain_write_errors
from rvc_lightning.io.files import make_folder
from rvc_lightning.io.locks import remove_if_unlocked

FOLDER_PREFIX = ".converting-"
"""Start of the names of scratch folders."""

_LOCK_NAME = "lock"


@contextmanager
def scratch_folder(parent: Path | None) -> Iterator[Path]:
    """Create a temporary folder, and remove those that killed processes left in `parent`.

    Args:
        parent: Parent folder, on a disk with room for the files; None is the system's folder for temporary files.

    Raises:
        NotWritableError: The folder cannot be created.
    """
    parent = Path(tempfile.gettempdir()) if parent is None else parent
    make_folder(parent)
    for leftover in parent.glob(f"{FOLDER_PREFIX}*"):
        _remove_if_unused(leftover)
    with explain_write_errors(parent):
        folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX, dir=parent))
    lock = FileLock(folder / _LOCK_NAME)
    lock.acquire()
    try:
        yield folder
    finally:
        # In this order, since Windows does not remove open files.
        lock.release()
        shutil.rmtree(folder, ignore_errors=True)


def _remove_if_unused(folder: Path) -> None:
    """Remove a folder unless a process holds its lock."""
    with contextlib.suppress(OSError, Timeout):
        if any(folder.iterdir()):
            remove_if_unlocked(folder, _LOCK_NAME)
        else:
            # Its owner was killed before it locked the folder; a running one creates it again.
            folder.rmdir()
