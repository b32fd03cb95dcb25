"""The spellings in which the tools write one and the same voice, and voices out of training checkpoints.

Specification sections 1.1 to 1.5, 2.1 and 14.3.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from rvc_lightning.errors import VoiceError, unknown_choice
from rvc_lightning.io.files import protect_inputs, read_json
from rvc_lightning.io.pickles import read_pickle
from rvc_lightning.voice import rvc_format
from rvc_lightning.voice.voice import Voice, content_hash, finite_halves, fitting_kind

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Tool:
    """What a tool reads."""

    name: str
    generators: tuple[str, ...]
    """As files call them."""
    encoders: tuple[str, ...]
    """Content encoders that it can be told to use."""


_TOOLS = {
    "applio": _Tool(
        "Applio",
        ("HiFi-GAN", "MRF HiFi-GAN", "RefineGAN"),
        ("contentvec", "spin", "spin-v2", "chinese-hubert-base", "japanese-hubert-base", "korean-hubert-base"),
    ),
    "webui": _Tool("the WebUI", ("HiFi-GAN",), ("contentvec",)),
}
LAYOUTS = tuple(_TOOLS)
"""Applio's is also that of Ultimate RVC; the WebUI's that of RVC-Project and its descendants."""

_LATEST = 2333333
"""Stands for the step in names of checkpoints of which only the latest is kept."""


def convert_layout(source: Path, output: Path, layout: str, config: Path | None = None) -> Path:
    """Writes a voice, or the voice in a checkpoint `G_….pth`, as a tool would write it; gives the path back.

    Args:
        source: A voice in any spelling, or a training checkpoint of the generator.
        output: The voice to write.
        layout: One of `LAYOUTS`.
        config: Of a checkpoint, the `config.json` of its experiment; by default the one beside it.

    Raises:
        VoiceError: The source is neither, damaged, or cannot be written in this layout.
        ConfigurationError: There is no such layout, or the output is the source.
    """
    if layout not in LAYOUTS:
        raise unknown_choice("layout", layout, LAYOUTS)
    protect_inputs(output, (source,) if config is None else (source, config))
    content = read_pickle(source, "voice or checkpoint")
    if "weight" in content or "state_dict" in content:
        voice = Voice.load(source)
    elif "model" in content:
        voice = voice_of_checkpoint(source, content, config)
    else:
        raise VoiceError(f"'{source}' is neither a voice nor a checkpoint G_….pth: it has no entry 'weight' or 'model'")
    return in_layout(voice, layout, output.stem).save(output)


def in_layout(voice: Voice, layout: str, name: str) -> Voice:
    """The same voice with names, types and entries as a tool writes them.

    Entries that the tool does not know are kept. What cannot be known (dates, lengths) is left out, not invented. Of a
    content encoder that the tool lacks a warning tells.

    Args:
        voice: Any.
        layout: One of `LAYOUTS`.
        name: Of the voice, where it has none.

    Raises:
        VoiceError: The tool cannot read this generator.
    """
    _check_readable(voice, _TOOLS[layout])
    _, pitch_guided = rvc_format.vocoder_of(voice.config)
    normal = rvc_format.normal_names(voice.weights, voice.config)
    weights = finite_halves(normal, "the voice cannot be stored as other tools read it")
    old = dict(voice.information)
    own = _applio(voice, old, name) if layout == "applio" else _webui(voice, old)
    shared = {"config": rvc_format.config_to_list(voice.config), "version": rvc_format.version_of(voice.config)}
    if "content_hash" in old:
        shared["content_hash"] = content_hash(weights)
    spelt = {"f0": pitch_guided if layout == "applio" else int(pitch_guided)}
    return Voice.from_file_content({"weight": weights, **old, **shared, **spelt, **own})


def _check_readable(voice: Voice, tool: _Tool) -> None:
    """Raises VoiceError for a generator that the tool lacks, and warns of a content encoder.

    The file has the generator in it. It does not have the encoder, and descendants of a tool know some that it lacks.
    """
    vocoder, _ = rvc_format.vocoder_of(voice.config)
    if vocoder not in tool.generators:
        raise VoiceError(
            f"the generator of this voice is {vocoder}, and {tool.name} reads {', '.join(tool.generators)} alone; "
            "train one for it with generator=hifigan_nsf"
        )
    if voice.content_encoder not in tool.encoders:
        log.warning(
            "This voice takes the features of the content encoder '%s', which %s does not have: with any other it "
            "makes noise. For it, train with content=%s",
            voice.content_encoder,
            tool.name,
            tool.encoders[0],
        )


def _applio(voice: Voice, old: Mapping[str, Any], name: str) -> dict[str, Any]:
    vocoder, _ = rvc_format.vocoder_of(voice.config)
    epoch = re.fullmatch(r"(\d+)epoch", str(old.get("info", "")))
    known = {
        "model_name": name,
        "author": "",
        "speakers_id": voice.config.speaker_count,
        **({"epoch": int(epoch[1])} if epoch else {}),
    }
    kept = {key: value for key, value in known.items() if old.get(key) is None}
    return {"sr": voice.sample_rate, "vocoder": vocoder, "embedder_model": voice.content_encoder, **kept}


def _webui(voice: Voice, old: Mapping[str, Any]) -> dict[str, Any]:
    epoch = old.get("epoch")
    info = old.get("info") or ("" if epoch is None else f"{epoch}epoch")
    return {"sr": f"{voice.sample_rate / 1000:g}k", "info": str(info)}


def voice_of_checkpoint(path: Path, content: Mapping[str, Any], config: Path | None = None) -> Voice:
    """The voice in a checkpoint `G_….pth` of another tool (specification 2.1).

    The file does not say of which kind it is; the tensors do.

    Args:
        path: Where the checkpoint lies, for messages and its neighbours.
        content: What it holds.
        config: The `config.json` of its experiment; by default the one beside it.

    Raises:
        VoiceError: There is no configuration, or the tensors fit no generator of its sizes.
    """
    where = config or path.with_name("config.json")
    if not where.is_file():
        raise VoiceError(f"'{path}' is a training checkpoint, which does not say its sizes: there is no '{where}'; "
                         "name the config.json of its experiment by --config FILE")  # fmt: skip
    try:
        values = rvc_format.config_of_experiment(_read_json(where))
    except VoiceError as error:
        raise VoiceError(f"'{where}': {error}") from error
    weights = _generator_weights(path, content["model"])
    kind = fitting_kind(values, weights)
    if kind is None:
        raise VoiceError(f"the tensors of '{path}' fit no generator of the sizes in '{where}'; is that its own?")
    entries = {
        "config": values,
        "sr": rvc_format.parse_rate(values[-1]),
        "f0": kind.pitch_guided,
        "version": kind.version,
        "vocoder": kind.vocoder,
        **_training_facts(path, content),
    }
    return Voice.from_file_content({"weight": finite_halves(weights, "take an earlier checkpoint"), **entries})


def _generator_weights(path: Path, model: object) -> dict[str, Tensor]:
    if not isinstance(model, Mapping) or not all(isinstance(tensor, Tensor) for tensor in model.values()):
        raise VoiceError(f"the entry 'model' of '{path}' is no table of tensors")
    if rvc_format.STORED_SPEAKER_TABLE not in model:
        raise VoiceError(f"'{path}' has no speaker table, so it is no generator; take G_….pth, not D_….pth")
    return {
        str(name): tensor for name, tensor in model.items() if not str(name).startswith(rvc_format.POSTERIOR_PREFIX)
    }


def _training_facts(path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """What checkpoint, its name and a `model_info.json` beside it tell of the training."""
    facts: dict[str, Any] = {}
    if isinstance(content.get("iteration"), int):
        facts |= {"epoch": content["iteration"], "info": f"{content['iteration']}epoch"}
    step = re.fullmatch(r"G_(\d+)", path.stem)
    if step and int(step[1]) != _LATEST:
        facts["step"] = int(step[1])
    about = path.with_name("model_info.json")
    information = _read_json(about) if about.is_file() else {}
    named = {"embedder_model": "embedder_model", "total_dataset_duration": "dataset_length"}
    return facts | {ours: information[theirs] for theirs, ours in named.items() if theirs in information}


def _read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises VoiceError if it holds anything else."""
    try:
        return read_json(path)
    except (OSError, ValueError) as error:
        raise VoiceError(f"'{path}' cannot be read as JSON: {error}") from error
