"""Presets: named conversion options of a voice, in YAML files beside it.

voices/anna/anna.pth
voices/anna/anna.presets/default.yaml    the page chooses it with the voice
voices/anna/anna.presets/song.yaml       transpose_semitones: 12
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from rvc_lightning.cli.overrides import parse_overrides
from rvc_lightning.cli.resume import typed_overrides
from rvc_lightning.config.options import option_fields
from rvc_lightning.conversion.options import ConversionOptions
from rvc_lightning.errors import ConfigurationError, unknown_choice
from rvc_lightning.io.files import atomic_path
from rvc_lightning.io.names import is_portable
from rvc_lightning.voice.paths import presets_folder

DEFAULT = "default"
"""Name of the preset that the page applies when its voice is chosen."""

_EXCLUDED = ("f0_file", "write_f0")
"""Options that belong to a recording, not to a voice."""


def list_presets(voice: Path) -> list[str]:
    """Return the names of the presets of a voice, sorted, the default first."""
    names = (path.stem for path in presets_folder(voice).glob("[!.]*.yaml") if path.is_file())
    return sorted(names, key=lambda name: (name != DEFAULT, name.casefold()))


def read_preset(voice: Path, name: str) -> dict[str, Any]:
    """Read the options of a preset by name, those that it sets.

    Raises:
        ConfigurationError: The voice has no such preset, or the file contains anything but valid options.
    """
    path = _existing(voice, name)
    try:
        text = path.read_text(encoding="utf-8")
        if "${" in text:
            raise ConfigurationError("a preset contains values only, no '${'")
        values: Any = yaml.safe_load(text)
        ConversionOptions.from_values(values)
    except (yaml.YAMLError, UnicodeDecodeError, ConfigurationError) as error:
        raise ConfigurationError(f"preset '{path}': {' '.join(str(error).split())}") from error
    if unsupported := [name for name in _EXCLUDED if name in values]:
        raise ConfigurationError(f"preset '{path}': {', '.join(unsupported)} cannot be part of a preset")
    return values


def save_preset(voice: Path, name: str, options: ConversionOptions) -> Path:
    """Write the options that differ from their defaults as a preset, and return its file; an older one is replaced.

    Raises:
        ConfigurationError: The name cannot be that of a file.
    """
    if not is_portable(name):
        raise ConfigurationError(f"preset='{name}': choose a name that can be the name of a file")
    path = _path(voice, name)
    with atomic_path(path) as temporary:
        temporary.write_text(yaml.safe_dump(chosen(options, _EXCLUDED), allow_unicode=True), encoding="utf-8")
    return path


def delete_preset(voice: Path, name: str) -> None:
    """Delete a preset. Raises ConfigurationError if the voice has none of this name."""
    _existing(voice, name).unlink(missing_ok=True)


def chosen(options: ConversionOptions, excluded: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the options that differ from their defaults, as plain values."""
    defaults = {field.name: field.default for field in option_fields(ConversionOptions)}
    values = {name: value for name, value in vars(options).items() if value != defaults[name] and name not in excluded}
    if "effects" in values:
        values["effects"] = [{"name": effect.name, **vars(effect)} for effect in options.effects]
    return values


def options_with_preset(
    values: Mapping[str, Any], voice: Path, preset: str | None, prefix: str = ""
) -> ConversionOptions:
    """Return the options of a command: as typed, else of the preset, else of the configuration.

    Args:
        values: Values of the configuration.
        voice: The voice.
        preset: Name of a preset of the voice; None for none.
        prefix: Prefix of the options on the command line, such as `options.`.

    Raises:
        ConfigurationError: As in `read_preset`, or typed options contradict the preset.
    """
    options = ConversionOptions.from_config(values)
    if preset is None:
        return options
    typed = parse_overrides(typed_overrides())
    others = {key: value for key, value in read_preset(voice, preset).items() if f"{prefix}{key}" not in typed}
    return replace(options, **others)


def _existing(voice: Path, name: str) -> Path:
    """Return the file of a preset. Raises ConfigurationError if the voice has no preset of this name."""
    names = list_presets(voice)
    if not names:
        raise ConfigurationError(f"preset={name}: the voice has no presets in '{presets_folder(voice)}'")
    if name not in names:
        raise unknown_choice("preset", name, names)
    return _path(voice, name)


def _path(voice: Path, name: str) -> Path:
    return presets_folder(voice) / f"{name}.yaml"
