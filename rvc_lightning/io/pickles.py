"""Untrusted files of `torch.save`: only tensors and plain values are read, and no code is ever run.

A hostile file can also declare more than it contains: a few bytes may stand for terabytes. The returned values fit into
the size of the file, are nested no deeper than any voice or checkpoint, and are copied, so the file can be deleted.
"""

from __future__ import annotations

import mmap
import pickle
import shutil
import struct
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, Any, cast

import torch
from torch import Tensor

from rvc_lightning.errors import VoiceError
from rvc_lightning.io.kinds import PYTORCH, describe_kind, is_zip
from rvc_lightning.io.opcodes import UnsafePickleError, check_pickles, check_size
from rvc_lightning.io.zips import open_zip

_DAMAGE = (
    *(RuntimeError, OSError, EOFError, ValueError, LookupError, AttributeError, TypeError, AssertionError),
    *(ArithmeticError, MemoryError, struct.error, zipfile.BadZipFile, pickle.UnpicklingError),
)
"""Errors of `torch.load`, `zipfile` and `pickletools` for files with missing or changed bytes."""

_LEGACY_PICKLES = 5
"""A file without ZIP starts with five pickles: magic number, protocol, system, content and names of storages."""
_MAX_INT_BITS = 512
"""The states of random generators have 128."""
_MAX_NAMES = 5


def read_pickle(path: Path, kind: str) -> dict[str, Any]:
    """Read the dict that `torch.save` wrote to a file.

    Args:
        path: File to read.
        kind: Expected kind for messages, such as 'voice'.

    Raises:
        VoiceError: The file does not exist, is damaged or of another kind, declares more than it contains, or would
            import anything else.
    """
    if not path.is_file():
        raise VoiceError(f"{kind} not found: '{path}'{_list_place(path)}")
    content = None
    try:
        found = describe_kind(path)
        if found in (None, PYTORCH):
            content = _load(path)
            found = f"a pickled {type(content).__name__}"
    except _DAMAGE as error:
        raise VoiceError(f"'{path}' cannot be read as a {kind}: {_reason(error)}") from error
    if not isinstance(content, dict):
        raise VoiceError(f"'{path}' cannot be read as a {kind}: it is {found}")
    return content


def _list_place(path: Path) -> str:
    """Return a hint: a voice of this name, some voices of a folder, or some files with the suffix of a missing one."""
    if (voice := Path("voices", path.stem, f"{path.stem}.pth")).is_file():
        return f" (did you mean '{voice}'?)"
    folder, suffix = (path, ".pth") if path.is_dir() else (path.parent, path.suffix)
    if not folder.is_dir():
        return f" (the folder '{folder}' does not exist)"
    names = sorted(file.name for file in folder.glob(f"*{suffix}")) if suffix else []
    if not names:
        return " (it is a folder)" if folder == path else ""
    more = ", …" if len(names) > _MAX_NAMES else ""
    place = "it is a folder with" if folder == path else "its folder has"
    return f" ({place} {', '.join(names[:_MAX_NAMES])}{more})"


def _reason(error: Exception) -> str:
    if isinstance(error, UnsafePickleError):
        return f"{error}; get it from a source that you trust"
    if isinstance(error, PermissionError):
        return str(error.strerror)
    # torch first explains at length how to load the file anyway; the cause is at the end.
    text = str(error).rpartition("rror:")[2].strip() or type(error).__name__
    return f"it may be truncated ({text.splitlines()[0]})"


def _load(path: Path) -> Any:
    limit = path.stat().st_size
    if not is_zip(path):
        _check_legacy(path)
        with path.open("rb") as stream:
            return _Copier(limit).copy(torch.load(stream, map_location="cpu", weights_only=True))
    _check_zip(path)
    with _usual_name(path) as usual:
        # A mapped tensor cannot exceed the file, regardless of its declared size.
        return _Copier(limit).copy(torch.load(usual, map_location="cpu", weights_only=True, mmap=True))


@contextmanager
def _usual_name(path: Path) -> Iterator[Path]:
    """Yield a path to the content of a file that torch can map.

    torch maps paths in UTF-8 only, and reads a file of another kind if its name ends with .safetensors.
    """
    if _is_utf8(path) and path.suffix != ".safetensors":
        yield path
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        yield Path(shutil.copyfile(path, Path(folder, "content.pth")))


def _is_utf8(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_zip(path: Path) -> None:
    """Check all pickles of a ZIP file; errors as in `check_pickles`."""
    with open_zip(path) as archive:
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"'{entry.filename}' in it is compressed, which torch.save never does")
            if entry.filename.lower().endswith(".pkl"):
                check_pickles(BytesIO(archive.read(entry)))


def _check_legacy(path: Path) -> None:
    """Check the pickles at the start of a file without ZIP; errors as in `check_pickles`."""
    # A read of a mapped file cannot allocate more than its size, regardless of the lengths in a pickle.
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        check_pickles(cast(IO[bytes], content), _LEGACY_PICKLES)


class _Copier:
    """Copies the content of a mapped file, and rejects values that no file of this size can contain."""

    def __init__(self, file_bytes: int) -> None:
        # Copies of tensors that share storage take more bytes than the file.
        self._bytes_left = 2 * file_bytes
        self._entries = 0

    def copy(self, value: Any, depth: int = 0) -> Any:
        """Return `value` with copied tensors; dicts and lists are changed in place. Raises ValueError."""
        self._entries += 1
        check_size(depth, self._entries)
        if not self._fits(value):
            raise ValueError(f"it contains a {type(value).__name__} of an impossible size")
        if isinstance(value, Tensor):
            return value.clone()
        if isinstance(value, str):
            # Raises UnicodeEncodeError, a ValueError, for a lone surrogate.
            value.encode()
        if isinstance(value, dict):
            for key, item in value.items():
                value[self.copy(key, depth + 1)] = self.copy(item, depth + 1)
        elif isinstance(value, list):
            value[:] = [self.copy(item, depth + 1) for item in value]
        elif type(value) is tuple:
            return tuple(self.copy(item, depth + 1) for item in value)
        return value

    def _fits(self, value: Any) -> bool:
        """Return whether a number is short, and a tensor has its values in the file."""
        if isinstance(value, Tensor):
            self._bytes_left -= value.numel() * value.element_size()
            is_dense = value.layout is torch.strided and value.device.type == "cpu" and not value.is_quantized
            return is_dense and self._bytes_left >= 0
        return not isinstance(value, int) or value.bit_length() <= _MAX_INT_BITS
