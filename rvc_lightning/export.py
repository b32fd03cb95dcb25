"""`python -m rvc_lightning.export checkpoint=RUN_FOLDER`: export a checkpoint as a voice."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from rvc_lightning.cli import resolvers
from rvc_lightning.cli.command import command
from rvc_lightning.cli.overrides import format_command, format_override
from rvc_lightning.config.options import Settings, option
from rvc_lightning.errors import ConfigurationError, VoiceError
from rvc_lightning.io.names import is_file_name

if TYPE_CHECKING:
    from rvc_lightning.training.export import Pair

log = logging.getLogger(__name__)

resolvers.register()


@dataclass(frozen=True, kw_only=True)
class ExportSettings(Settings):
    """Settings of `conf/export.yaml` outside of its groups."""

    checkpoint: str = option(help="a run folder, or a .ckpt file of it")
    name: str | None
    output: str | None
    dataset: str | None
    index_only: bool
    pair: str | None
    seed: int = option(min=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        unused = [f"{name}=" for name in ("name", "output", "dataset", "index_only") if getattr(self, name)]
        if self.pair and unused:
            raise ConfigurationError(f"pair={self.pair} writes no voice: leave out {', '.join(unused)}")


@command("export")
def main(config: DictConfig) -> None:
    """Export the checkpoint as a voice, or its networks as a pair."""
    from rvc_lightning.retrieval.index import IndexConfig
    from rvc_lightning.training.checkpoints import CHECKPOINT_KEY, best_checkpoint, read_checkpoint
    from rvc_lightning.training.export import export_index, export_pair, export_voice, read_voice

    settings, index = ExportSettings.from_config(config), IndexConfig.from_values(config.index)
    checkpoint = best_checkpoint(Path(settings.checkpoint))
    if settings.pair:
        content = read_checkpoint(checkpoint)
        pair = export_pair(content, Path(settings.pair))
        log.info("Train another voice from it:\n%s", pair_command(pair, content[CHECKPOINT_KEY]))
        return
    voice, dataset = read_voice(checkpoint, settings.name)
    name = voice.information["model_name"]
    if not is_file_name(name):
        raise VoiceError(f"'{checkpoint}' has the voice name '{name}', which is not a file name: add name=NAME")
    folder, dataset = Path(settings.output or f"voices/{name}"), Path(settings.dataset or dataset)
    if settings.index_only:
        log.info("index: %s", export_index(voice, folder, dataset, settings.seed, index))
        return
    exported = export_voice(voice, folder, dataset, settings.seed, index)
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
