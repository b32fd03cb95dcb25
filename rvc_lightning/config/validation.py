"""Types of settings, checked when a configuration dataclass is made: YAML and the command line give anything."""

from __future__ import annotations

import math
from dataclasses import fields
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from rvc_lightning.errors import ConfigurationError

_ACCEPTED: dict[type, tuple[type, ...]] = {
    int: (int,),
    float: (int, float),
    str: (str,),
    bool: (bool,),
    NoneType: (NoneType,),
}
"""What a field of each plain type takes; fields of other types are not looked at."""


def check_whole(name: str, value: object, least: int, most: int | None = None) -> None:
    """Refuses what is no whole number of a range.

    Args:
        name: Of the setting, for the message.
        value: What was given.
        least: The lowest.
        most: The highest; None for no bound.

    Raises:
        ConfigurationError: It is another type or out of range.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= (value if most is None else most):
        allowed = f"from {least} up" if most is None else f"from {least} to {most}"
        raise ConfigurationError(f"{name}={value!r}: choose a whole number {allowed}")


def check_number(name: str, value: object, least: float = -math.inf, most: float = math.inf) -> None:
    """Refuses what is no finite number of a range, whose ends belong to it; arguments and error as of `check_whole`."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or not least <= value <= most:  # type: ignore[operator]
        bounds = f" from {least:g} to {most:g}" if math.isfinite(most) else f" from {least:g} up"
        raise ConfigurationError(f"{name}={value!r}: choose a number{bounds if math.isfinite(least) else ''}")


def is_name(text: str) -> bool:
    """Whether a file or folder can be called by a text: it is not empty, and leads to no other folder."""
    return text not in ("", ".", "..") and not any(mark in text for mark in "/\\\0")


def check_types(config: Any) -> None:
    """Compares the plain fields of a dataclass instance with their annotations.

    Raises:
        ConfigurationError: A value is of another type; the message names field, value and what is expected.
    """
    hints = get_type_hints(type(config))
    for field in fields(config):
        hint, value = hints[field.name], getattr(config, field.name)
        kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        if not all(kind in _ACCEPTED for kind in kinds):
            continue
        accepted = tuple(kind for choice in kinds for kind in _ACCEPTED[choice])
        if not isinstance(value, accepted) or (isinstance(value, bool) and bool not in accepted):
            expected = " or ".join("null" if kind is NoneType else kind.__name__ for kind in kinds)
            raise ConfigurationError(f"{field.name}={value!r}: expected {expected}")
