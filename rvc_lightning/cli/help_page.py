"""The page of `--help`, built from the comments of the configuration files.

    # Convert a recording.              header: first line is the summary of the command
    defaults:
      - pitch: null   # extractor       comment of a group; default: its comment in train.yaml

    # Voice.                            comment of the setting below, or after it on its line
    voice: ???

Settings without a comment are not on the page. This module imports no heavy modules, so that --help is fast.
"""

from __future__ import annotations

import itertools
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

_CONF = files("rvc_lightning.conf")
_WIDTH = 110
_UNRESOLVED = "…"
_NOT_FOUND = object()
_PACKAGE = re.compile(r"# @package (\S+)\n")
_ENDING = (
    "Settings are NAME=VALUE. Values with brackets, commas, '$' or spaces need quotes: 'NAME=VALUE'. "
    "--cfg job prints all settings, --hydra-help the options of the command line."
)


@dataclass(frozen=True)
class Comment:
    """The comment of a setting, or of a table of settings."""

    text: str
    is_table: bool


@dataclass
class FileComments:
    """The comments of a configuration file."""

    header: str = ""
    """Comment at the top."""
    package: str | None = None
    """Package of its settings, if it names one; '_global_' for the root."""
    included: list[str] = field(default_factory=list)
    """Files of the same folder in its defaults list."""
    groups: dict[str, str] = field(default_factory=dict)
    """Comment of each group in its defaults list; '' if there is none."""
    settings: dict[str, Comment] = field(default_factory=dict)
    """Comments by dotted name within the file, in order."""


def read_comments(name: str) -> FileComments:
    """Read the comments of a configuration file.

    Args:
        name: Path below conf/ without the extension, such as 'convert' or 'model/full'.
    """
    text = _CONF.joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    package = _PACKAGE.match(text)
    lines = _PACKAGE.sub("\n", text, count=1).splitlines()
    start = 1 if package else 0
    header = itertools.takewhile(lambda line: line.startswith("#"), lines[start:])
    result = FileComments("\n".join(line[2:] for line in header), package[1] if package else None)
    root = yaml.compose(text, yaml.SafeLoader)
    for key, value in root.value if root else []:
        if key.value == "defaults":
            for item in value.value:
                _read_default(result, item, lines)
        elif key.value != "hydra":
            _read_setting(result, key, value, lines, ())
    return result


def _read_default(result: FileComments, item: yaml.Node, lines: list[str]) -> None:
    key, choice = item.value[0] if isinstance(item, yaml.MappingNode) else (item, None)
    if key.value.startswith("override ") or "@" in key.value or key.value == "_self_":
        return
    if choice is None:
        result.included.append(key.value)
    else:
        result.groups[key.value] = _comment_after(lines, choice)


def _read_setting(
    result: FileComments, key: yaml.Node, value: yaml.Node, lines: list[str], tables: tuple[str, ...]
) -> None:
    """Read the comment of a setting, and for a table those of its settings."""
    is_block = isinstance(value, yaml.CollectionNode) and not value.flow_style
    is_table = is_block and isinstance(value, yaml.MappingNode)
    text = " ".join([*_comment_above(lines, key), _comment_after(lines, key if is_block else value)]).strip()
    if text and key.value == "_target_":
        # The comment of the target describes the table.
        result.settings[".".join(tables)] = Comment(text, is_table=True)
    elif text:
        result.settings[".".join((*tables, key.value))] = Comment(text, is_table)
    for inner_key, inner in value.value if is_table else []:
        _read_setting(result, inner_key, inner, lines, (*tables, key.value))


def _comment_above(lines: list[str], key: yaml.Node) -> list[str]:
    above = itertools.takewhile(lambda line: line.lstrip().startswith("#"), reversed(lines[: key.start_mark.line]))
    return [line.strip("# ") for line in above][::-1]


def _comment_after(lines: list[str], node: yaml.Node) -> str:
    mark = node.end_mark
    return lines[mark.line][mark.column :].partition("#")[2].strip()


def summary(command: str) -> str:
    """Return the summary of a command: the first line of its configuration file."""
    return read_comments(command).header.partition("\n")[0]


def explanations(command: str, explained: Sequence[str], choices: Mapping[str, str]) -> dict[str, str]:
    """Return the comments of a command's settings and groups by name.

    Args:
        command: Name of the configuration file of the command.
        explained: Settings of groups, or tables of them.
        choices: Choice of each group.
    """
    comments = _command_comments(command) | _group_comments(command, tuple(explained), choices)
    return read_comments(command).groups | {name: comment.text for name, comment in comments.items()}


def page(command: str, explained: tuple[str, ...], root: DictConfig) -> str:
    """Return the page: header, settings with their values, groups with their choices, settings of the groups.

    Args:
        command: Name of the configuration file of the command.
        explained: Settings of groups to explain, or tables of them. '+GROUP' lists the choices of a group to add.
        root: The composed configuration.
    """
    choices = root.hydra.runtime.choices
    added = [name.removeprefix("+") for name in explained if name.startswith("+")]
    parts = [
        ("", read_comments(command).header),
        ("Settings and their values:", _format_settings(_command_comments(command), root)),
        *((f"Choices of +{name}=NAME:", _format_choices(name)) for name in added),
        ("Groups, with the current choice and all choices:", _format_groups(command, choices)),
        ("Settings of the current choices:", _format_settings(_group_comments(command, explained, choices), root)),
        ("", textwrap.fill(_ENDING, _WIDTH)),
    ]
    return "\n\n".join(f"{title}\n\n{text}".strip("\n") for title, text in parts if text)


def _command_comments(command: str) -> dict[str, Comment]:
    """Return the comments of a command's settings, and of the files it includes."""
    file = read_comments(command)
    found = dict(file.settings)
    for name in file.included:
        if _exists(name) and not (read_comments(name).package or "").startswith("hydra"):
            found |= _placed_comments(name, "")
    return found


def _group_comments(command: str, explained: tuple[str, ...], choices: Mapping[str, str]) -> dict[str, Comment]:
    """Return the comments of the settings in `explained`, from the files of the current choices."""
    file = read_comments(command)
    found: dict[str, Comment] = {}
    for group in file.groups:
        if _exists(name := f"{group}/{choices.get(group)}"):
            found |= _placed_comments(name, group)
    prefixes = tuple(f"{name}." for name in explained)
    return {
        key: comment
        for key, comment in found.items()
        if key not in file.settings and (key in explained or key.startswith(prefixes))
    }


def _placed_comments(name: str, group: str) -> dict[str, Comment]:
    """Return the comments of a file and the files it includes, by names in the whole configuration."""
    file = read_comments(name)
    package = {None: group, "_global_": ""}.get(file.package, file.package) or ""
    folder = name.rpartition("/")[0]
    found = {".".join(filter(None, (package, key))): comment for key, comment in file.settings.items()}
    for other in file.included:
        found = _placed_comments(f"{folder}/{other}", group) | found
    return found


def _exists(name: str) -> bool:
    return _CONF.joinpath(f"{name}.yaml").is_file()


def _format_settings(comments: Mapping[str, Comment], root: DictConfig) -> str:
    """Return each setting with its value, and its comment below."""
    plain = OmegaConf.to_container(root, resolve=False)
    assert isinstance(plain, dict)
    lines = []
    for name, comment in comments.items():
        value = _find(plain, name)
        if value is _NOT_FOUND:
            continue
        if comment.is_table:
            lines.append(_fill(f"{name}: {comment.text}", "  "))
        else:
            lines += [f"  {name}={_format_value(root, name, value)}", _fill(comment.text, "      ")]
    return "\n".join(lines)


def _find(plain: Mapping[Any, Any], name: str) -> Any:
    """Return the unresolved value of a setting, or `_NOT_FOUND`."""
    value: Any = plain
    for key in name.split("."):
        if not isinstance(value, Mapping) or key not in value:
            return _NOT_FOUND
        value = value[key]
    return value


def _format_value(root: DictConfig, name: str, raw: Any) -> str:
    """Return a value as typed; '…' if it depends on settings that are not given yet."""
    if raw == "???":
        return f"{_UNRESOLVED} (required)"
    try:
        value = OmegaConf.select(root, name)
    except OmegaConfBaseException:
        return _UNRESOLVED
    # A run has no folder before it starts.
    if raw is not None and "None" in str(value) and "None" not in str(raw):
        return _UNRESOLVED
    if OmegaConf.is_config(value):
        value = OmegaConf.to_container(value, resolve=False)
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True).splitlines()[0]
    return text.replace(", ", ",") if isinstance(value, list) else text


def _format_groups(command: str, choices: Mapping[str, str]) -> str:
    """Return each group that has several choices, and its comment below."""
    comments, defaults = read_comments(command).groups, read_comments("train").groups
    lines = []
    for group, comment in comments.items():
        names = choices_of(group)
        if len(names) > 1:
            lines.append(_fill(f"{group}={choices.get(group) or 'null'} ({', '.join(names)})", "  "))
            lines.append(_fill(comment or defaults.get(group, ""), "      "))
    return "\n".join(lines)


def choices_of(group: str) -> list[str]:
    """Return the names of the files of a group, sorted."""
    return sorted(path.name.removesuffix(".yaml") for path in _CONF.joinpath(group).iterdir() if ".yaml" in path.name)


def _format_choices(group: str) -> str:
    """Return each choice of a group with the first line of its file."""
    return "\n".join(
        f"  {name}\n{_fill(read_comments(f'{group}/{name}').header.splitlines()[0], '      ')}"
        for name in choices_of(group)
    )


def _fill(text: str, indent: str) -> str:
    return textwrap.fill(
        text, _WIDTH, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
