"""Types of settings, checked when a configuration dataclass is made: YAML and the command line give anything."""

from __future__ import annotations

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
