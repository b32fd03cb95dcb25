"""Temporary files of the page: private, bounded in size and age, and removed with the process or by the next one."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import Timeout

from rvc_lightning.io.locks import LOCK_NAME, exclusive_lock, remove_if_unlocked
from rvc_lightning.jobs.job import INPUT, OUTPUT

_PREFIX = "rvc-app-"
_SWEEP_SECONDS = 30.0


class VisitorFiles:
    """Files of the page's visitors, in one folder: uploads, also interrupted ones, intermediate files and results."""

    def __init__(self, folder: Path, max_bytes: int, keep_seconds: float, jobs: Path | None = None) -> None:
        """Describe the storage.

        Args:
            folder: Private folder.
            max_bytes: Maximum size of all files.
            keep_seconds: Age at which files are deleted.
            jobs: Folder of the jobs, whose uploads and results count as well; None for none.
        """
        self.folder, self.max_bytes, self.keep_seconds, self._jobs = folder, max_bytes, keep_seconds, jobs
        self._reserved = 0

    @contextlib.contextmanager
    def reserve(self, size_bytes: int) -> Iterator[bool]:
        """Reserve space for an upload; yield whether there is enough."""
        enough = self._reserved + size_bytes + self._stored_bytes() <= self.max_bytes
        self._reserved += size_bytes
        try:
            yield enough
        finally:
            self._reserved -= size_bytes

    def sweep(self) -> None:
        """Delete files, and empty folders, that are older than `keep_seconds`."""
        oldest = time.time() - self.keep_seconds
        for path, (_, changed) in _files(self.folder).items():
            if changed < oldest:
                with contextlib.suppress(OSError):
                    path.unlink()
        for root, folders, _ in os.walk(self.folder, topdown=False):
            for path in (Path(root, name) for name in folders):
                with contextlib.suppress(OSError):
                    if path.lstat().st_mtime < oldest:
                        path.rmdir()

    def _stored_bytes(self) -> int:
        stored = (
            [] if self._jobs is None else [path for name in (INPUT, OUTPUT) for path in self._jobs.glob(f"*/{name}")]
        )
        return sum(size for folder in (self.folder, *stored) for size, _ in _files(folder).values())


@contextlib.contextmanager
def visitor_files(max_bytes: int, keep_seconds: float, jobs: Path | None = None) -> Iterator[VisitorFiles]:
    """Store all temporary files of the process, of any library, as visitor files; delete them at exit.

    Folders that killed processes left are deleted at the start. Arguments as in `VisitorFiles`.
    """
    previous = tempfile.tempdir
    remove_abandoned(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=_PREFIX, ignore_cleanup_errors=True) as root, exclusive_lock(root):
        files = VisitorFiles(Path(root, "files"), max_bytes, keep_seconds, jobs)
        files.folder.mkdir(mode=0o700)
        closed = threading.Event()
        sweeper = threading.Thread(target=_sweep_until, args=(files, closed), daemon=True)
        sweeper.start()
        tempfile.tempdir = str(files.folder)
        try:
            yield files
        finally:
            tempfile.tempdir = previous
            closed.set()
            sweeper.join()


def _files(folder: Path) -> dict[Path, tuple[int, float]]:
    """Return size in bytes and time of the last change of each file below a folder."""
    found = {}
    for root, _, names in os.walk(folder):
        for path in (Path(root, name) for name in names):
            # Other threads delete files meanwhile.
            with contextlib.suppress(OSError):
                status = path.lstat()
                found[path] = status.st_size, status.st_mtime
    return found


def remove_abandoned(parent: Path) -> None:
    """Delete the folders of processes that were killed: with our prefix and owner, and an unlocked lock file."""
    for folder in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError, Timeout):
            if not folder.is_symlink() and (folder / LOCK_NAME).is_file() and folder.stat().st_uid == _user():
                remove_if_unlocked(folder, LOCK_NAME)


def _user() -> int:
    """Return the user of this process; 0, as files have, on systems without user numbers."""
    return os.getuid() if hasattr(os, "getuid") else 0


def _sweep_until(files: VisitorFiles, closed: threading.Event) -> None:
    while not closed.wait(min(_SWEEP_SECONDS, files.keep_seconds)):
        files.sweep()
