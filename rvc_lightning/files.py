"""Files that are either whole or absent: atomic writing and content digests."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from rvc_lightning.errors import ConfigurationError

log = logging.getLogger(__name__)

_READ_BYTES = 1 << 20
TEMPORARY_PREFIX = ".writing-"
"""What the names of unfinished files and folders begin with."""


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
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}{path.suffix}")
    try:
        temporary.touch(exist_ok=False)
        yield temporary
        _flush_to_disk(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


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
def alone_in(folder: Path | str) -> Iterator[None]:
    """Waits until no other process is inside for `folder`, which is made where it is missing.

    A process that ends, however it does, is inside no more.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        log.info("Waiting for another process to finish '%s'", folder)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


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
