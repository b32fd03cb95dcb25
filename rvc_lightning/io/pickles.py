"""Files of `torch.save`, read as files from strangers: tensors and plain values, nothing they name is ever run.

Beside the code that a pickle can name, a file may lie about sizes: a few bytes can claim terabytes. What is read here
holds no more values than the file has bytes for, is nested no deeper than any voice or checkpoint, and does not
depend on the file any more.
"""

from __future__ import annotations

import pickle
import pickletools
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from rvc_lightning.errors import VoiceError
from rvc_lightning.retrieval.index_file import read_header

_DAMAGE = (
    *(RuntimeError, OSError, EOFError, ValueError, LookupError, AttributeError, TypeError, AssertionError),
    *(ArithmeticError, MemoryError, struct.error, zipfile.BadZipFile),
)
"""What `torch.load` and `zipfile` were seen to raise for files with bytes missing or changed."""

_ZIP_MAGIC = b"PK\x03\x04"
_MOST_DEPTH = 64
_MOST_ENTRIES = 1_000_000
"""Entries of all tables and lists together: by references to itself, a short file can hold any number of them."""
_MOST_BITS = 512
"""Of a whole number. The states of random generators take 128."""
_NAMES_SHOWN = 5


def _of_folder(folder: Path) -> str:
    """That it is one, and a few files in it that may be meant."""
    names = sorted(file.name for file in folder.glob("*.pth"))
    more = ", …" if len(names) > _NAMES_SHOWN else ""
    return f" (that is a folder{'; in it: ' * bool(names)}{', '.join(names[:_NAMES_SHOWN])}{more})"


def read_pickle(path: Path, kind: str) -> dict[str, Any]:
    """The dict that `torch.save` wrote to `path`; tensors and plain values only, no code is ever run.

    Args:
        path: The file.
        kind: What it should be, for messages.

    Raises:
        VoiceError: No such file, not readable, no dict, it claims more than it holds, or it would import something;
            the message names what.
    """
    if not path.is_file():
        raise VoiceError(f"there is no {kind} at '{path}'{_of_folder(path) if path.is_dir() else ''}")
    try:
        content = _load(path)
        if isinstance(content, dict):
            _Owner(path.stat().st_size).take(content)
    except pickle.UnpicklingError as error:
        if _is_index(path):
            raise VoiceError(f"'{path}' is an index, not a {kind}: the voice that it belongs to is a .pth") from error
        raise VoiceError(f"'{path}' is refused as a {kind}: {_refusal(path, error)}") from error
    except _DAMAGE as error:
        reason = (str(error) or type(error).__name__).split("\n")[0]
        raise VoiceError(f"'{path}' cannot be read as a {kind}; it may be cut short ({reason})") from error
    if not isinstance(content, dict):
        raise VoiceError(f"'{path}' is no {kind}: it holds a {type(content).__name__}")
    return content


def _load(path: Path) -> Any:
    with path.open("rb") as stream:
        zipped = stream.read(len(_ZIP_MAGIC)) == _ZIP_MAGIC
    if zipped:
        with zipfile.ZipFile(path) as archive:
            if packed := [entry.filename for entry in archive.infolist() if entry.compress_type != zipfile.ZIP_STORED]:
                raise ValueError(f"'{packed[0]}' in it is compressed, which torch.save never does")
    # Mapped, a tensor cannot reach beyond the file, whatever size it claims.
    return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)


class _Owner:
    """Makes what was read independent of the file, and refuses what no file of that size can hold."""

    def __init__(self, file_bytes: int) -> None:
        # Tensors may share storage; a few of them do.
        self._bytes_left = 2 * file_bytes
        self._entries_left = _MOST_ENTRIES

    def take(self, value: Any, depth: int = 0) -> Any:
        """`value` with tensors of its own, the containers being the same objects. Raises ValueError."""
        self._entries_left -= 1
        if depth > _MOST_DEPTH or self._entries_left < 0:
            raise ValueError(f"it is nested deeper than {_MOST_DEPTH} levels, or without end")
        if isinstance(value, Tensor):
            return self._copy(value)
        if isinstance(value, int) and value.bit_length() > _MOST_BITS:
            raise ValueError(f"it holds a number of {value.bit_length()} bits")
        if isinstance(value, dict):
            for key, item in value.items():
                value[self.take(key, depth + 1)] = self.take(item, depth + 1)
        elif isinstance(value, list):
            value[:] = [self.take(item, depth + 1) for item in value]
        elif type(value) is tuple:
            return tuple(self.take(item, depth + 1) for item in value)
        return value

    def _copy(self, tensor: Tensor) -> Tensor:
        plain = tensor.layout is torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
        self._bytes_left -= tensor.numel() * tensor.element_size()
        if not plain or self._bytes_left < 0:
            raise ValueError(f"a tensor of shape {tuple(tensor.shape)} has no values in the file")
        return tensor.clone()


def _refusal(path: Path, error: Exception) -> str:
    """Why torch did not read a file, in a line."""
    if names := imported_names(path):
        return f"it would run code when read, for it imports {', '.join(names)}; get the voice from someone you trust"
    # torch says at length how to run it nevertheless; what is wrong comes after that.
    told = str(error).rpartition("rror:")[2].strip().split("\n")[0]
    return f"it is damaged, no file of torch.save, or would run code when read{f' ({told})' if told else ''}"


def _is_index(path: Path) -> bool:
    """Whether a file is an index of a voice's features."""
    try:
        read_header(path)
    except VoiceError:
        return False
    return True


def imported_names(path: Path) -> list[str]:
    """What the pickles in a file import, such as `posix.system`, without what tensors need; nothing is run."""
    with path.open("rb") as stream:
        try:
            if stream.read(len(_ZIP_MAGIC)) == _ZIP_MAGIC:
                with zipfile.ZipFile(stream) as archive:
                    pickles = [archive.open(name) for name in archive.namelist() if name.endswith(".pkl")]
                    found = [name for inner in pickles for name in _imports(inner)]
            else:
                stream.seek(0)
                found = _imports(stream)
        except _DAMAGE:
            return []
    return list(dict.fromkeys(name for name in found if not name.startswith(("torch.", "collections.OrderedDict"))))


def _imports(stream: IO[bytes]) -> list[str]:
    """Names that the pickles at the start of `stream` import, as far as they are whole."""
    found: list[str] = []
    try:
        # The format without zip is several pickles, one after the other, and then the values.
        for _ in range(5):
            found.extend(_imports_of_one(stream))
    except (*_DAMAGE, pickle.UnpicklingError):
        pass
    return found


def _imports_of_one(stream: IO[bytes]) -> Iterator[str]:
    memo: dict[Any, str] = {}
    texts: list[str] = []
    for operation, argument, _ in pickletools.genops(stream):
        name = operation.name
        if name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".").replace("__builtin__.", "builtins.")
        elif name == "STACK_GLOBAL":
            yield ".".join(texts[-2:])
        elif name == "MEMOIZE" or "PUT" in name:
            memo[len(memo) if name == "MEMOIZE" else argument] = texts[-1] if texts else "?"
        elif "GET" in name:
            texts.append(memo.get(argument, "?"))
        elif isinstance(argument, str):
            texts.append(argument)
