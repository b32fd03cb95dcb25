"""Atomic writes, JSON and `.npy` files, and content digests."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from rvc_lightning.errors import ConfigurationError
from rvc_lightning.io.disk import explain_write_errors

TEMPORARY_PREFIX = ".writing-"
"""Start of the names of unfinished files and folders."""

_BLOCK_BYTES = 1 << 20
_OPEN_ELSEWHERE = (5, 32)
"""Errors of Windows for a file that another program has open, such as a virus scanner or a reader."""
_RETRY_SECONDS = (0.01, 0.05, 0.2, 0.5, 1.0)

R = TypeVar("R")


@contextlib.contextmanager
def atomic_path(path: Path | str, scratch: Path | None = None) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it replaces `path` on success and is removed on failure.

    The temporary name keeps the extension of `path`, because some writers choose a format by it, and starts with a dot,
    so that listings skip it. Missing parent folders are created. Readers see the old or the new content, never a
    partial file, even after a power failure.

    Args:
        path: File to create or replace.
        scratch: Folder on the same disk for the temporary file, such as one of `scratch_folder`, which is removed even
            if the process is killed; None is the folder of `path`.

    Yields:
        Path of an empty file to write to.

    Raises:
        OutOfSpaceError: The disk is full.
        NotWritableError: The folder cannot be created or written to.
    """
    path = Path(path)
    temporary = (scratch or path.parent) / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}{path.suffix}"
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)
    try:
        with explain_write_errors(path, written=temporary):
            yield temporary
            _flush_to_disk(temporary)
            replace_file(temporary, path)
    finally:
        remove_file(temporary)


def replace_file(source: Path, target: Path) -> None:
    """Rename a file or folder, in place of an existing file, as `os.replace`.

    Raises:
        OSError: It cannot be renamed; on Windows, another program may have it open.
    """
    _wait_for_others(lambda: os.replace(source, target))


def _wait_for_others(action: Callable[[], R]) -> R:
    """Return the result of `action`, retried for two seconds while Windows reports that a file is open elsewhere."""
    for seconds in _RETRY_SECONDS:
        try:
            return action()
        except OSError as error:
            if getattr(error, "winerror", None) not in _OPEN_ELSEWHERE:
                raise
        time.sleep(seconds)
    return action()


def remove_file(path: Path) -> None:
    """Remove a file if it exists. Raises OSError as `replace_file` does."""
    _wait_for_others(lambda: path.unlink(missing_ok=True))


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def link_or_copy(source: Path, target: Path) -> None:
    """Create a hard link to a file atomically, so that its first name can be reused; copy it if that is unsupported.

    Raises:
        OutOfSpaceError: The disk is too full for a copy.
        NotWritableError: The folder cannot be written to.
    """
    with atomic_path(target) as temporary:
        temporary.unlink()
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)


def make_folder(folder: Path) -> None:
    """Create a folder and its parents if missing. Raises NotWritableError if they cannot be created."""
    with explain_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)


def check_folder_writable(folder: Path, name: Path | None = None) -> None:
    """Raise NotWritableError if no file can be created in a folder, or in the closest one above it that exists.

    Args:
        folder: Folder to check.
        name: File or folder to name in the message, as the user typed it; None names `folder`.
    """
    with explain_write_errors(name or folder):
        place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        with tempfile.TemporaryFile(dir=place):
            pass


def protect_inputs(output: Path, inputs: Iterable[Path]) -> None:
    """Raise ConfigurationError if `output` is one of `inputs`, by any name."""
    for path in inputs:
        if output.exists() and path.exists() and output.samefile(path):
            raise ConfigurationError(f"output: '{output}' is the same file as '{path}'; choose another place")


def remove_leftovers(folder: Path) -> None:
    """Remove the unfinished files of a killed process from a folder that no other process is writing to."""
    for leftover in folder.glob(f"{TEMPORARY_PREFIX}*"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as indented UTF-8 JSON, atomically. Raises ValueError for NaN and infinity."""
    with atomic_path(path) as temporary:
        text = json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path | str) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        OSError: The file does not exist or cannot be read.
        ValueError: The file is not UTF-8, not JSON, not an object, or nested too deeply.
    """
    text = _wait_for_others(lambda: Path(path).read_text(encoding="utf-8"))
    try:
        values = json.loads(text)
        # Raises UnicodeEncodeError, a ValueError, for a lone surrogate.
        json.dumps(values, ensure_ascii=False).encode()
    except RecursionError:
        values = None
    if not isinstance(values, dict):
        raise ValueError("a JSON object is expected")
    return values


def write_npy(path: Path | str, array: np.ndarray) -> None:
    """Write an array as `.npy`, atomically and without pickling."""
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.save(stream, array, allow_pickle=False)


def read_npy(path: Path | str, ndim: int) -> np.ndarray:
    """Read a numeric array of `ndim` dimensions into memory; arguments and errors as in `map_npy`."""
    return np.array(map_npy(path, ndim))


def map_npy(path: Path | str, ndim: int) -> np.ndarray:
    """Map a numeric array of a `.npy` file into memory; values are read on access and never unpickled.

    Args:
        path: File to map.
        ndim: Number of dimensions of the array.

    Raises:
        OSError: The file does not exist or cannot be read.
        ValueError: The file is truncated or contains anything else.
    """
    # A mapped array cannot exceed its file, regardless of its header, and cannot contain objects.
    array = np.lib.format.open_memmap(path, mode="r")
    if array.ndim != ndim or array.dtype.kind not in "fiu":
        raise ValueError(f"'{path}' is not a numeric array of {ndim} dimensions (shape {array.shape})")
    return array


def digest(path: Path | str) -> str:
    """Return the BLAKE2b digest of a file as 32 hex digits; the file is read in blocks."""
    return _hexdigest(path, hashlib.blake2b(digest_size=16))


def sha256(path: Path | str) -> str:
    """Return the SHA-256 digest of a file as 64 hex digits, as hubs publish it; the file is read in blocks."""
    return _hexdigest(path, hashlib.sha256())


def _hexdigest(path: Path | str, state: Any) -> str:
    with Path(path).open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            state.update(block)
    return state.hexdigest()
