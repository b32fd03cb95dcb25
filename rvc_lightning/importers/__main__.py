"""`python -m rvc_lightning.importers folder=FOLDER`: import an experiment folder of another RVC tool."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from rvc_lightning.cli import resolvers
from rvc_lightning.cli.command import command
from rvc_lightning.cli.overrides import format_command, format_override
from rvc_lightning.config.options import Settings, option
from rvc_lightning.io.names import home_path

log = logging.getLogger("rvc_lightning.importers")

resolvers.register()


@dataclass(frozen=True, kw_only=True)
class ImportSettings(Settings):
    """Settings of `conf/importers.yaml` outside of its groups."""

    folder: str = option(help="the tool's folder of the voice, logs/NAME")


@command("importers")
def main(config: DictConfig) -> None:
    """Import slices and features, and print the command that trains from the latest pair of networks."""
    experiment = home_path(ImportSettings.from_config(config).folder)
    from rvc_lightning.importers.experiment import import_experiment
    from rvc_lightning.importers.overrides import synthesizer_overrides

    folder = Path(config.paths.dataset)
    dataset, pair, sizes, learning_rate = import_experiment(experiment, folder)
    for file in dataset.skipped:
        log.warning("skipped: %s: %s", file.path, file.reason)
    log.info("dataset: %s (%d slices, %.1f minutes)", folder, len(dataset.rows), dataset.minutes)
    content = dataset.header.content
    settings = [
        format_override("name", config.name),
        format_override("paths.dataset", folder),
        f"content={content['name']}",
        f"content.version={content['options']['version']}",
        *synthesizer_overrides(sizes),
    ]
    if pair is None:
        log.info("networks: none (no G_*.pth found in '%s')", experiment)
        settings.append("pretrained=official")
    else:
        log.info("networks: %s and %s (epoch %d)", pair.generator, pair.discriminator.name, pair.epoch)
        settings += [
            f"discriminator={pair.discriminator_choice}",
            "pretrained=files",
            format_override("pretrained.generator", pair.generator),
            format_override("pretrained.discriminator", pair.discriminator),
            f"optimizer.lr={learning_rate:.6g}",
        ]
    log.info("continue with: %s", format_command("train", *settings))


if __name__ == "__main__":
    main()
