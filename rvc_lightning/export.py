"""`python -m rvc_lightning.export checkpoint=RUN_FOLDER`: a voice from a checkpoint of training."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from rvc_lightning.cli import resolvers
from rvc_lightning.cli.command import command
from rvc_lightning.cli.resolvers import is_file_name
from rvc_lightning.config.values import optional, required, switch
from rvc_lightning.errors import VoiceError

if TYPE_CHECKING:
    from rvc_lightning.training.export import Pair

log = logging.getLogger(__name__)

resolvers.register()


@command("export")
def main(config: DictConfig) -> None:
    """Exports the checkpoint and says where the voice lies."""
    from rvc_lightning.retrieval.index import IndexConfig
    from rvc_lightning.training.checkpoints import best_checkpoint
    from rvc_lightning.training.export import export_checkpoint, export_index, export_pair, facts_of, remembered

    checkpoint = best_checkpoint(Path(required(config, "checkpoint", "a run folder, or a .ckpt file of it")))
    if pair_folder := optional(config, "pair", "the folder for G.pth and D.pth"):
        pair = export_pair(checkpoint, Path(pair_folder))
        log.info("A training that starts from it:\n%s", command_from(pair, remembered(checkpoint)))
        return
    index = IndexConfig.from_values(config.index)
    facts = facts_of(checkpoint)
    name = optional(config, "name", "the name of the voice") or facts["name"]
    if not is_file_name(name):
        raise VoiceError(f"'{checkpoint}' calls its voice '{name}', which would lead out of its folder: add name=NAME")
    folder = Path(optional(config, "output", "the folder of the voice") or f"voices/{name}")
    dataset = Path(optional(config, "dataset", "the folder of a prepared dataset") or facts["dataset"])
    if switch(config, "index_only"):
        log.info("index: %s", export_index(checkpoint, folder, name, dataset, config.seed, index))
        return
    exported = export_checkpoint(checkpoint, folder, name, dataset, config.seed, index)
    log.info("voice: %s\nindex: %s", exported.voice, exported.index or "none")


def command_from(pair: Pair, saved: Mapping[str, Any]) -> str:
    """What is typed to train another voice from a pair, with networks of its sizes and its content encoder.

    Args:
        pair: Where the two files lie.
        saved: What the checkpoint that they are of remembers, see `voice.export.remembered`.
    """
    from rvc_lightning.importers.overrides import config_choices, synthesizer_overrides
    from rvc_lightning.models import SynthesizerConfig

    content = saved["voice"]["content"]
    usual = dict(config_choices("content")).get(content["name"], {})
    options = {key: value for key, value in content.get("options", {}).items() if usual.get(key) != value}
    settings = [
        "audio=FOLDER",
        *_by_choice(
            "model", "model.synthesizer", synthesizer_overrides(SynthesizerConfig.from_values(saved["synthesizer"]))
        ),
        *_by_choice("discriminator", "model.discriminator", _written("model.discriminator", saved["discriminator"])),
        f"content={content['name']}",
        *_written("content", options),
        "pretrained=files",
        *_written("pretrained", pair._asdict()),
    ]
    return shlex.join(["python", "-m", "rvc_lightning.train", *settings])


def _by_choice(group: str, prefix: str, settings: Sequence[str]) -> list[str]:
    """Settings, those below `prefix` replaced by the choice of a group that makes just them, if there is one."""
    from rvc_lightning.importers.overrides import config_choices

    below = {text for text in settings if text.startswith(f"{prefix}.")}
    for name, values in config_choices(group):
        if below == set(_written(prefix, values.get("synthesizer", values))):
            return [text for text in settings if text not in below] + [f"{group}={name}"]
    return list(settings)


def _written(prefix: str, values: Mapping[str, Any]) -> list[str]:
    """Values as settings: without spaces, lists as Hydra reads them."""
    return [f"{prefix}.{key}={list(v) if isinstance(v, tuple) else v}".replace(", ", ",") for key, v in values.items()]


if __name__ == "__main__":
    main()
