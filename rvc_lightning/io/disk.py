"""Full and read-only disks: one clear error for every writer."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from rvc_lightning.errors import NotWritableError, OutOfSpaceError, RVCError

_FULL = [getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG") if hasattr(errno, name)]
_NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.EEXIST, errno.ENOTDIR, errno.ENAMETOOLONG)
_NO_FOLDER = (errno.EEXIST, errno.ENOTDIR)
_PROBE_BYTES = 1 << 12


def write_error(error: OSError, path: Path | str | None = None) -> RVCError | None:
    """Return the error that explains to a user why a file cannot be read or written; None for another cause.

    Args:
        error: Error of the operating system.
        path: File that was to be written; None if `error` may be about a file that was to be read.
    """
    if error.errno in _FULL:
        return out_of_space(path or error.filename)
    if error.errno not in _NOT_WRITABLE:
        return None
    file = f"'{path or error.filename}'" if path or error.filename else "a file"
    problem = f"{file} cannot be {'read or written' if path is None else 'written'}"
    if error.errno in _NO_FOLDER and (obstacle := _file_among(path or error.filename)) is not None:
        return NotWritableError(f"{problem}: '{obstacle}' is a file, not a folder; choose another name")
    return NotWritableError(f"{problem}: {error.strerror}; choose another place, or change permissions")


def _file_among(path: Path | str | None) -> Path | None:
    """Return the file which a path has in place of a folder."""
    path = Path(path or "")
    return next((place for place in (path, *path.parents) if place.is_file()), None)


def explain(error: RVCError | OSError) -> str:
    """Return the message of an error for a user, in place of 'Errno' of the operating system where possible."""
    return str(error if isinstance(error, RVCError) else write_error(error) or error)


def out_of_space(path: Path | str | None) -> OutOfSpaceError:
    """Return the error for a file that does not fit on its disk."""
    where = f"for '{path}'" if path else "on the disk"
    return OutOfSpaceError(
        f"no space left {where}: the disk is full, or a limit of this user or process is reached. Free some "
        "space and run the same command again"
    )


def has_room(path: Path) -> bool:
    """Return whether a file can still grow, for libraries that do not report a full disk; the file is unchanged."""
    size_bytes = path.stat().st_size
    try:
        with path.open("ab", buffering=0) as stream:
            return stream.write(bytes(_PROBE_BYTES)) == _PROBE_BYTES
    except OSError as error:
        return error.errno not in _FULL
    finally:
        os.truncate(path, size_bytes)


@contextlib.contextmanager
def explain_write_errors(path: Path, written: Path | None = None) -> Iterator[None]:
    """Convert errors caused by a full or read-only disk.

    Some libraries report a full disk as a short write or a 'system error' only. `has_room` finds those cases.

    Args:
        path: Name for messages.
        written: File that the block writes; None if the block only creates folders and empty files.

    Raises:
        OutOfSpaceError: The disk is full.
        NotWritableError: The file cannot be created or written.
    """
    try:
        yield
    except Exception as error:
        reason = write_error(error, path) if isinstance(error, OSError) else None
        if reason is None and written is None and isinstance(error, FileNotFoundError):
            # File systems that hold no ordinary files, such as /proc, raise this.
            reason = NotWritableError(f"'{path}' cannot be created in this place; choose another")
        if reason is None and written is not None and written.exists() and not has_room(written):
            reason = out_of_space(path)
        if reason is None:
            raise
        raise reason from error
