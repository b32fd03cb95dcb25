"""`python -m rvc_lightning.export checkpoint=FILE`: a voice from a checkpoint of training."""

from __future__ import annotations

import logging
from pathlib import Path

from omegaconf import DictConfig

from rvc_lightning import resolvers
from rvc_lightning.command_line import configured
from rvc_lightning.commands import command, optional, required, switch
from rvc_lightning.errors import VoiceError
from rvc_lightning.typed import is_name

log = logging.getLogger(__name__)

resolvers.register()


@configured("export")
@command
def main(config: DictConfig) -> None:
    """Exports the checkpoint and says where the voice lies."""
    from rvc_lightning.building import plain, settings
    from rvc_lightning.retrieval import IndexConfig
    from rvc_lightning.voice.export import export_checkpoint, export_index, export_pair, facts_of

    checkpoint = Path(required(config, "checkpoint", "a .ckpt file of a training run"))
    if pair_folder := optional(config, "pair", "the folder for G.pth and D.pth"):
        pair = export_pair(checkpoint, Path(pair_folder))
        log.info("pretrained=files pretrained.generator=%s pretrained.discriminator=%s", *pair)
        return
    index = settings(IndexConfig, "index", plain(config.index))
    facts = facts_of(checkpoint)
    name = optional(config, "name", "the name of the voice") or facts["name"]
    if not is_name(name):
        raise VoiceError(f"'{checkpoint}' calls its voice '{name}', which would lead out of its folder: add name=NAME")
    folder = Path(optional(config, "output", "the folder of the voice") or f"voices/{name}")
    dataset = Path(optional(config, "dataset", "the folder of a prepared dataset") or facts["dataset"])
    if switch(config, "index_only"):
        log.info("index: %s", export_index(checkpoint, folder, name, dataset, config.seed, index))
        return
    exported = export_checkpoint(checkpoint, folder, name, dataset, config.seed, index)
    log.info("voice: %s\nindex: %s", exported.voice, exported.index or "none")


if __name__ == "__main__":
    main()
