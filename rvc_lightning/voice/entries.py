"""Entries of voice files other than the weights: tools disagree on types, and untrusted files may contain anything."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from rvc_lightning.errors import RVCError, one_line, printable

MALFORMED = (RVCError, LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RuntimeError, MemoryError)
"""Errors of code that reads a file whose entries are missing, of other types, or contradictory."""

_MAX_LISTED_VALUES = 1000


def explain(error: Exception) -> str:
    """Return the message of an OSError or an error of `MALFORMED` as one short line."""
    if isinstance(error, KeyError):
        text = f"it has no entry {error}"
    elif isinstance(error, OSError) and error.strerror:
        text = f"{error.strerror}: '{error.filename}'"
    else:
        text = str(error)
    return one_line(text or type(error).__name__)


def without_tensors(value: Any) -> Any:
    """Return `value` with numbers and lists in place of small tensors, and None in place of large ones."""
    if isinstance(value, Tensor):
        return value.tolist() if value.numel() <= _MAX_LISTED_VALUES else None
    if isinstance(value, Mapping):
        return {key: without_tensors(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_tensors(item) for item in value]
    return tuple(without_tensors(item) for item in value) if isinstance(value, tuple) else value


def as_text(value: Any) -> str | None:
    """Return text or a number as printable text; None for empty text and for other types."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return printable(str(value)) or None


def as_count(value: Any) -> int | None:
    """Return `value` if it is a non-negative integer, else None."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def as_number(value: Any, min: float, max: float) -> float | None:
    """Return `value` if it is a number from `min` to `max`, else None."""
    return float(value) if isinstance(value, int | float) and min <= value <= max else None


def as_json(value: Any) -> Any:
    """Return `value` with the types of JSON: tensors as their shape, numbers that are not finite as text."""
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [as_json(item) for item in value]
    if isinstance(value, Tensor):
        return f"<tensor {tuple(value.shape)}>"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, str | int | float | None) else f"<{type(value).__name__}>"
