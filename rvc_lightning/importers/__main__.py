"""`python -m rvc_lightning.importers folder=FOLDER`: goes on with what another RVC tool has begun."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from rvc_lightning.cli import resolvers
from rvc_lightning.cli.command import command
from rvc_lightning.config.values import required

if TYPE_CHECKING:
    from rvc_lightning.data.manifest import DatasetHeader

log = logging.getLogger("rvc_lightning.importers")

resolvers.register()


@command("importers")
def main(config: DictConfig) -> None:
    """Takes over slices, features and the latest pair of networks, and says how to go on."""
    experiment = Path(required(config, "folder", "the tool's folder of the voice, logs/NAME")).expanduser()
    from rvc_lightning.importers.experiment import import_dataset, read_config
    from rvc_lightning.importers.pair import (
        discriminator_of,
        newest_pair,
        save_as_checkpoint,
        settings_of,
        sizes_of,
        synthesizer_of,
    )
    from rvc_lightning.training.networks import voice_metadata

    blocks, pair = read_config(experiment), newest_pair(experiment)
    dataset = Path(config.paths.dataset)
    taken = import_dataset(experiment, dataset)
    for file in taken.skipped:
        log.warning("left out: %s: %s", file.path, file.reason)
    log.info("dataset:    %s (%d slices, %.1f minutes)", dataset, len(taken.rows), taken.minutes)
    go_on = f"go on with: python -m rvc_lightning.train name={config.name} {_content(taken.header)}"
    if pair is None:
        log.info("checkpoint: none, there is no G_*.pth in '%s'", experiment)
        log.info("%s %s pretrained=official", go_on, " ".join(settings_of(sizes_of(blocks, taken.header))))
        return
    synthesizer, (discriminator, sizes) = synthesizer_of(pair), discriminator_of(pair)
    checkpoint = dataset / "taken_over.ckpt"
    save_as_checkpoint(pair, synthesizer, sizes, blocks, voice_metadata(config, taken.header, dataset), checkpoint)
    log.info("checkpoint: %s (epoch %d)", checkpoint, pair.epoch)
    settings = " ".join([*settings_of(synthesizer), f"discriminator={discriminator}"])
    log.info("%s %s checkpoint=%s", go_on, settings, checkpoint)


def _content(header: DatasetHeader) -> str:
    """The settings that name the dataset's content encoder."""
    return f"content={header.content['name']} content.version={header.content['options']['version']}"


if __name__ == "__main__":
    main()
