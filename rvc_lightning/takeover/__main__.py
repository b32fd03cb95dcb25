"""`python -m rvc_lightning.takeover folder=FOLDER`: goes on with what another RVC tool has begun."""

from __future__ import annotations

import logging
from pathlib import Path

from omegaconf import DictConfig

from rvc_lightning import resolvers
from rvc_lightning.command_line import configured
from rvc_lightning.commands import command, required

log = logging.getLogger("rvc_lightning.takeover")

resolvers.register()


@configured("takeover")
@command
def main(config: DictConfig) -> None:
    """Takes over slices, features and the latest pair of networks, and says how to go on."""
    experiment = Path(required(config, "folder", "the tool's folder of the voice, logs/NAME")).expanduser()
    from rvc_lightning.building import voice_facts
    from rvc_lightning.takeover.experiment import read_config, take_over_dataset
    from rvc_lightning.takeover.pair import (
        discriminator_of,
        newest_pair,
        save_as_checkpoint,
        settings_of,
        synthesizer_of,
    )

    blocks, pair = read_config(experiment), newest_pair(experiment)
    dataset = Path(config.paths.dataset)
    taken = take_over_dataset(experiment, dataset)
    for file in taken.skipped:
        log.warning("left out: %s: %s", file.path, file.reason)
    log.info("dataset:    %s (%d slices, %.1f minutes)", dataset, len(taken.rows), taken.minutes)
    if pair is None:
        log.info("checkpoint: none, there is no G_*.pth in '%s'", experiment)
        log.info("go on with: python -m rvc_lightning.train name=%s sample_rate=... pretrained=official", config.name)
        return
    synthesizer, (discriminator, sizes) = synthesizer_of(pair), discriminator_of(pair)
    checkpoint = dataset / "taken_over.ckpt"
    save_as_checkpoint(pair, synthesizer, sizes, blocks, voice_facts(config, taken.header, dataset), checkpoint)
    log.info("checkpoint: %s (epoch %d)", checkpoint, pair.epoch)
    overrides = " ".join([f"name={config.name}", *settings_of(synthesizer), f"discriminator={discriminator}"])
    log.info("go on with: python -m rvc_lightning.train %s checkpoint=%s", overrides, checkpoint)


if __name__ == "__main__":
    main()
