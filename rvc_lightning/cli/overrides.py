"""Overrides of Hydra's command line, written so that they can be pasted into a shell."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from rvc_lightning.config.interpolation import escape_interpolations
from rvc_lightning.errors import ConfigurationError
from rvc_lightning.io.processes import command_start, quote_argument

_PLAIN_TEXT = re.compile(r"(?!(?:null|true|false|nan|inf)$)[A-Za-z_/.~][\w/.~:@%+-]*", re.IGNORECASE | re.ASCII)
"""Text that Hydra reads as text without quotes."""
_NUMBER_LIKE = re.compile(r"[+-]?\.\d")


def parse_overrides(texts: Sequence[str]) -> dict[str, Override]:
    """Parse overrides and return them by the key or group that they set. Raises HydraException if one is malformed."""
    return {override.key_or_group: override for override in OverridesParser.create().parse_overrides(list(texts))}


def format_override(key: str, value: Any) -> str:
    """Return `key=value` as Hydra parses it, for any value: text is quoted where needed.

    Args:
        key: Name of the setting.
        value: A path, text, number, truth value, None, or a list or table of these.
    """
    return f"{key}={_format_value(value)}"


def _format_value(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str | Path):
        return _format_text(str(value))
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_format_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Sequence):
        return "[" + ",".join(map(_format_value, value)) + "]"
    return str(value)


def _format_text(text: str) -> str:
    if _PLAIN_TEXT.fullmatch(text) and not _NUMBER_LIKE.match(text):
        return text
    # Backslashes are literal in quotes, except before a quote and at the end.
    escaped = re.sub(r'(\\*)("|$)', lambda match: match[1] * 2 + ('\\"' if match[2] else ""), text)
    return f'"{escape_interpolations(escaped)}"'


def format_command(name: str, *overrides: str) -> str:
    """Return a command as this process was started, such as `rvc-lightning NAME OVERRIDES`, quoted for a shell."""
    return " ".join([command_start(name), *map(quote_argument, overrides)])


TEXT_SETTINGS = re.compile(
    r"audio|author|backing|checkpoint|config_dir|content_path|content\.path|corpus|counterpart|datasets?|f0_file|folder|"
    r"host|index|input|instrumental|jobs|live\.(audio|voice)|monitor|name|options\.f0_file|output|pair|paths\.\w+|preset|"
    r"pretrained\.(repository|generator|discriminator)|record_(input|output)|recordings|reference|runs|"
    r"separator\.\w+\.(path|stem)|song|(options\.)?speaker|ssl_(cert|key)file|start_from|text|token|tts\.(path|voice)|"
    r"vocals|voices?|words"
)
"""Settings with a path, a name or a text as value, which is used as typed, not parsed as a number or a list."""

_NOT_TEXT = re.compile(r"[+-]?[\d.][\d_.]*(e[+-]?\d+)?|null|true|false|nan|[+-]?inf", re.IGNORECASE)


_FOREIGN = re.compile(r"(?![\w\s/+.%*@?|:\\-]*$)[^\[\](){}'\"$,]+", re.ASCII)
"""Value without brackets, quotes, commas and interpolations, but with characters that Hydra rejects, such as 'ö'."""

_FLAGS_WITH_VALUE = frozenset(
    {
        *("--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd"),
        *("--experimental-rerun", "--info", "-i"),
    }
)
"""Flags of Hydra whose value may be the next argument."""
_FLAGS = _FLAGS_WITH_VALUE | {
    *("--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r", "--multirun", "-m"),
    *("--shell-completion", "-sc"),
}


def flags_last(arguments: Sequence[str]) -> list[str]:
    """Move the flags of Hydra behind the overrides, since `argparse` rejects overrides on both sides of a flag.

    Raises:
        ConfigurationError: Hydra has no such flag, or an argument is not an override.
    """
    flags: list[str] = []
    overrides: list[str] = []
    for before, argument in zip(["", *arguments], arguments, strict=False):
        flag = argument.partition("=")[0]
        if flag.startswith("-") and flag not in _FLAGS:
            setting = flag.lstrip("-").replace("-", "_")
            raise ConfigurationError(f"unknown flag '{flag}'; settings are typed as {setting}=VALUE, see --help")
        (flags if flag in _FLAGS or before in _FLAGS_WITH_VALUE else overrides).append(argument)
    _check_overrides(overrides)
    return overrides + flags


def _check_overrides(arguments: Sequence[str]) -> None:
    """Raise ConfigurationError for an argument that is not an override, and suggest the intended one."""
    for number, argument in enumerate(arguments):
        if _is_override(argument):
            continue
        text = " ".join(itertools.takewhile(lambda other: not _is_override(other), arguments[number:]))
        if "=" not in text and number > 0:
            text = f"{arguments[number - 1]} {text}"
        meant = quote_argument(re.sub(r"\s*=\s*", "=", text, count=1))
        remedy = "settings are NAME=VALUE, see --help"
        if re.search(r"\w\s+=|\w=\s", text):
            remedy = f"type {meant}, without spaces around '='"
        elif re.search(r"\w=", text):
            remedy = f"settings are NAME=VALUE, and values with spaces need quotes: {meant}"
        raise ConfigurationError(f"'{argument}' is not a setting; {remedy}")


def _is_override(argument: str) -> bool:
    return argument.startswith("~") or "=" in argument[1:]


def quote_text_settings(arguments: Sequence[str]) -> list[str]:
    """Quote the values of text settings for Hydra, and expand a leading `~`.

    Hydra reads `name=007` as a number, and rejects `audio=José` and `audio='a, b'` unless the value itself is quoted.
    Values with quotes or interpolations, and lists in a sweep, are unchanged. Values of other settings are quoted if
    they contain characters that Hydra rejects, so that the error names the choices of the setting.
    """
    is_sweep = any(argument in ("-m", "--multirun") for argument in arguments)
    return [_quoted(argument, is_sweep=is_sweep) for argument in arguments]


def _quoted(argument: str, *, is_sweep: bool) -> str:
    key, _, value = argument.partition("=")
    is_text = TEXT_SETTINGS.fullmatch(key) is not None
    # For a number or null as the choice of a group, Hydra's error does not list the choices.
    is_choice = is_number_like(value) and key.lstrip("+") in group_names()
    is_foreign = not key.startswith("-") and _FOREIGN.fullmatch(value) is not None
    if not is_text and not is_choice and not is_foreign:
        return argument
    if is_text and value[:2] in ("'~", '"~'):
        return f"{key}={value[0]}{os.path.expanduser(value[1:])}"
    has_grammar = value[:1] in ("'", '"') or re.search(r"\$\{.+\}", value) is not None or (is_sweep and "," in value)
    if has_grammar or value == "" or (is_text and value == "null"):
        return argument
    return f"{key}={_format_text(os.path.expanduser(value) if is_text else value)}"


def is_number_like(value: str) -> bool:
    """Return whether Hydra reads a value as a number, a truth value or null."""
    return _NOT_TEXT.fullmatch(value) is not None


@cache
def group_names() -> frozenset[str]:
    """Return the names of the configuration groups."""
    return frozenset(path.name for path in files("rvc_lightning.conf").iterdir() if path.is_dir())
