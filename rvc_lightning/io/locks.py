"""Exclusive locks of folders."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import socket
import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from rvc_lightning.errors import InUseError, NotWritableError
from rvc_lightning.io.disk import explain_write_errors
from rvc_lightning.io.files import make_folder, read_json, remove_file, remove_leftovers, replace_file, write_json
from rvc_lightning.io.processes import IS_WINDOWS

log = logging.getLogger(__name__)

LOCK_NAME = ".lock"
"""File that `exclusive_lock` creates in a folder."""

KILL_GRACE_SECONDS = 15.0
"""Time after which the worker processes of a killed run have exited and released its locks."""

_DELETED_PREFIX = ".deleted-"
"""Start of the names of folders whose deletion has begun."""

_HOLDER_NAME = ".lock.json"


def remove_if_unlocked(folder: Path, lock_name: str) -> None:
    """Remove a folder with the lock file in it. Raises Timeout if a process holds the lock."""
    with FileLock(folder / lock_name).acquire(blocking=False):
        shutil.rmtree(folder, ignore_errors=True)
    if IS_WINDOWS:
        # There, the lock was still open and could not be removed.
        shutil.rmtree(folder, ignore_errors=True)


def is_locked(folder: Path) -> bool:
    """Return whether a process holds the lock of a folder."""
    if not (folder / LOCK_NAME).exists():
        return False
    try:
        with FileLock(folder / LOCK_NAME).acquire(blocking=False):
            return False
    except Timeout:
        return True


def delete_folder(folder: Path, root: Path) -> None:
    """Delete a folder that no process has locked.

    It vanishes as a whole: it is renamed before its files are removed.

    Args:
        folder: Folder to delete.
        root: Folder on the same disk that contains it, directly or not.

    Raises:
        InUseError: A process holds the lock of the folder.
        NotWritableError: The folder cannot be renamed, so nothing is changed; or some of its files cannot be removed.
    """
    deleted = root / f"{_DELETED_PREFIX}{uuid.uuid4().hex}"
    lock = FileLock(folder / LOCK_NAME)
    with explain_write_errors(folder), contextlib.ExitStack() as stack:
        try:
            stack.enter_context(lock.acquire(blocking=False))
        except Timeout:
            reason = f"'{folder}' is in use by {_holder(folder)}; stop it first, or wait until it exits"
            raise InUseError(reason) from None
        if IS_WINDOWS:
            # There, a folder with an open file, such as the lock, cannot be renamed.
            stack.close()
        replace_file(folder, deleted)
    remove_deleted(root)
    if deleted.exists():
        raise NotWritableError(
            f"'{deleted}', which was '{folder}', has files that cannot be removed; remove it by hand"
        )


def remove_deleted(root: Path) -> None:
    """Remove what `delete_folder` has renamed in a folder, also in processes that were killed."""
    for folder in root.glob(f"{_DELETED_PREFIX}*"):
        # Another process may be removing the same files.
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def exclusive_lock(
    folder: Path | str, timeout_seconds: float | None = None, *, remove_after: bool = False
) -> Iterator[None]:
    """Hold the lock of a folder, which is created if missing; wait while another process holds it.

    The lock is released when its holder and the processes forked from it exit, for any reason. Unfinished files that a
    killed holder left directly in the folder are removed.

    Args:
        folder: Folder to lock.
        timeout_seconds: Longest time to wait; None waits forever.
        remove_after: Whether to remove the lock file, and the folder if it is empty then. Not safe where many processes
            wait for each other: one may acquire the lock just as its file is removed.

    Raises:
        InUseError: Another process still holds the lock; the message names it.
        NotWritableError: The folder cannot be created or written to.
    """
    folder = Path(folder)
    make_folder(folder)
    lock, holder = FileLock(folder / LOCK_NAME), folder / _HOLDER_NAME
    with explain_write_errors(folder):
        _acquire(lock, folder, timeout_seconds)
    try:
        remove_leftovers(folder)
        write_json(holder, {"pid": os.getpid(), "host": socket.gethostname(), "since": f"{datetime.now():%c}"})
        yield
    finally:
        # With retries on Windows, where a waiting process may be reading it.
        remove_file(holder)
        if remove_after:
            # Windows does not remove open files; there the lock is removed when it is released.
            with contextlib.suppress(OSError):
                (folder / LOCK_NAME).unlink()
        lock.release()
        if remove_after:
            with contextlib.suppress(OSError):
                folder.rmdir()


def _acquire(lock: FileLock, folder: Path, timeout_seconds: float | None) -> None:
    try:
        lock.acquire(blocking=False)
        return
    except Timeout:
        log.info("Waiting for %s to finish with '%s'", _holder(folder), folder)
    try:
        lock.acquire(timeout=-1 if timeout_seconds is None else timeout_seconds)
    except Timeout:
        raise InUseError(
            f"'{folder}' is in use by {_holder(folder)}, and two processes would overwrite each other's files; wait "
            "until it exits, stop it, or choose another folder"
        ) from None


def _holder(folder: Path) -> str:
    """Return a description of the process that holds the lock."""
    try:
        values = read_json(folder / _HOLDER_NAME)
        return f"another process ({values['pid']} on '{values['host']}', since {values['since']})"
    except (OSError, ValueError, KeyError):
        return "another process"
