"""Training of a network that ships, from its configuration to its file."""

from __future__ import annotations

from pathlib import Path

import torch
from lightning import LightningDataModule, LightningModule, Trainer
from omegaconf import DictConfig

from rvc_lightning.io.files import atomic_path
from rvc_lightning.io.pickles import read_pickle
from rvc_lightning.models.network_file import to_file
from rvc_lightning.training.callbacks.last_checkpoint import stopped_by_signals
from rvc_lightning.training.trainer import build_trainer


def fit(config: DictConfig, module: LightningModule, data: LightningDataModule) -> Trainer:
    """Train, or resume `config.checkpoint`, and write the submodule `network` to `config.output`.

    Raises:
        ConfigurationError: A setting of the trainer is out of range.
        VoiceError: The checkpoint to resume cannot be read.
    """
    if config.checkpoint is not None:
        # Checked before the corpus is read.
        read_pickle(Path(config.checkpoint), "checkpoint")
    trainer = build_trainer(config)
    with stopped_by_signals(f"the same command and checkpoint={config.paths.run}/checkpoints/last.ckpt"):
        trainer.fit(module, data, ckpt_path=config.checkpoint, weights_only=True)
    if trainer.is_global_zero:
        with atomic_path(Path(config.output)) as path, path.open("wb") as stream:
            torch.save(to_file(module.get_submodule("network")), stream)
    return trainer
