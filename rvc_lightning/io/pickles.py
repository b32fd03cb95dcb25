"""Files of `torch.save`, read as files from strangers: tensors and plain values only, and no code is ever run.

A hostile file can also claim more than it contains: a few bytes may stand for terabytes. Here the opcodes of a file are
checked before it is loaded. What is returned has no more values than the file has bytes for, is nested no deeper than
any voice or checkpoint, and does not depend on the file any more.
"""

from __future__ import annotations

import mmap
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rvc_lightning.errors import VoiceError
from rvc_lightning.io.kinds import PYTORCH, describe_kind, is_zip

_DAMAGE = (
    *(RuntimeError, OSError, EOFError, ValueError, LookupError, AttributeError, TypeError, AssertionError),
    *(ArithmeticError, MemoryError, struct.error, zipfile.BadZipFile, pickle.UnpicklingError),
)
"""Errors of `torch.load`, `zipfile` and `pickletools` for files with missing or changed bytes."""

_MAX_DEPTH = 64
_MAX_ENTRIES = 1_000_000
"""Limit for the entries of all containers together: by references, a short file can contain any number of them."""
_MAX_INT_BITS = 512
"""The states of random generators have 128."""
_MAX_NAMES = 5
_LEGACY_PICKLES = 5
"""A file without ZIP starts with five pickles: magic number, protocol, system, content and names of storages."""

_STORAGES = ("Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool", "ComplexFloat")
_REBUILDERS = frozenset(
    f"torch._utils._rebuild_{name}" for name in ("tensor", "tensor_v2", "tensor_v3", "parameter")
) | {"collections.OrderedDict", "torch.Size", "torch.device"}
"""Functions that a file may call: none allocates more than its arguments take."""
_ALLOWED = (
    _REBUILDERS
    | {f"torch.{name}Storage" for name in _STORAGES}
    | {"torch.storage.UntypedStorage"}
    | {f"torch.{name}" for name, value in vars(torch).items() if isinstance(value, torch.dtype)}
)
"""Names that a file may import."""


class UnsafePickleError(ValueError):
    """A file imports a name that tensors and plain containers do not need."""


def read_pickle(path: Path, kind: str) -> dict[str, Any]:
    """Read the dict that `torch.save` wrote to a file.

    Args:
        path: File to read.
        kind: Expected kind for messages, such as 'voice'.

    Raises:
        VoiceError: The file does not exist, is damaged or of another kind, claims more than it contains, or would
            import something; the message names it.
    """
    if not path.is_file():
        raise VoiceError(f"there is no {kind} at '{path}'{_list_folder(path) if path.is_dir() else ''}")
    try:
        found = describe_kind(path)
        if found not in (None, PYTORCH):
            raise VoiceError(f"'{path}' cannot be read as a {kind}: it is {found}")
        content = _load(path)
    except UnsafePickleError as error:
        raise VoiceError(f"'{path}' is rejected as a {kind}: {error}; get it from a source that you trust") from error
    except _DAMAGE as error:
        raise VoiceError(f"'{path}' cannot be read as a {kind}; it may be truncated ({_reason(error)})") from error
    if not isinstance(content, dict):
        raise VoiceError(f"'{path}' is not a {kind}: it contains a {type(content).__name__}")
    return content


def _list_folder(folder: Path) -> str:
    """Return a hint for the path of a folder, with some of the voices in it."""
    names = sorted(file.name for file in folder.glob("*.pth"))
    more = ", …" if len(names) > _MAX_NAMES else ""
    return f" (it is a folder{' with ' * bool(names)}{', '.join(names[:_MAX_NAMES])}{more})"


def _reason(error: Exception) -> str:
    # torch explains at length how to run a file nevertheless, and then names the cause.
    text = str(error).rpartition("rror:")[2].strip() or type(error).__name__
    return text.split("\n")[0]


def _load(path: Path) -> Any:
    zipped = is_zip(path)
    _check_zip(path) if zipped else _check_legacy(path)
    # A mapped tensor cannot reach beyond the file, whatever size it claims.
    content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    return _Copier(path.stat().st_size).copy(content)


def _check_zip(path: Path) -> None:
    """Check all pickles of a ZIP file. Raises ValueError or another error of `_DAMAGE`."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if packed := [entry.filename for entry in entries if entry.compress_type != zipfile.ZIP_STORED]:
            raise ValueError(f"'{packed[0]}' in it is compressed, which torch.save never does")
        for entry in entries:
            if entry.filename.lower().endswith(".pkl"):
                check_pickles(BytesIO(archive.read(entry)))


def _check_legacy(path: Path) -> None:
    """Check the pickles at the start of a file without ZIP. Raises ValueError or another error of `_DAMAGE`."""
    # Mapped, a read cannot allocate more than the file has, whatever length a pickle claims.
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        check_pickles(content, _LEGACY_PICKLES)


def check_pickles(stream: BytesIO | mmap.mmap, count: int = 1) -> None:
    """Check the opcodes of pickles, one after the other, without running them.

    Args:
        stream: Pickles.
        count: Number of pickles to check.

    Raises:
        UnsafePickleError: They import a name outside the allowed ones; the message lists all of those.
        ValueError: They are damaged, nested too deeply, or contain too many entries.
    """
    machine = _StackMachine()
    try:
        for _ in range(count):
            machine.run(stream)
    except _DAMAGE:
        # A file that imports something is reported as such, damaged or not.
        machine.check_names()
        raise
    machine.check_names()


@dataclass(eq=False)
class _Value:
    """Value on the stack of a pickle."""

    text: str = ""
    """The value of a text; the name of an import."""
    entries: int = 1
    """Number of values that it expands to."""
    depth: int = 0

    def extend(self, values: Iterable[_Value]) -> None:
        """Add entries. Raises ValueError if there are too many, or nested too deeply."""
        for value in values:
            self.entries += value.entries
            self.depth = max(self.depth, value.depth + 1)
        if self.entries > _MAX_ENTRIES or self.depth > _MAX_DEPTH:
            raise ValueError(f"nested deeper than {_MAX_DEPTH} levels, or more than {_MAX_ENTRIES} entries")


_MARK = _Value()
_MUTATORS = {"APPEND": 1, "SETITEM": 2, "BUILD": 1, "APPENDS": None, "SETITEMS": None}
"""Opcodes that add values to the one below them; None for all values down to the last mark."""


class _StackMachine:
    """Follows the opcodes of pickles: collects imported names and measures values."""

    def __init__(self) -> None:
        self._unsafe: dict[str, None] = {}

    def check_names(self) -> None:
        """Raise UnsafePickleError if a name was imported that is not allowed."""
        if self._unsafe:
            raise UnsafePickleError(f"it would run code when loaded, because it imports {', '.join(self._unsafe)}")

    def run(self, stream: BytesIO | mmap.mmap) -> None:
        """Follow one pickle. Raises an error of `_DAMAGE`, such as ValueError for a value that is too large."""
        self._stack: list[_Value] = []
        memo: dict[Any, _Value] = {}
        for opcode, argument, _ in pickletools.genops(stream):
            name = opcode.name
            if name == "MEMOIZE" or "PUT" in name:
                memo[len(memo) if name == "MEMOIZE" else argument] = self._stack[-1]
            elif "GET" in name:
                self._stack.append(memo[argument])
            elif name in _MUTATORS:
                added = self._pop(_MUTATORS[name])
                self._stack[-1].extend(added)
            else:
                self._push(opcode, argument)

    def _push(self, opcode: pickletools.OpcodeInfo, argument: Any) -> None:
        """Follow an opcode that replaces values by one value, if any."""
        name, before = opcode.name, opcode.stack_before
        popped = self._pop(None if pickletools.markobject in before else len(before))
        if name == "REDUCE" and popped[0].text not in _REBUILDERS:
            self._add_name(popped[0].text or "a value")
        if name == "MARK":
            self._stack.append(_MARK)
        elif opcode.stack_after:
            value = _Value(self._text(name, argument, popped))
            value.extend(popped)
            self._stack.append(value)

    def _text(self, opcode: str, argument: Any, popped: list[_Value]) -> str:
        if opcode in ("GLOBAL", "INST"):
            return self._add_name(argument.replace(" ", ".").replace("__builtin__.", "builtins."))
        if opcode == "STACK_GLOBAL":
            return self._add_name(".".join(value.text for value in popped))
        return argument if isinstance(argument, str) else ""

    def _add_name(self, name: str) -> str:
        if name not in _ALLOWED:
            self._unsafe[name] = None
        return name

    def _pop(self, count: int | None) -> list[_Value]:
        """Remove values: `count`, or None for those down to the last mark. Raises ValueError if there are fewer."""
        if count is None:
            start = max(place for place, value in enumerate(self._stack) if value is _MARK)
            count = len(self._stack) - start
        if count > len(self._stack):
            raise ValueError("a pickle takes more values than it has")
        popped = self._stack[len(self._stack) - count :]
        del self._stack[len(self._stack) - count :]
        return [value for value in popped if value is not _MARK]


class _Copier:
    """Copies tensors out of a mapped file, and rejects values that no file of this size can contain."""

    def __init__(self, file_bytes: int) -> None:
        # A few tensors share storage.
        self._bytes_left = 2 * file_bytes
        self._entries_left = _MAX_ENTRIES

    def copy(self, value: Any, depth: int = 0) -> Any:
        """Return `value` with copied tensors; dicts and lists are changed in place. Raises ValueError."""
        self._entries_left -= 1
        if depth > _MAX_DEPTH or self._entries_left < 0:
            raise ValueError(f"nested deeper than {_MAX_DEPTH} levels, or more than {_MAX_ENTRIES} entries")
        if isinstance(value, Tensor):
            return self._copy_tensor(value)
        if isinstance(value, int) and value.bit_length() > _MAX_INT_BITS:
            raise ValueError(f"it contains a number of {value.bit_length()} bits")
        if isinstance(value, dict):
            for key, item in value.items():
                value[self.copy(key, depth + 1)] = self.copy(item, depth + 1)
        elif isinstance(value, list):
            value[:] = [self.copy(item, depth + 1) for item in value]
        elif type(value) is tuple:
            return tuple(self.copy(item, depth + 1) for item in value)
        return value

    def _copy_tensor(self, tensor: Tensor) -> Tensor:
        dense = tensor.layout is torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
        self._bytes_left -= tensor.numel() * tensor.element_size()
        if not dense or self._bytes_left < 0:
            raise ValueError(f"a tensor of shape {tuple(tensor.shape)} has no values in the file")
        return tensor.clone()
