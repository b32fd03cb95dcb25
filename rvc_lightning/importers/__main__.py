"""`python -m rvc_lightning.importers folder=FOLDER`: import an experiment folder of another RVC tool."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from rvc_lightning.cli import resolvers
from rvc_lightning.cli.command import command
from rvc_lightning.cli.overrides import format_command, format_override
from rvc_lightning.config.options import Settings, option

if TYPE_CHECKING:
    from rvc_lightning.data.manifest import DatasetHeader

log = logging.getLogger("rvc_lightning.importers")

resolvers.register()


@dataclass(frozen=True, kw_only=True)
class ImportSettings(Settings):
    """Settings of `conf/importers.yaml` outside of its groups."""

    folder: str = option(help="the tool's folder of the voice, logs/NAME")


@command("importers")
def main(config: DictConfig) -> None:
    """Import slices and features, and print the command that trains from the latest pair of networks."""
    experiment = Path(ImportSettings.from_config(config).folder).expanduser()
    from rvc_lightning.importers.experiment import import_dataset, read_config
    from rvc_lightning.importers.overrides import synthesizer_overrides
    from rvc_lightning.importers.pair import configured_sizes, learning_rate_after, newest_pair

    blocks, pair = read_config(experiment), newest_pair(experiment)
    dataset = Path(config.paths.dataset)
    imported = import_dataset(experiment, dataset)
    for file in imported.skipped:
        log.warning("skipped: %s: %s", file.path, file.reason)
    log.info("dataset: %s (%d slices, %.1f minutes)", dataset, len(imported.rows), imported.minutes)
    settings = [
        format_override("name", config.name),
        format_override("paths.dataset", dataset),
        *_content(imported.header),
    ]
    if pair is None:
        log.info("networks: none, there is no G_*.pth in '%s'", experiment)
        settings += [*synthesizer_overrides(configured_sizes(blocks, imported.header)), "pretrained=official"]
    else:
        log.info("networks: %s and %s (epoch %d)", pair.generator, pair.discriminator.name, pair.epoch)
        settings += [
            *synthesizer_overrides(pair.synthesizer),
            f"discriminator={pair.discriminator_choice}",
            "pretrained=files",
            format_override("pretrained.generator", pair.generator),
            format_override("pretrained.discriminator", pair.discriminator),
            f"optimizer.lr={learning_rate_after(pair.epoch, blocks):.6g}",
        ]
    log.info("continue with: %s", format_command("train", *settings))


def _content(header: DatasetHeader) -> list[str]:
    return [f"content={header.content['name']}", f"content.version={header.content['options']['version']}"]


if __name__ == "__main__":
    main()
