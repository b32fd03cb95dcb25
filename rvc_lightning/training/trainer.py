"""Build Lightning's trainer for training, preparation and conversion."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback, Checkpoint
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy, StrategyRegistry
from omegaconf import DictConfig, ListConfig

from rvc_lightning.cli.resume import is_sweep
from rvc_lightning.config.options import Settings, option
from rvc_lightning.config.values import instantiate, plain
from rvc_lightning.errors import ConfigurationError, unknown_choice
from rvc_lightning.training.callbacks.ema import NOT_SHARDED, AveragedWeights
from rvc_lightning.training.callbacks.rank_watch import RankWatch
from rvc_lightning.training.callbacks.step_limit import StepLimit
from rvc_lightning.training.lightning_adapter import externally_started_ranks, start_method, starts_ranks_by_command
from rvc_lightning.training.strategies import FSDPStrategy

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "64-true")
"""Precisions that keep the digits of recordings, spectra, losses and weights; others round them."""

_BARE: Mapping[str, Any] = {
    "callbacks": None,
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "max_time": None,
}
"""Arguments of a trainer that predicts: it logs and saves nothing."""


@dataclass(frozen=True, kw_only=True)
class TrainerSettings(Settings, group="trainer"):
    """Arguments of the trainer that Lightning accepts and fails at hours later."""

    precision: str = option(choices=PRECISIONS)
    num_nodes: int = option(1, min=1)
    max_epochs: int | None = option(None, min=-1)
    min_epochs: int | None = option(None, min=0)
    max_steps: int = option(-1, min=-1)
    min_steps: int | None = option(None, min=0)
    log_every_n_steps: int | None = option(None, min=0)
    check_val_every_n_epoch: int | None = option(1, min=1)
    num_sanity_val_steps: int | None = option(None, min=-1)


@dataclass(frozen=True, kw_only=True)
class PreparationSettings(Settings, group="preparation"):
    """Precision and devices of the networks that find pitch and content."""

    precision: str = option(choices=PRECISIONS)
    all_devices: bool


def set_up_torch(config: DictConfig) -> None:
    """Set the precision of float32 products and switches of `torch.backends`, as `config.platform` describes.

    Raises:
        ConfigurationError: There is no such precision or switch.
    """
    precision, choices = config.platform.float32_matmul_precision, ("highest", "high", "medium")
    if precision not in choices:
        raise unknown_choice("platform.float32_matmul_precision", precision, choices)
    torch.set_float32_matmul_precision(precision)
    for backend, switches in plain(config.platform.backends).items():
        for name, value in switches.items():
            if not hasattr(getattr(torch.backends, backend, None), name):
                raise ConfigurationError(f"platform.backends.{backend}.{name}: torch.backends has no such switch")
            setattr(getattr(torch.backends, backend), name, value)


def build_trainer(config: DictConfig, first_step: int = 0) -> Trainer:
    """Build the trainer of a run, with its callbacks and logger.

    Args:
        config: Configuration of the run.
        first_step: First step of the run. The log is cut there: a killed run logged steps after its last checkpoint,
            which the resumed run repeats.

    Raises:
        ConfigurationError: Lightning rejects a setting, or settings contradict each other.
    """
    TrainerSettings.from_config(config.trainer)
    callbacks = build_callbacks(config)
    checkpointing = any(isinstance(callback, Checkpoint) for callback in callbacks)
    if (max_steps := config.trainer.get("max_steps", -1)) >= 0:
        # Lightning counts the steps of both optimizers.
        callbacks.append(StepLimit(max_steps))
    purge = {"purge_step": first_step} if first_step and "purge_step" in (config.logger or {}) else {}
    logger = instantiate(config.logger, "logger", **purge) if config.logger else False
    trainer = _trainer(
        config, callbacks=[*callbacks, RankWatch()], logger=logger, enable_checkpointing=checkpointing, max_steps=-1
    )
    _check_ranks(config, trainer)
    _check_sharding(config, trainer)
    return trainer


def build_callbacks(config: DictConfig) -> list[Callback]:
    """Build the callbacks of the run. Raises ConfigurationError if one rejects its settings."""
    return [instantiate(node, f"callbacks.{name}") for name, node in (config.callbacks or {}).items() if node]


def build_preparing_trainer(config: DictConfig, trainer: Trainer | None = None) -> Trainer:
    """Build the trainer that finds pitch and content of slices.

    With several devices it runs on as many ranks as the run's trainer, started in the same way: the networks are
    copied, each rank does its share, and training continues on these ranks.

    Args:
        config: Configuration of the run.
        trainer: Trainer of the run, which is reused on one device in the same precision.

    Raises:
        ConfigurationError: Lightning has no such devices, or devices and strategy contradict each other.
    """
    settings = PreparationSettings.from_config(config.preparation)
    precision = settings.precision
    if trainer is not None and trainer.world_size == 1 and trainer.precision == precision:
        return trainer
    run = trainer or _trainer(config, **_BARE, precision=precision)
    _check_ranks(config, run)
    if not settings.all_devices or run.world_size == 1:
        devices = config.trainer.devices
        first = list(devices)[:1] if isinstance(devices, ListConfig) else 1
        return _trainer(config, **_BARE, precision=precision, devices=first, num_nodes=1, strategy="auto")
    # Ranks without work wait for the others for a day at most.
    strategy = DDPStrategy(start_method=start_method(run), timeout=timedelta(days=1))  # type: ignore[arg-type]
    return _trainer(config, **_BARE | {"callbacks": [RankWatch()]}, precision=precision, strategy=strategy)  # type: ignore[operator]


def build_converting_trainer(config: DictConfig) -> Trainer:
    """Build the trainer that converts, on one device or on several.

    Raises:
        ConfigurationError: Lightning has no such devices, or the strategy shards the networks.
    """
    name = str(config.trainer.strategy)
    if not name.startswith(("auto", "ddp")):
        raise ConfigurationError(
            f"strategy={name} shards networks for training; convert with strategy=ddp or ddp_spawn"
        )
    trainer = _trainer(config, **_BARE)
    _check_ranks(config, trainer)
    if trainer.world_size == 1:
        return trainer
    entry = StrategyRegistry[name]
    # A rank may wait for another that converts a recording of hours.
    strategy = entry["strategy"](**entry["init_params"], timeout=timedelta(days=30))
    return _trainer(config, **_BARE | {"callbacks": [RankWatch()]}, strategy=strategy)  # type: ignore[operator]


def _trainer(config: DictConfig, **changes: Any) -> Trainer:
    """Build the configured trainer with `changes`. Raises ConfigurationError."""
    # Lightning sets these levels when it is imported. Its messages concern developers.
    for library in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(library).setLevel(logging.WARNING)
    settings = plain(config.trainer)
    TrainerSettings.from_config(settings)
    values = {key: value for key, value in settings.items() if key not in changes}
    trainer = instantiate(values, "trainer", **changes)
    if trainer.world_size == 1 and not _is_single_device(trainer):
        # One rank needs neither a strategy nor a process group.
        values.pop("strategy", None)
        return instantiate(values, "trainer", **changes | {"strategy": "auto"})
    return trainer


def _is_single_device(trainer: Trainer) -> bool:
    return isinstance(trainer.strategy, SingleDeviceStrategy)


def _check_ranks(config: DictConfig, trainer: Trainer) -> None:
    """Check that several ranks have a strategy and a launcher that starts them. Raises ConfigurationError."""
    if (started := externally_started_ranks()) is not None and started.count != trainer.world_size:
        raise ConfigurationError(
            f"{started.launcher} has started {started.count} processes, but trainer.devices x trainer.num_nodes is "
            f"{trainer.world_size}: make both the same, with trainer.devices those of one machine"
        )
    if trainer.world_size == 1:
        return
    if config.trainer.strategy == "auto":
        raise ConfigurationError(
            f"trainer.devices={config.trainer.devices} on {config.trainer.num_nodes} machines requires a strategy: add "
            "strategy=ddp, ddp_spawn or fsdp"
        )
    if is_sweep() and starts_ranks_by_command(trainer):
        raise ConfigurationError(
            "a sweep cannot start several ranks per run by the command line, which its runs share. Use "
            "strategy=ddp_spawn, hydra/launcher=submitit_slurm, which starts the ranks itself, or trainer.devices=1"
        )


def _check_sharding(config: DictConfig, trainer: Trainer) -> None:
    """Check what sharded networks do not support. Raises ConfigurationError."""
    if not isinstance(trainer.strategy, FSDPStrategy):
        return
    if config.data.max_batch_frames is not None:
        raise ConfigurationError(
            "data.max_batch_frames may split the steps of two ranks into different numbers of batches, for which "
            "sharded networks would wait forever: use strategy=ddp, or a smaller data.batch_size"
        )
    if any(isinstance(callback, AveragedWeights) for callback in trainer.callbacks):  # type: ignore[attr-defined]
        raise ConfigurationError(NOT_SHARDED)
