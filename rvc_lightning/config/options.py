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
from functools import cache
from types import NoneType, UnionType
from typing import Any, ClassVar, TypeVar, Union, get_args, get_origin, get_type_hints

from rvc_lightning.errors import ConfigurationError, unknown_choice

S = TypeVar("S", bound="Settings")

_OPTION = "option"
_INT64_LIMIT = 2**63
"""Seeds and speaker numbers are 64-bit integers."""
_CHECKED_TYPES = (bool, int, float, str, tuple, list, dict)


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
    """Allowed texts; empty if every nonempty text is allowed."""
    kinds: tuple[type, ...] = ()
    """Allowed types, a subset of `_CHECKED_TYPES`; an int is a valid float. Empty if every type is allowed."""
    optional: bool = False
    """Whether None is allowed."""

    @property
    def allowed(self) -> str:
        """Allowed values as text, such as 'a number from 0 to 1'."""
        bounds = self._bounds()
        descriptions = {
            bool: "true or false",
            float: f"a number{bounds}",
            int: f"a whole number{bounds}",
            str: f"one of: {', '.join(self.choices)}" if self.choices else "text",
            tuple: "a list in brackets",
            list: "a list in brackets",
            dict: "a table",
            NoneType: "null",
        }
        kinds = (*self.kinds, NoneType) if self.optional else self.kinds
        return " or ".join(dict.fromkeys(text for kind, text in descriptions.items() if kind in kinds))

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
            raise ConfigurationError(f"{prefix}{self.name}={value_text(value)}: choose {self.allowed}")

    def _accepts(self, value: Any) -> bool:
        if not self.kinds:
            return True
        if isinstance(value, bool):
            return bool in self.kinds
        if not isinstance(value, int | float):
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


def value_text(value: object) -> str:
    """Return a rejected value for messages; a whole number that was converted to `float` as it was typed."""
    return repr(value).removesuffix(".0")


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
    return _option_fields(owner)


@cache
def _option_fields(owner: type) -> tuple[OptionField, ...]:
    # Resolving type hints takes milliseconds, which each conversion would spend several times.
    hints = get_type_hints(owner)
    return tuple(_option_field(definition, hints[definition.name]) for definition in fields(owner))


def _option_field(definition: Any, hint: Any) -> OptionField:
    """Return the description of a dataclass field with this type hint."""
    has_factory = definition.default_factory is not MISSING
    choices = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    kinds = tuple(get_origin(kind) or kind for kind in choices if kind is not NoneType)
    kinds = kinds if all(kind in _CHECKED_TYPES for kind in kinds) else ()
    return OptionField(
        name=definition.name,
        default=definition.default_factory() if has_factory else definition.default,
        kinds=kinds,
        optional=NoneType in choices or Any in choices,
        **definition.metadata.get(_OPTION, {}),
    )


@dataclass(frozen=True)
class Settings:
    """Base of the dataclasses that describe a group of settings.

    A subclass passes `group` in its class statement: the name of the group, which precedes field names in messages.

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
        for option_field in option_fields(type(self)):
            option_field.check(getattr(self, option_field.name), prefix)

    @classmethod
    def from_values(cls: type[S], values: Mapping[str, Any]) -> S:
        """Build the dataclass from names and values of YAML, JSON or widgets; defaults fill the rest.

        Only interpolations of a configuration are resolved. Python values are literal, since they may be a visitor's.

        Raises:
            ConfigurationError: A name is unknown, a value is missing, of the wrong type or out of range.
        """
        # Imported lazily, so that networks, whose sizes are Settings, only depend on torch.
        from omegaconf import OmegaConf
        from omegaconf.errors import OmegaConfBaseException

        from rvc_lightning.config.interpolation import literal

        if not isinstance(values, Mapping):
            setting = f"{cls.group}={values}" if cls.group else str(values)
            raise ConfigurationError(f"{setting}: choose a table of settings, such as {{name:value}}")
        try:
            merged = OmegaConf.merge(OmegaConf.structured(cls), literal(values))
            arguments: Any = OmegaConf.to_container(merged, resolve=True, throw_on_missing=True)
        except OmegaConfBaseException as error:
            raise cls._explain(error, values) from error
        return cls(**arguments)

    @classmethod
    def from_config(cls: type[S], config: Mapping[str, Any]) -> S:
        """Build the dataclass from a larger configuration; other names are ignored. Errors as in `from_values`."""
        if isinstance(config, Mapping):
            names = [option_field.name for option_field in option_fields(cls)]
            config = {name: config[name] for name in names if name in config}
        return cls.from_values(config)

    @classmethod
    def _explain(cls, error: Any, values: Mapping[str, Any]) -> ConfigurationError:
        """Return the error for an error of OmegaConf, with name, value and choices."""
        options = {option_field.name: option_field for option_field in option_fields(cls)}
        name = str(error.full_key).partition(".")[0].partition("[")[0]
        if name not in options:
            return unknown_choice(f"setting of {cls.group}" if cls.group else "option", error.key, options)
        option_field = options[name]
        setting = f"{cls.group}.{name}" if cls.group else name
        if option_field.default is MISSING and values.get(name) in (None, "???"):
            help_text = f": {option_field.help}" if option_field.help else ""
            return ConfigurationError(f"{setting}=... is missing{help_text}")
        reason = f"choose {option_field.allowed}" if option_field.kinds else str(error).splitlines()[0]
        return ConfigurationError(f"{setting}={value_text(values.get(name))}: {reason}")
