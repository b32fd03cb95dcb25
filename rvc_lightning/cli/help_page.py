"""The page of `--help`, read from the configuration: what is said of a setting is the comment above it, and only that.

    # Converts a recording.              the header: in its first line the command, then examples
    defaults:
      - pitch: null   # how it is found  the meaning of a group; that in train.yaml serves where there is none

    # The voice.                         the meaning of the setting below, or behind it in its line
    voice: ???

A setting whose file says nothing of it is not on the page. Nothing heavy is imported here: --help should not wait.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

_CONF = files("rvc_lightning.conf")
_WIDTH = 110
_UNKNOWN = "…"
_KEY = re.compile(r"( *)([\w-]+): *([^#]*?) *(?:# *(.*))?$")
_DEFAULT = re.compile(r" *- ([^:# ]+(?: [^:# ]+)?)(?:: ([^#]*?))? *(?:# *(.*))?$")
_PACKAGE = re.compile(r"# @package (\S+)\n")
_ENDING = (
    "A setting is given as NAME=VALUE; one with brackets, commas, '$' or spaces takes quotes: 'NAME=VALUE'. "
    "--cfg job shows everything that can be set, --hydra-help the options of the command line."
)


@dataclass(frozen=True)
class Meaning:
    """What a file says of a setting, or of a table of settings."""

    text: str
    is_table: bool


@dataclass
class Commented:
    """What a configuration file says in comments."""

    header: str = ""
    """Its first lines."""
    package: str | None = None
    """Where its settings go, if it names a place; '_global_' for the top."""
    included: list[str] = field(default_factory=list)
    """Files that it takes in, by their names in the same folder."""
    groups: dict[str, str] = field(default_factory=dict)
    """Meaning of each group that it chooses from; empty where nothing is said."""
    settings: dict[str, Meaning] = field(default_factory=dict)
    """By their dotted names within the file, in their order."""


def commented(name: str) -> Commented:
    """Reads the comments of a configuration file.

    Args:
        name: Its path below conf/, without the extension, such as 'convert' or 'model/full'.
    """
    text = _CONF.joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    package = _PACKAGE.match(text)
    result = Commented(package=package[1] if package else None)
    lines = _PACKAGE.sub("", text, count=1).splitlines()
    result.header = "\n".join(line[2:] for line in _leading_comment(lines))
    body, _, _ = "\n".join(lines).partition("\nhydra:")
    _read_settings(body.splitlines(), result)
    return result


def _leading_comment(lines: list[str]) -> Iterator[str]:
    for line in lines:
        if not line.startswith("#"):
            return
        yield line


def _read_settings(lines: list[str], result: Commented) -> None:
    """Fills in groups, included files and settings."""
    above: list[str] = []
    tables: list[tuple[int, str]] = []
    for line in lines:
        if line.lstrip().startswith("#"):
            above.append(line.strip("# "))
            continue
        if not result.settings and not tables and (default := _DEFAULT.match(line)):
            _read_default(result, *default.groups())
        elif (key := _KEY.match(line)) and key[2] != "defaults":
            indent, name, value, behind = key.groups()
            tables = [table for table in tables if table[0] < len(indent)]
            said = " ".join([*above, behind or ""]).strip()
            path = [table for _, table in tables] + [name]
            tables.append((len(indent), name))
            if name == "_target_":
                # What is said first in a table that is made into an object is said of the object.
                path, value = path[:-1], ""
            if said:
                result.settings[".".join(path)] = Meaning(said, is_table=not value)
        above = []


def _read_default(result: Commented, name: str, choice: str | None, said: str | None) -> None:
    if name.startswith("override ") or "@" in name or name == "_self_":
        return
    if choice is None:
        result.included.append(name)
    else:
        result.groups[name] = said or ""


def summary(command: str) -> str:
    """What a command is for, in a line: the first of its configuration file."""
    return commented(command).header.partition("\n")[0]


def page(command: str, explained: tuple[str, ...], root: DictConfig) -> str:
    """The page: header, settings with their values, groups with their choices, settings of the groups.

    Args:
        command: Name of its configuration file.
        explained: Settings of the groups to explain, or whole tables of them. '+GROUP' lists the choices of a group
            that is added.
        root: What the command would run with.
    """
    choices = root.hydra.runtime.choices
    added = [name.removeprefix("+") for name in explained if name.startswith("+")]
    parts = [
        ("", commented(command).header),
        ("Settings, each with its value now:", _settings(_own(command), root)),
        *((f"What +{name}=NAME adds:", _choices_of(name)) for name in added),
        ("Groups, each with its choice now and what there is:", _groups(command, choices)),
        ("Settings of what is chosen:", _settings(_of_groups(command, explained, choices), root)),
        ("", textwrap.fill(_ENDING, _WIDTH)),
    ]
    return "\n\n".join(f"{title}\n\n{text}".strip("\n") for title, text in parts if text)


def _own(command: str) -> dict[str, Meaning]:
    """Of the command's own settings, and of the files that it takes in."""
    file = commented(command)
    found = dict(file.settings)
    for name in file.included:
        if _exists(name) and not (commented(name).package or "").startswith("hydra"):
            found |= _placed(name, "")
    return found


def _of_groups(command: str, wanted: tuple[str, ...], choices: Mapping[str, str]) -> dict[str, Meaning]:
    """Of the settings of its groups that are wanted and not the command's own."""
    file = commented(command)
    found: dict[str, Meaning] = {}
    for group in file.groups:
        if _exists(name := f"{group}/{choices.get(group)}"):
            found |= _placed(name, group)
    return {key: said for key, said in found.items() if key not in file.settings and _is_wanted(key, wanted)}


def _is_wanted(key: str, wanted: tuple[str, ...]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in wanted)


def _placed(name: str, place: str) -> dict[str, Meaning]:
    """Meanings of a file and of those that it takes in, by the names that the settings have in the whole."""
    file = commented(name)
    at = {None: place, "_global_": ""}.get(file.package, file.package) or ""
    folder = name.rpartition("/")[0]
    found = {".".join(filter(None, (at, key))): said for key, said in file.settings.items()}
    for other in file.included:
        found = _placed(f"{folder}/{other}", place) | found
    return found


def _exists(name: str) -> bool:
    return _CONF.joinpath(f"{name}.yaml").is_file()


def _settings(meanings: Mapping[str, Meaning], root: DictConfig) -> str:
    """A line for each setting that there is, and its meaning."""
    plain = OmegaConf.to_container(root, resolve=False)
    assert isinstance(plain, dict)
    lines = []
    for name, meaning in meanings.items():
        if (found := _find(plain, name)) is None:
            continue
        if meaning.is_table:
            lines.append(_filled(f"{name}: {meaning.text}", "  "))
        else:
            lines += [f"  {name}={_shown(root, name, *found)}", _filled(meaning.text, "      ")]
    return "\n".join(lines)


def _find(plain: Mapping[Any, Any], name: str) -> tuple[Any] | None:
    """The unresolved value of a setting; None where there is no such setting."""
    value: Any = plain
    for key in name.split("."):
        if not isinstance(value, Mapping) or key not in value:
            return None
        value = value[key]
    return (value,)


def _shown(root: DictConfig, name: str, raw: Any) -> str:
    """A value as it is typed; what depends on settings that are not given yet is left open."""
    if raw == "???":
        return f"{_UNKNOWN} (must be given)"
    try:
        value = OmegaConf.select(root, name)
    except OmegaConfBaseException:
        return _UNKNOWN
    # A run has no folder before it has begun.
    if raw is not None and "None" in str(value) and "None" not in str(raw):
        return _UNKNOWN
    if OmegaConf.is_config(value):
        value = OmegaConf.to_container(value, resolve=False)
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True).splitlines()[0]
    return text.replace(", ", ",") if isinstance(value, list) else text


def _groups(command: str, choices: Mapping[str, str]) -> str:
    """A line for each group with several choices, and its meaning."""
    said, elsewhere = commented(command).groups, commented("train").groups
    lines = []
    for group, meaning in said.items():
        names = _names(group)
        if len(names) > 1:
            chosen = choices.get(group) or "null"
            lines.append(_filled(f"{group}={chosen} ({', '.join(names)})", "  "))
            lines.append(_filled(meaning or elsewhere.get(group, ""), "      "))
    return "\n".join(lines)


def _names(group: str) -> list[str]:
    return sorted(path.name.removesuffix(".yaml") for path in _CONF.joinpath(group).iterdir() if ".yaml" in path.name)


def _choices_of(group: str) -> str:
    """Each choice of a group by the first line of its file."""
    return "\n".join(
        f"  {name}\n{_filled(commented(f'{group}/{name}').header.splitlines()[0], '      ')}" for name in _names(group)
    )


def _filled(text: str, indent: str) -> str:
    return textwrap.fill(
        text, _WIDTH, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
