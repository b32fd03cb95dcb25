"""Voices from training checkpoints `G_….pth` of other tools (SPECIFICATION.md, sections 1.5 and 2.1)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rvc_lightning.errors import VoiceError
from rvc_lightning.io.files import read_json
from rvc_lightning.voice import rvc_format
from rvc_lightning.voice.entries import MALFORMED, explain
from rvc_lightning.voice.voice import Voice, fitting_kind, to_half

_LATEST = 2333333
"""Number in the name in place of the step, if the tool keeps only the latest checkpoint."""


def extract_voice(path: Path, content: Mapping[str, Any], config: Path | None = None) -> Voice:
    """Build the voice of a checkpoint, whose kind follows from its tensors.

    Args:
        path: Path of the checkpoint, for messages and for the files beside it.
        content: Content of the checkpoint.
        config: The `config.json` of its experiment; by default the one beside it.

    Raises:
        VoiceError: The configuration is missing or malformed, or the tensors fit no generator of its sizes.
    """
    config = config or path.with_name("config.json")
    try:
        values = rvc_format.config_of_experiment(read_json(config))
        training = _training_entries(path, content)
    except (OSError, *MALFORMED) as error:
        raise VoiceError(
            f"'{path}' is a training checkpoint, whose sizes are in the config.json of its experiment, but '{config}' "
            f"cannot be used: {explain(error)}; name another by --config FILE"
        ) from error
    model = content["model"]
    kind = fitting_kind(values, model)
    if kind is None:
        raise VoiceError(
            f"the tensors of '{path}' fit no generator of the sizes in '{config}'; choose a G_….pth, not a D_….pth, "
            "and the config.json of its experiment"
        )
    entries = {
        "config": values,
        "sr": values[-1],
        "f0": kind.pitch_guided,
        "version": kind.version,
        "vocoder": kind.vocoder,
        **training,
    }
    return Voice.from_file_content({"weight": to_half(rvc_format.without_posterior(model)), **entries})


def _training_entries(path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries known from the checkpoint, its name and `model_info.json` beside it."""
    entries: dict[str, Any] = {}
    if isinstance(content.get("iteration"), int):
        entries |= {"epoch": content["iteration"], "info": f"{content['iteration']}epoch"}
    step = re.fullmatch(r"G_(\d{1,9})", path.stem)
    if step and int(step[1]) != _LATEST:
        entries["step"] = int(step[1])
    info_path = path.with_name("model_info.json")
    info = read_json(info_path) if info_path.is_file() else {}
    names = {"embedder_model": "embedder_model", "total_dataset_duration": "dataset_length"}
    return entries | {entry: info[key] for key, entry in names.items() if key in info}
