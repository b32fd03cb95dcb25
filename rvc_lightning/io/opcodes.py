"""Opcodes of pickles, checked without running them.

Even an unpickler that imports only what tensors need can be made to allocate any amount of memory, or to compute for
hours: `bytearray(N)`, or tuples that contain each other twice, as keys of a dict. A pickle that passes this check
imports and calls only the names that `torch.save` uses for tensors and plain containers, and expands to a bounded
number of values.
"""

from __future__ import annotations

import pickletools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import IO, Any

import torch

MAX_DEPTH = 64
MAX_ENTRIES = 1_000_000
"""Limit for the entries of all containers together: by references, a short file can contain any number of them."""

_STORAGES = ("Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool", "ComplexFloat")
_CALLABLE = frozenset(f"torch._utils._rebuild_{name}" for name in ("tensor", "tensor_v2", "tensor_v3", "parameter")) | {
    "collections.OrderedDict",
    "collections.Counter",
    "torch.Size",
    "torch.device",
}
"""Functions that a pickle may call: none allocates more than its arguments take."""
_IMPORTABLE = (
    _CALLABLE
    | {f"torch.{name}Storage" for name in _STORAGES}
    | {"torch.storage.UntypedStorage"}
    | {f"torch.{name}" for name, value in vars(torch).items() if isinstance(value, torch.dtype)}
)
_MUTATORS = {"APPEND": 1, "SETITEM": 2, "BUILD": 1, "APPENDS": None, "SETITEMS": None}
"""Opcodes that add values to the one below them; None for all values down to the last mark."""


class UnsafePickleError(ValueError):
    """A pickle imports or calls a name that tensors and plain containers do not need."""


def check_pickles(stream: IO[bytes], count: int = 1) -> None:
    """Check consecutive pickles of a stream.

    Args:
        stream: Pickles.
        count: Number of pickles to check.

    Raises:
        UnsafePickleError: A pickle imports or calls a name that is not allowed; the message names it.
        ValueError: A pickle is nested too deeply, contains too many entries, or is damaged. Damage raises IndexError,
            KeyError and UnicodeError as well.
    """
    for _ in range(count):
        _StackMachine().run(stream)


@dataclass(eq=False)
class _Value:
    """A value on the stack of a pickle."""

    text: str = ""
    """Content of a text; name of an import."""
    entries: int = 1
    """Number of values that it expands to."""
    depth: int = 0

    def extend(self, values: Iterable[_Value]) -> None:
        """Add entries. Raises ValueError if there are too many, or nested too deeply."""
        for value in values:
            self.entries += value.entries
            self.depth = max(self.depth, value.depth + 1)
        check_size(self.depth, self.entries)


def check_size(depth: int, entries: int) -> None:
    """Raise ValueError if a container is nested too deeply or has too many entries."""
    if depth > MAX_DEPTH or entries > MAX_ENTRIES:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels, or more than {MAX_ENTRIES} entries")


_MARK = _Value()


class _StackMachine:
    """Interpreter of the opcodes of a pickle, which checks imported and called names, and the size of all values."""

    def __init__(self) -> None:
        self._stack: list[_Value] = []
        self._memo: dict[Any, _Value] = {}

    def run(self, stream: IO[bytes]) -> None:
        """Interpret one pickle. Errors as in `check_pickles`."""
        for opcode, argument, _ in pickletools.genops(stream):
            name = opcode.name
            if name == "MEMOIZE" or "PUT" in name:
                self._memo[len(self._memo) if name == "MEMOIZE" else argument] = self._stack[-1]
            elif "GET" in name:
                self._stack.append(self._memo[argument])
            elif name == "MARK":
                self._stack.append(_MARK)
            elif name in _MUTATORS:
                added = self._pop(_MUTATORS[name])
                self._stack[-1].extend(added)
            else:
                self._replace(opcode, argument)

    def _replace(self, opcode: pickletools.OpcodeInfo, argument: Any) -> None:
        """Interpret an opcode that pops values and pushes at most one."""
        before = opcode.stack_before
        popped = self._pop(None if pickletools.markobject in before else len(before))
        text = argument if isinstance(argument, str) else ""
        if opcode.name in ("GLOBAL", "INST"):
            text = text.replace(" ", ".").replace("__builtin__.", "builtins.")
            _check_name(text, _IMPORTABLE)
        elif opcode.name == "STACK_GLOBAL":
            text = ".".join(value.text for value in popped)
            _check_name(text, _IMPORTABLE)
        elif opcode.name == "REDUCE":
            _check_name(popped[0].text, _CALLABLE)
        if opcode.stack_after:
            value = _Value(text)
            value.extend(popped)
            self._stack.append(value)

    def _pop(self, count: int | None) -> list[_Value]:
        """Pop `count` values, or for None all values down to the last mark. Raises IndexError if there are too few."""
        popped: list[_Value] = []
        while len(popped) != count:
            value = self._stack.pop()
            if value is _MARK:
                break
            popped.append(value)
        return popped[::-1]


def _check_name(name: str, allowed: frozenset[str]) -> None:
    if name not in allowed:
        raise UnsafePickleError(f"it would run code when loaded, because it imports {name}")
