"""`python -m rvc_lightning.export checkpoint=RUN_FOLDER`: export a checkpoint as a voice."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from rvc_lightning.cli import resolvers
from rvc_lightning.cli.command import command
from rvc_lightning.cli.overrides import format_command, format_override
from rvc_lightning.cli.resolvers import is_file_name
from rvc_lightning.config.values import optional, required, switch
from rvc_lightning.errors import VoiceError

if TYPE_CHECKING:
    from rvc_lightning.training.export import Pair

log = logging.getLogger(__name__)

resolvers.register()


@command("export")
def main(config: DictConfig) -> None:
    """Export the checkpoint as a voice, or its networks as a pair."""
    from rvc_lightning.retrieval.index import IndexConfig
    from rvc_lightning.training.checkpoints import best_checkpoint
    from rvc_lightning.training.export import export_checkpoint, export_index, export_pair, read_metadata

    checkpoint = best_checkpoint(Path(required(config, "checkpoint", "a run folder, or a .ckpt file of it")))
    if pair_folder := optional(config, "pair", "the folder for G.pth and D.pth"):
        pair = export_pair(checkpoint, Path(pair_folder))
        log.info("Train another voice from it:\n%s", pair_command(pair, read_metadata(checkpoint)))
        return
    index = IndexConfig.from_values(config.index)
    facts = read_metadata(checkpoint)["voice"]
    name = optional(config, "name", "the name of the voice") or facts["name"]
    if not is_file_name(name):
        raise VoiceError(f"'{checkpoint}' has the voice name '{name}', which is not a file name: add name=NAME")
    folder = Path(optional(config, "output", "the folder of the voice") or f"voices/{name}")
    dataset = Path(optional(config, "dataset", "the folder of a prepared dataset") or facts["dataset"])
    if switch(config, "index_only"):
        log.info("index: %s", export_index(checkpoint, folder, name, dataset, config.seed, index))
        return
    exported = export_checkpoint(checkpoint, folder, name, dataset, config.seed, index)
    log.info("voice: %s\nindex: %s", exported.voice, exported.index or "none")


def pair_command(pair: Pair, metadata: Mapping[str, Any]) -> str:
    """Return the command that trains another voice from a pair, with networks and content encoder of its checkpoint.

    Args:
        pair: Paths of the pair.
        metadata: Metadata of the checkpoint that the pair was exported from.
    """
    from rvc_lightning.importers.overrides import config_choices, synthesizer_overrides
    from rvc_lightning.models import SynthesizerConfig

    content = metadata["voice"]["content"]
    defaults = dict(config_choices("content")).get(content["name"], {})
    options = {key: value for key, value in content.get("options", {}).items() if defaults.get(key) != value}
    synthesizer = synthesizer_overrides(SynthesizerConfig.from_values(metadata["synthesizer"]))
    discriminator = _overrides("model.discriminator", metadata["discriminator"])
    overrides = [
        "audio=FOLDER",
        *_with_choice("model", "model.synthesizer", synthesizer),
        *_with_choice("discriminator", "model.discriminator", discriminator),
        f"content={content['name']}",
        *_overrides("content", options),
        "pretrained=files",
        *_overrides("pretrained", pair._asdict()),
    ]
    return format_command("train", *overrides)


def _with_choice(group: str, prefix: str, overrides: Sequence[str]) -> list[str]:
    """Replace the overrides below `prefix` by the choice of a group with the same values, if there is one."""
    from rvc_lightning.importers.overrides import config_choices

    below = {text for text in overrides if text.startswith(f"{prefix}.")}
    for name, values in config_choices(group):
        if below == set(_overrides(prefix, values.get("synthesizer", values))):
            return [text for text in overrides if text not in below] + [f"{group}={name}"]
    return list(overrides)


def _overrides(prefix: str, values: Mapping[str, Any]) -> list[str]:
    return [format_override(f"{prefix}.{key}", value) for key, value in values.items()]


if __name__ == "__main__":
    main()
