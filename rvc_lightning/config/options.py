"""Options that say what they are: default, meaning, unit and range of a dataclass field, written once and read by code.

    index_rate: float = option(0.75, "share of the features taken from the index", low=0, high=1)

The same few words then make the error for a wrong value, the help of the command, the table of the README, and the
widgets of the notebook and of the web page (`option_fields`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from rvc_lightning.errors import ConfigurationError, unknown_choice

T = TypeVar("T")

_DESCRIPTION = "option"
_TOO_LARGE = 2**63
"""What no number reaches: seeds and speakers are integers of 64 bits."""


@dataclass(frozen=True)
class OptionField:
    """What is known of one option."""

    name: str
    """In Python, in YAML and on the command line."""
    default: Any
    """Its value where nothing is said."""
    help: str
    """What it does, in one or two plain sentences."""
    unit: str
    """Of its number; empty for what has none."""
    low: float | None
    """Least value of its number, included; None where there is no bound."""
    high: float | None
    """Greatest value of its number, included; None where there is no bound."""
    choices: tuple[str, ...]
    """Values of a name that is one of several; empty for what is free."""
    kinds: tuple[type, ...]
    """Of bool, int, float, str and tuple, those that it takes; an int serves as a float."""
    optional: bool
    """Whether it takes None as well, which stands for off."""

    @property
    def allowed(self) -> str:
        """What it takes, in words, such as 'a number from 0 to 1'."""
        words = [word for kind, word in self._words().items() if kind in self.kinds]
        return " or ".join([*words, *(["null"] if self.optional else [])])

    @property
    def default_text(self) -> str:
        """The default as it is written on the command line."""
        if isinstance(self.default, tuple):
            return f"[{','.join(map(str, self.default))}]"
        if self.default is None or isinstance(self.default, bool):
            return {None: "null", True: "true", False: "false"}[self.default]
        return f"{self.default:g}" if isinstance(self.default, float) else str(self.default)

    def check(self, value: Any, prefix: str = "") -> None:
        """Raises ConfigurationError if `value` is of another kind or out of range; `prefix` stands before the name."""
        if not (self.optional if value is None else self._takes(value)):
            raise ConfigurationError(f"{prefix}{self.name}={value!r}: choose {self.allowed}")

    def _takes(self, value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return isinstance(value, self.kinds) and (not self.choices or value in self.choices)
        if not (float in self.kinds or (int in self.kinds and isinstance(value, int))) or not abs(value) < _TOO_LARGE:
            return False
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def _words(self) -> dict[type, str]:
        name = f"one of: {', '.join(self.choices)}" if self.choices else "text"
        return {
            bool: "true or false",
            float: f"a number{self._bounds()}",
            int: f"a whole number{self._bounds()}",
            str: name,
            tuple: "a list",
        }

    def _bounds(self) -> str:
        if self.low is None:
            return ""
        end = "up" if self.high is None else f"to {self.high:g}"
        return f" from {self.low:g} {end} {self.unit}".rstrip()


def option(
    default: T,
    help: str,
    *,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: Sequence[str] = (),
) -> T:
    """A field of a dataclass of options: its default, and what `OptionField` knows of it."""
    description = {"help": help, "unit": unit, "low": low, "high": high, "choices": tuple(choices)}
    return field(default=default, metadata={_DESCRIPTION: description})


def option_fields(owner: type) -> tuple[OptionField, ...]:
    """What is known of each option of `owner`, a dataclass made of `option`s, in their order."""
    hints = get_type_hints(owner)
    return tuple(
        _described(one.name, one.default, hints[one.name], one.metadata[_DESCRIPTION]) for one in fields(owner)
    )


def _described(name: str, default: Any, hint: Any, description: Mapping[str, Any]) -> OptionField:
    choices = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    kinds = tuple(get_origin(kind) or kind for kind in choices if kind is not NoneType)
    return OptionField(name=name, default=default, kinds=kinds, optional=NoneType in choices, **description)


def check_options(options: Any, prefix: str = "") -> None:
    """Compares the values of a dataclass of options with what they may be.

    Args:
        options: The instance.
        prefix: Stands before the names in messages, such as 'reverb.'.

    Raises:
        ConfigurationError: A value is of another kind or out of range; the message names it and what is allowed.
    """
    for one in option_fields(type(options)):
        one.check(getattr(options, one.name), prefix)


def options_from(owner: type[T], values: Mapping[str, Any], kind: str = "option") -> T:
    """A dataclass of options from names and values as YAML, JSON or widgets give them.

    Raises:
        ConfigurationError: A name is unknown, or a value is not allowed; the message has the choices.
    """
    names = [one.name for one in option_fields(owner)]
    for name in values:
        if name not in names:
            raise unknown_choice(kind, name, names)
    return owner(**values)
