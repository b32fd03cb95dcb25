"""`python -m rvc_lightning.export checkpoint=FILE`: a voice from a checkpoint of training."""

from __future__ import annotations

import logging
from pathlib import Path

import hydra
from omegaconf import DictConfig

from rvc_lightning import resolvers
from rvc_lightning.commands import command, required

log = logging.getLogger(__name__)

resolvers.register()


@hydra.main(version_base="1.3", config_path="pkg://rvc_lightning.conf", config_name="export")
@command
def main(config: DictConfig) -> None:
    """Exports the checkpoint and says where the voice lies."""
    from rvc_lightning.building import plain, settings
    from rvc_lightning.retrieval import IndexConfig
    from rvc_lightning.voice.export import export_checkpoint, export_index, export_pair, facts_of

    checkpoint = Path(required(config, "checkpoint", "a .ckpt file of a training run"))
    if config.pair is not None:
        pair = export_pair(checkpoint, Path(config.pair))
        log.info("pretrained=files pretrained.generator=%s pretrained.discriminator=%s", *pair)
        return
    index = settings(IndexConfig, "index", plain(config.index))
    facts = facts_of(checkpoint)
    name = config.name or facts["name"]
    folder, dataset = Path(config.output or f"voices/{name}"), Path(config.dataset or facts["dataset"])
    if config.index_only:
        log.info("index: %s", export_index(checkpoint, folder, name, dataset, config.seed, index))
        return
    exported = export_checkpoint(checkpoint, folder, name, dataset, config.seed, index)
    log.info("voice: %s\nindex: %s", exported.voice, exported.index or "none")


if __name__ == "__main__":
    main()
