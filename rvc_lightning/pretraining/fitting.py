"""Training of a network that ships, from its configuration to its file."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import torch
from lightning import LightningDataModule, LightningModule, Trainer
from omegaconf import DictConfig

from rvc_lightning.errors import ConfigurationError
from rvc_lightning.io.files import atomic_path
from rvc_lightning.io.pickles import read_pickle
from rvc_lightning.io.ranks import errors_of_ranks
from rvc_lightning.models.network_file import to_file
from rvc_lightning.training.callbacks.last_checkpoint import stopped_by_signals
from rvc_lightning.training.trainer import build_trainer

log = logging.getLogger(__name__)


def fit(config: DictConfig, module: LightningModule, data: LightningDataModule, metric: str, meaning: str) -> float:
    """Train, or resume `config.checkpoint`, write the submodule `network` to `config.output`, and return a metric.

    Args:
        config: Configuration of the command.
        module: Module with the network.
        data: Its examples.
        metric: Name of the metric, a share.
        meaning: What the metric is a share of, for the log.

    Returns:
        The metric at the end; NaN if the run ended before the metric was computed, as with a checkpoint of a complete
        run.

    Raises:
        ConfigurationError: A setting of the trainer is out of range, or an epoch has no batch.
        VoiceError: The checkpoint to resume cannot be read.
    """
    if config.checkpoint is not None:
        # Checked before the corpus is read.
        read_pickle(Path(config.checkpoint), "checkpoint")
    trainer = build_trainer(config)
    _check_examples(config.data.examples, config.data.batch_size, trainer.world_size)
    resume = f"the same command and checkpoint={config.paths.run}/checkpoints/last.ckpt"
    with stopped_by_signals(resume), errors_of_ranks():
        trainer.fit(module, data, ckpt_path=config.checkpoint, weights_only=True)
    if trainer.is_global_zero:
        with atomic_path(Path(config.output)) as path, path.open("wb") as stream:
            torch.save(to_file(module.get_submodule("network")), stream)
        log.info("%s: %s", config.output, _summary(trainer, metric, meaning))
    return float(trainer.callback_metrics.get(metric, math.nan))


def _check_examples(examples: int, batch_size: int, devices: int) -> None:
    """Raise ConfigurationError if a device would have no batch."""
    if examples < batch_size * devices:
        raise ConfigurationError(
            f"data.examples={examples}: choose at least {batch_size * devices}, a batch (data.batch_size={batch_size}) "
            "for each device"
        )


def _summary(trainer: Trainer, metric: str, meaning: str) -> str:
    if metric not in trainer.callback_metrics:
        return f"the run ended before {metric} was computed"
    return f"{100 * trainer.callback_metrics[metric]:.1f} % {meaning}"
