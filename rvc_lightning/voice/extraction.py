"""Voices from training checkpoints `G_….pth` of other tools (SPECIFICATION.md, sections 1.5 and 2.1)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from rvc_lightning.errors import VoiceError
from rvc_lightning.io.files import read_json
from rvc_lightning.voice import rvc_format
from rvc_lightning.voice.voice import Voice, fitting_kind, to_half

_LATEST = 2333333
"""Takes the place of the step in the name if only the latest checkpoint is kept."""


def extract_voice(path: Path, content: Mapping[str, Any], config: Path | None = None) -> Voice:
    """Build the voice of a checkpoint, whose kind follows from its tensors.

    Args:
        path: Path of the checkpoint, for messages and for the files beside it.
        content: Content of the checkpoint.
        config: The `config.json` of its experiment; by default the one beside it.

    Raises:
        VoiceError: There is no configuration, or the tensors fit no generator of its sizes.
    """
    config = config or path.with_name("config.json")
    if not config.is_file():
        raise VoiceError(
            f"'{path}' is a training checkpoint and does not contain its sizes, and there is no '{config}'; name the "
            "config.json of its experiment by --config FILE"
        )
    weights = _generator_weights(path, content.get("model"))
    try:
        values = rvc_format.config_of_experiment(_read_json(config))
    except VoiceError as error:
        raise VoiceError(f"'{config}': {error}") from error
    kind = fitting_kind(values, weights)
    if kind is None:
        raise VoiceError(f"the tensors of '{path}' fit no generator of the sizes in '{config}'; is it the right one?")
    entries = {
        "config": values,
        "sr": rvc_format.parse_rate(values[-1]),
        "f0": kind.pitch_guided,
        "version": kind.version,
        "vocoder": kind.vocoder,
        **_training_entries(path, content),
    }
    return Voice.from_file_content({"weight": to_half(weights, "take an earlier checkpoint"), **entries})


def _generator_weights(path: Path, model: object) -> dict[str, Tensor]:
    if not isinstance(model, Mapping) or not all(isinstance(tensor, Tensor) for tensor in model.values()):
        raise VoiceError(f"the entry 'model' of '{path}' is not a table of tensors")
    if rvc_format.STORED_SPEAKER_TABLE not in model:
        raise VoiceError(f"'{path}' has no speaker table, so it is not a generator; take G_….pth, not D_….pth")
    return rvc_format.without_posterior({str(name): tensor for name, tensor in model.items()})


def _training_entries(path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries known from the checkpoint, its name and `model_info.json` beside it."""
    entries: dict[str, Any] = {}
    if isinstance(content.get("iteration"), int):
        entries |= {"epoch": content["iteration"], "info": f"{content['iteration']}epoch"}
    step = re.fullmatch(r"G_(\d{1,9})", path.stem)
    if step and int(step[1]) != _LATEST:
        entries["step"] = int(step[1])
    about = path.with_name("model_info.json")
    info = _read_json(about) if about.is_file() else {}
    names = {"embedder_model": "embedder_model", "total_dataset_duration": "dataset_length"}
    return entries | {entry: info[key] for key, entry in names.items() if key in info}


def _read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises VoiceError."""
    try:
        return read_json(path)
    except (OSError, ValueError) as error:
        raise VoiceError(f"'{path}' cannot be read as JSON: {error}") from error
