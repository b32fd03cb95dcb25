"""Requests of the HTTP API as overrides of commands."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from rvc_lightning.app.api_models import NOT_IN_FORM, ConvertForm, PrepareRequest, TrainRequest
from rvc_lightning.app.folders import Folders, child
from rvc_lightning.cli.overrides import format_override
from rvc_lightning.config.options import option_fields
from rvc_lightning.conversion.options import ConversionOptions
from rvc_lightning.errors import ConfigurationError

_SPECIAL = ("audio", "experiment")


def prepare_overrides(request: PrepareRequest, folders: Folders) -> list[str]:
    """Return the overrides of `prepare`. Raises ConfigurationError if the recordings do not exist."""
    return [_audio(folders, request.audio), *_settings(request), *folders.overrides()]


def train_overrides(request: TrainRequest, folders: Folders) -> list[str]:
    """Return the overrides of `train`. Raises ConfigurationError if recordings or dataset do not exist."""
    overrides = [] if request.experiment is None else [f"+experiment={request.experiment}"]
    if request.audio is not None:
        overrides.append(_audio(folders, request.audio))
    elif request.name is not None:
        child(folders.datasets, request.name)
        # Experiments may set recordings of their own.
        overrides.append("audio=null")
    elif request.experiment != "quickstart":
        raise ConfigurationError("audio: name the recordings, or a prepared dataset by name")
    return [*overrides, *_settings(request), *folders.overrides()]


def convert_overrides(form: ConvertForm, voice: Path, recording: Path, target: Path) -> list[str]:
    """Return the overrides of `convert` for an uploaded recording."""
    files = {"voice": voice.absolute(), "input": recording, "output": target}
    changed = {name: value for name, value in option_values(form).items() if value != getattr(ConversionOptions, name)}
    return [format_override(name, value) for name, value in (files | changed).items()]


def conversion_options(form: ConvertForm, f0_file: Path | None) -> ConversionOptions:
    """Return the options of a form. Raises ConfigurationError if one is invalid, or two contradict each other."""
    return ConversionOptions.from_values(option_values(form) | {"f0_file": None if f0_file is None else str(f0_file)})


def option_values(form: ConvertForm) -> dict[str, Any]:
    """Return the options of a form by name. Raises ConfigurationError if an effect is malformed."""
    names = [field.name for field in option_fields(ConversionOptions) if field.name not in NOT_IN_FORM]
    return {name: getattr(form, name) for name in names} | {"effects": tuple(map(_effect, form.effects))}


def _effect(text: str) -> str | Mapping[str, Any]:
    if not text.startswith("{"):
        return text
    try:
        return dict(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"effects={text!r}: not a name, and not JSON ({error})") from error


def _audio(folders: Folders, name: str) -> str:
    return format_override("audio", child(folders.recordings, name).absolute())


def _settings(request: BaseModel) -> list[str]:
    """Return the overrides of the fields that are set; the alias of a field is the name of its setting."""
    return [
        format_override(field.alias or name, value)
        for name, field in type(request).model_fields.items()
        if name not in _SPECIAL and (value := getattr(request, name)) is not None
    ]
