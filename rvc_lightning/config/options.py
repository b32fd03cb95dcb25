"""Settings as dataclasses: each field states its default, meaning, unit and range once.

    @dataclass(frozen=True, kw_only=True)
    class LoaderConfig(Settings, group="data"):
        batch_size: int = option(min=1)
        cache: str = option("none", choices=("none", "memory"))

`Settings.from_values` builds such a dataclass from YAML, JSON or widgets: OmegaConf checks names and types, since the
dataclass is a structured config, and `__post_init__` checks ranges and choices. Code that builds the dataclass itself
gets the same checks. The help of a command, its table in the documentation and the widgets of the page read
`option_fields`.

OmegaConf supports `bool`, `int`, `float`, `str`, `list`, `dict`, unions of plain types, and `Any` for the rest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from types import NoneType, UnionType
from typing import Any, ClassVar, TypeVar, Union, get_args, get_origin, get_type_hints

from rvc_lightning.errors import ConfigurationError, unknown_choice

S = TypeVar("S", bound="Settings")

_OPTION = "option"
_INT64_LIMIT = 2**63
"""Seeds and speaker numbers are 64-bit integers."""
_CHECKED = (bool, int, float, str, tuple, list, dict)


@dataclass(frozen=True)
class OptionField:
    """Name, default, meaning, unit and range of one setting."""

    name: str
    """Name in Python, in YAML and on the command line."""
    default: Any
    """Default value; `dataclasses.MISSING` where a value is required."""
    help: str = ""
    """Meaning, in one or two plain sentences."""
    unit: str = ""
    """Unit of a number; empty if it has none."""
    min: float | None = None
    """Smallest number allowed; None for no bound."""
    max: float | None = None
    """Largest number allowed; None for no bound."""
    choices: tuple[str, ...] = ()
    """Allowed texts; empty if any text is allowed but the empty one."""
    kinds: tuple[type, ...] = ()
    """Allowed types, of bool, int, float, str, tuple, list and dict; an int is a valid float. Empty for any type."""
    optional: bool = False
    """Whether None is allowed."""

    @property
    def allowed(self) -> str:
        """Allowed values in words, such as 'a number from 0 to 1'."""
        bounds = self._bounds()
        words = {
            bool: "true or false",
            float: f"a number{bounds}",
            int: f"a whole number{bounds}",
            str: f"one of: {', '.join(self.choices)}" if self.choices else "text",
            tuple: "a list",
            list: "a list",
            dict: "a table",
            NoneType: "null",
        }
        kinds = (*self.kinds, NoneType) if self.optional else self.kinds
        return " or ".join(dict.fromkeys(word for kind, word in words.items() if kind in kinds))

    @property
    def default_text(self) -> str:
        """Default value as typed on the command line."""
        if isinstance(self.default, tuple):
            return f"[{','.join(map(str, self.default))}]"
        if self.default is None or isinstance(self.default, bool):
            return {None: "null", True: "true", False: "false"}[self.default]
        return f"{self.default:g}" if isinstance(self.default, float) else str(self.default)

    def check(self, value: Any, prefix: str = "") -> None:
        """Raise ConfigurationError if `value` is not allowed; `prefix` precedes the name in the message."""
        if not (self.optional if value is None else self._accepts(value)):
            raise ConfigurationError(f"{prefix}{self.name}={value!r}: choose {self.allowed}")

    def _accepts(self, value: Any) -> bool:
        if not self.kinds:
            return True
        if isinstance(value, bool) or not isinstance(value, int | float):
            return isinstance(value, self.kinds) and value != "" and (not self.choices or value in self.choices)
        return (
            (float in self.kinds or (int in self.kinds and isinstance(value, int)))
            and math.isfinite(value)
            and abs(value) < _INT64_LIMIT
            and (self.min is None or value >= self.min)
            and (self.max is None or value <= self.max)
        )

    def _bounds(self) -> str:
        if self.min is None:
            return ""
        if self.max is None:
            return f" from {_number_text(self.min)} {self.unit}".rstrip() + " up"
        return f" from {_number_text(self.min)} to {_number_text(self.max)} {self.unit}".rstrip()


def _number_text(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:g}"


def option(
    default: Any = MISSING,
    help: str = "",
    *,
    unit: str = "",
    min: float | None = None,
    max: float | None = None,
    choices: Sequence[str] = (),
) -> Any:
    """Return a dataclass field with its default and the description that `OptionField` holds."""
    description = {"help": help, "unit": unit, "min": min, "max": max, "choices": tuple(choices)}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata={_OPTION: description})
    return field(default=default, metadata={_OPTION: description})


def option_fields(owner: type) -> tuple[OptionField, ...]:
    """Return the description of each field of the dataclass `owner`, in order."""
    hints = get_type_hints(owner)
    return tuple(
        _described(one.name, _default_of(one), hints[one.name], one.metadata.get(_OPTION, {})) for one in fields(owner)
    )


def _default_of(one: Any) -> Any:
    return one.default if one.default_factory is MISSING else one.default_factory()


def _described(name: str, default: Any, hint: Any, description: Mapping[str, Any]) -> OptionField:
    choices = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    kinds = tuple(get_origin(kind) or kind for kind in choices if kind is not NoneType)
    kinds = kinds if all(kind in _CHECKED for kind in kinds) else ()
    return OptionField(name=name, default=default, kinds=kinds, optional=NoneType in choices, **description)


@dataclass(frozen=True)
class Settings:
    """Base of the dataclasses that describe a group of settings.

    Args of the class statement: `group`, the name of the group, which precedes the name of a field in messages.

    Raises:
        ConfigurationError: A value is of the wrong type or out of range; the message gives name, value and choices.
    """

    group: ClassVar[str] = ""

    def __init_subclass__(cls, group: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if group is not None:
            cls.group = group

    def __post_init__(self) -> None:
        prefix = f"{self.group}." if self.group else ""
        for one in option_fields(type(self)):
            one.check(getattr(self, one.name), prefix)

    @classmethod
    def from_values(cls: type[S], values: Mapping[str, Any]) -> S:
        """Build the dataclass from names and values as YAML, JSON or widgets give them; defaults fill the rest.

        Raises:
            ConfigurationError: A name is unknown, a value is missing, of the wrong type or out of range.
        """
        # Imported here, so that networks, whose sizes are Settings, depend on torch alone.
        from omegaconf import OmegaConf
        from omegaconf.errors import OmegaConfBaseException

        if not isinstance(values, Mapping):
            raise ConfigurationError(f"{cls.group}={values}: choose a table of settings, such as {{name:value}}")
        try:
            merged = OmegaConf.merge(OmegaConf.structured(cls), values)
            arguments: Any = OmegaConf.to_container(merged, resolve=True, throw_on_missing=True)
        except OmegaConfBaseException as error:
            raise cls._explained(error, values) from error
        return cls(**arguments)

    @classmethod
    def from_config(cls: type[S], config: Mapping[str, Any]) -> S:
        """Build the dataclass from the settings of its names in a larger configuration. Errors as of `from_values`."""
        if isinstance(config, Mapping):
            config = {one.name: config[one.name] for one in option_fields(cls) if one.name in config}
        return cls.from_values(config)

    @classmethod
    def _explained(cls, error: Any, values: Mapping[str, Any]) -> ConfigurationError:
        """Return the error that explains one of OmegaConf."""
        options = {one.name: one for one in option_fields(cls)}
        name = str(error.full_key).partition(".")[0].partition("[")[0]
        if name not in options:
            return unknown_choice(f"setting of {cls.group}" if cls.group else "option", error.key, options)
        setting, one = f"{cls.group}.{name}" if cls.group else name, options[name]
        if one.default is MISSING and values.get(name) in (None, "???"):
            return ConfigurationError(f"{setting}=... is missing{f': {one.help}' if one.help else ''}")
        reason = f"choose {one.allowed}" if one.kinds else str(error).splitlines()[0]
        return ConfigurationError(f"{setting}={values.get(name)!r}: {reason}")
