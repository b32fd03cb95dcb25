"""Files that are either whole or absent: atomic writing and content digests."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import shutil
import socket
import uuid
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from rvc_lightning.errors import ConfigurationError, InUseError, NotWritableError, OutOfSpaceError, RVCError

log = logging.getLogger(__name__)

_READ_BYTES = 1 << 20
TEMPORARY_PREFIX = ".writing-"
"""What the names of unfinished files and folders begin with."""
LOCK_NAME = ".lock"
"""The file that `exclusive_lock` leaves in a folder."""

AFTER_KILL_SECONDS = 15.0
"""Within these, what a killed run has left running ends, and lets go of its locks."""

_HOLDER_NAME = ".lock.json"
_FULL = frozenset(getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG") if hasattr(errno, name))
_NOT_WRITABLE = frozenset(
    (errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.EEXIST, errno.ENOTDIR, errno.ENAMETOOLONG)
)
_PROBE_BYTES = 1 << 12


@contextlib.contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; it becomes `path` on success and vanishes on failure.

    The temporary name keeps the extension of `path`, so that writers which go by it work, and starts with a
    dot, so that listings pass it over. Missing parent folders are made. Readers see the old content or the
    new, never a part, also after a loss of power.

    Args:
        path: the file to write or replace.

    Yields:
        An empty file to write to.

    Raises:
        OutOfSpaceError: the disk has no room for it, whatever the writer made of that.
        NotWritableError: the folder cannot be made or written to.
    """
    path = Path(path)
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}{path.suffix}")
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)
    try:
        with _explained(path, written=temporary):
            yield temporary
            _flush_to_disk(temporary)
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def link_or_copy(path: Path, kept: Path) -> None:
    """Gives a file a second name, atomically, so that the first can be replaced; on disks without such, a copy.

    Raises:
        OutOfSpaceError: the disk has no room for a copy.
        NotWritableError: the folder cannot be written to.
    """
    with atomic_path(kept) as temporary:
        temporary.unlink()
        try:
            os.link(path, temporary)
        except OSError:
            shutil.copyfile(path, temporary)


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it, where they are missing. Raises NotWritableError if that is not allowed."""
    with _explained(folder):
        folder.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def _explained(path: Path, written: Path | None = None) -> Iterator[None]:
    """Turns what a full or forbidding disk makes of writing `path` into the errors of `atomic_path`.

    Libraries say of a full disk that a write was short, or nothing but 'system error': so the disk is asked, by
    writing a little more to `written`.
    """
    try:
        yield
    except Exception as error:
        reason = cannot_write(error, path) if isinstance(error, OSError) else None
        if reason is None and written is None and isinstance(error, FileNotFoundError):
            # Systems that make no files, such as that of processes, say so.
            reason = NotWritableError(f"'{path}' cannot be made there: {error.strerror}; choose another place")
        if reason is None and written is not None and written.exists() and not has_room(written):
            reason = out_of_space(path)
        if reason is None:
            raise
        raise reason from error


def cannot_write(error: OSError, path: Path | str | None = None) -> RVCError | None:
    """The error that tells a user why something cannot be written; None where the system complains of something else.

    Args:
        error: of the system.
        path: the file; by default the one that the error names.
    """
    path = path or error.filename
    if error.errno in _FULL:
        return out_of_space(path)
    if error.errno in _NOT_WRITABLE:
        what = f"'{path}' cannot be written" if path else "a file cannot be written"
        return NotWritableError(f"{what}: {error.strerror} ('{error.filename}'); choose another place, or allow it")
    return None


def out_of_space(path: Path | str | None) -> OutOfSpaceError:
    """The error for a file that finds no room."""
    where = f"for '{path}'" if path else "on the disk"
    return OutOfSpaceError(
        f"there is no room {where}: the disk is full, or a limit of this user or process is reached. What is finished "
        "is kept: make room and give the same command again"
    )


def has_room(path: Path) -> bool:
    """Whether a file could still grow; it stays as it is.

    For files whose writers say nothing, or little, if what they write finds no room.
    """
    size_bytes = path.stat().st_size
    try:
        with path.open("ab", buffering=0) as stream:
            return stream.write(bytes(_PROBE_BYTES)) == _PROBE_BYTES
    except OSError as error:
        if error.errno in _FULL:
            return False
        raise
    finally:
        os.truncate(path, size_bytes)


def protect_inputs(output: Path, inputs: Iterable[Path]) -> None:
    """Raises ConfigurationError if writing `output` would replace one of `inputs`, under whatever name."""
    for path in inputs:
        if output.exists() and path.exists() and output.samefile(path):
            raise ConfigurationError(f"output: '{output}' is the same file as '{path}'; choose another place")


def remove_leftovers(folder: Path) -> None:
    """Removes what a killed process left half written in `folder`, which nobody else may be writing to."""
    for leftover in folder.glob(f"{TEMPORARY_PREFIX}*"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


@contextlib.contextmanager
def exclusive_lock(
    folder: Path | str, patience_seconds: float | None = None, *, leave_no_trace: bool = False
) -> Iterator[None]:
    """Waits until no other process is inside for `folder`, which is made where it is missing.

    A process that ends, however it does, is inside no more, or as soon as those that it has forked have ended. What a
    killed one has left half written directly in the folder is removed.

    Args:
        folder: What is to be left alone.
        patience_seconds: How long to wait; None waits for ever.
        leave_no_trace: Whether to remove the file of the lock, and the folder if it is empty then. Where many wait for
            each other the file has to stay: one of them may hold it just when it is removed.

    Raises:
        InUseError: Another process is still inside; the message names it.
        NotWritableError: The folder cannot be made or written to.
    """
    folder = Path(folder)
    with _explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK_NAME)
        _acquire(lock, folder, patience_seconds)
    holder = folder / _HOLDER_NAME
    try:
        remove_leftovers(folder)
        write_json(holder, {"pid": os.getpid(), "host": socket.gethostname(), "since": f"{datetime.now():%c}"})
        yield
    finally:
        holder.unlink(missing_ok=True)
        if leave_no_trace:
            # Some systems do not remove what is open, or a folder that is looked into.
            with contextlib.suppress(OSError):
                (folder / LOCK_NAME).unlink()
                folder.rmdir()
        lock.release()


def _acquire(lock: FileLock, folder: Path, patience_seconds: float | None) -> None:
    try:
        lock.acquire(blocking=False)
        return
    except Timeout:
        log.info("Waiting for %s to finish '%s'", _holder(folder), folder)
    try:
        lock.acquire(timeout=-1 if patience_seconds is None else patience_seconds)
    except Timeout:
        raise InUseError(
            f"'{folder}' is in use by {_holder(folder)}: two at once would overwrite each other's files. Wait until it "
            "has ended, end it, or choose another folder"
        ) from None


def _holder(folder: Path) -> str:
    """The process that is inside, as far as it has said who it is."""
    try:
        values = read_json(folder / _HOLDER_NAME)
        return f"another process ({values['pid']} on '{values['host']}', since {values['since']})"
    except (OSError, ValueError, KeyError):
        return "another process"


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as indented UTF-8 JSON, atomically. NaN or infinity raises ValueError."""
    with atomic_path(path) as temporary:
        text = json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path | str) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        OSError: no such file.
        ValueError: not UTF-8, no JSON, or no object; the message says what.
    """
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    if not isinstance(values, dict):
        raise ValueError(f"it holds a {type(values).__name__} instead of an object")
    return values


def write_npy(path: Path | str, array: np.ndarray) -> None:
    """Write an array as `.npy`, atomically and without pickling."""
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.save(stream, array, allow_pickle=False)


def read_npy(path: Path | str, dimensions: int) -> np.ndarray:
    """Read an array of numbers from `.npy` as `map_npy`, into memory."""
    return np.array(map_npy(path, dimensions))


def map_npy(path: Path | str, dimensions: int) -> np.ndarray:
    """Map an array of numbers in a `.npy` file: never unpickled, and read where it is used.

    Args:
        path: the file.
        dimensions: of the array.

    Raises:
        OSError: no such file.
        ValueError: not such an array, or cut short; the message says what it is.
    """
    # Mapped, an array cannot be larger than its file, whatever its header claims.
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except EOFError as error:
        raise ValueError(f"'{path}' is empty") from error
    if not isinstance(array, np.ndarray) or array.ndim != dimensions or array.dtype.kind not in "fiu":
        shape = getattr(array, "shape", None)
        raise ValueError(f"'{path}' holds no numbers in {dimensions} dimensions (shape {shape})")
    return array


def digest(path: Path | str) -> str:
    """BLAKE2b of a file's content as 32 hex digits; the file is streamed, so its size does not matter."""
    return _hexdigest(path, hashlib.blake2b(digest_size=16))


def sha256(path: Path | str) -> str:
    """SHA-256 of a file's content as 64 hex digits, as hubs publish it; the file is streamed."""
    return _hexdigest(path, hashlib.sha256())


def _hexdigest(path: Path | str, state: Any) -> str:
    with Path(path).open("rb") as stream:
        while block := stream.read(_READ_BYTES):
            state.update(block)
    return state.hexdigest()


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
