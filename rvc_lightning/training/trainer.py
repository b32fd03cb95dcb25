"""Build Lightning's trainer for training, preparation and conversion."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from lightning import Callback, Fabric, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from omegaconf import DictConfig, ListConfig, OmegaConf

from rvc_lightning.cli.messages import silence_libraries
from rvc_lightning.cli.resume import is_sweep
from rvc_lightning.config.options import Settings, option
from rvc_lightning.config.values import instantiate, plain
from rvc_lightning.data.datamodule import AUTO
from rvc_lightning.errors import ConfigurationError
from rvc_lightning.training.callbacks.ema import AveragedWeights
from rvc_lightning.training.callbacks.rank_watch import RankWatch
from rvc_lightning.training.callbacks.step_limit import StepLimit
from rvc_lightning.training.lightning_adapter import (
    callbacks_of,
    externally_started_ranks,
    start_method,
    starts_ranks_by_command,
)
from rvc_lightning.training.strategies import FSDPStrategy

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "64-true")
"""Precisions that keep the digits of recordings, spectra, losses and weights; others round them."""

_DURATION = re.compile(r"\d+(:\d\d?){3}")

_BARE: dict[str, Any] = {
    "callbacks": None,
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "max_time": None,
}
"""Arguments of a trainer that predicts or measures: it logs and saves nothing."""


@dataclass(frozen=True, kw_only=True)
class TrainerSettings(Settings, group="trainer"):
    """Arguments of the trainer that Lightning checks late or never; the defaults are Lightning's."""

    precision: str = option(choices=PRECISIONS)
    num_nodes: int = option(1, min=1)
    max_epochs: int | None = option(None, min=-1)
    min_epochs: int | None = option(None, min=0)
    max_steps: int = option(-1, min=-1)
    min_steps: int | None = option(None, min=0)
    log_every_n_steps: int | None = option(None, min=0)
    check_val_every_n_epoch: int | None = option(1, min=1)
    num_sanity_val_steps: int | None = option(None, min=-1)
    max_time: Any = option(None)

    def __post_init__(self) -> None:
        super().__post_init__()
        # Lightning checks tables such as {hours:8}.
        is_table = isinstance(self.max_time, dict)
        if self.max_time is not None and not is_table and not _DURATION.fullmatch(str(self.max_time)):
            raise ConfigurationError(
                f"trainer.max_time={self.max_time}: choose days:hours:minutes:seconds, such as 00:08:00:00, or null"
            )


@dataclass(frozen=True, kw_only=True)
class PreparationSettings(Settings, group="preparation"):
    """Precision and devices of the networks that find pitch and content."""

    precision: str = option(choices=PRECISIONS)
    all_devices: bool


@dataclass(frozen=True, kw_only=True)
class PlatformSettings(Settings, group="platform"):
    """Switches of torch."""

    float32_matmul_precision: str = option(choices=("highest", "high", "medium"))
    backends: dict[str, dict[str, Any]] = option()


def set_up_torch(config: DictConfig) -> None:
    """Set the precision of float32 products and switches of `torch.backends`, as `config.platform` describes.

    Raises:
        ConfigurationError: The precision or a switch is unknown.
    """
    settings = PlatformSettings.from_values(config.platform)
    torch.set_float32_matmul_precision(settings.float32_matmul_precision)
    for name, switches in settings.backends.items():
        backend = getattr(torch.backends, name, None)
        for switch_name, value in switches.items():
            if not hasattr(backend, switch_name):
                raise ConfigurationError(f"platform.backends.{name}.{switch_name}: torch.backends has no such switch")
            setattr(backend, switch_name, value)


def build_trainer(config: DictConfig, first_step: int = 0) -> Trainer:
    """Build the trainer of a run, with its callbacks and logger.

    Args:
        config: Configuration of the run.
        first_step: First step of the run. The log is cut there: a killed run logged steps after its last checkpoint,
            which the resumed run repeats.

    Raises:
        ConfigurationError: Lightning rejects a setting, or settings contradict each other.
    """
    settings = TrainerSettings.from_config(config.trainer)
    nodes = {name: node for name, node in (config.callbacks or {}).items() if node}
    callbacks = [instantiate(node, f"callbacks.{name}") for name, node in nodes.items()]
    purge = {"purge_step": first_step} if first_step and "purge_step" in (config.logger or {}) else {}
    trainer = _trainer(
        config,
        # Lightning counts the steps of both optimizers, StepLimit those of the training.
        callbacks=[*callbacks, StepLimit(settings.max_steps), RankWatch()],
        max_steps=-1,
        logger=instantiate(config.logger, "logger", **purge) if config.logger else False,
        enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
    )
    _check_ranks(config, trainer)
    return trainer


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
    if trainer is None:
        trainer = _trainer(config, **_BARE, precision=precision)
        _check_ranks(config, trainer)
    if settings.all_devices and trainer.world_size > 1:
        return _copying_trainer(config, trainer, precision)
    first = _first_device(config)
    return _trainer(config, **_BARE, precision=precision, devices=first, num_nodes=1, strategy="auto")


def build_converting_trainer(config: DictConfig) -> Trainer:
    """Build the trainer that converts, on one device or on several, to each of which the networks are copied.

    Raises:
        ConfigurationError: Lightning has no such devices, or devices and strategy contradict each other.
    """
    trainer = _trainer(config, **_BARE)
    _check_ranks(config, trainer)
    return trainer if trainer.world_size == 1 else _copying_trainer(config, trainer, config.trainer.precision)


def build_probing_trainer(config: DictConfig, callbacks: Sequence[Callback]) -> Trainer:
    """Build a trainer that takes steps to measure them, on the devices of the run. Raises ConfigurationError."""
    limits = {"max_epochs": 1, "max_steps": -1, "limit_train_batches": 1.0, "limit_val_batches": 0}
    return _trainer(config, **_BARE | limits | {"callbacks": callbacks})


def build_fabric(config: DictConfig, **changes: Any) -> Fabric:
    """Return devices and precision of the configured trainer, with `changes`, for networks outside of a trainer.

    Raises:
        ConfigurationError: Lightning has no such devices or precision.
    """
    silence_libraries()
    chosen = {name: config.trainer[name] for name in ("accelerator", "devices", "precision")}
    return instantiate({"_target_": "lightning.Fabric", **chosen, **changes}, "trainer")


def build_separating_fabric(config: DictConfig) -> Fabric:
    """Return the first of the configured devices, in float32. Errors as in `build_fabric`."""
    return build_fabric(config, devices=_first_device(config), precision="32-true")


def _first_device(config: DictConfig) -> int | list[int]:
    """Return a number of devices, 1, or the index of the first of the devices that the configuration lists."""
    devices = config.trainer.devices
    return list(devices)[:1] if isinstance(devices, ListConfig) else 1


def _copying_trainer(config: DictConfig, trainer: Trainer, precision: str) -> Trainer:
    """Build a trainer that predicts on as many ranks as `trainer`, started in the same way."""
    # A rank may wait for another that processes hours of audio.
    strategy = DDPStrategy(start_method=start_method(trainer), timeout=timedelta(days=30))
    return _trainer(config, **_BARE | {"callbacks": [RankWatch()]}, precision=precision, strategy=strategy)


def _trainer(config: DictConfig, **changes: Any) -> Trainer:
    """Build the configured trainer with `changes`. Raises ConfigurationError."""
    silence_libraries()
    TrainerSettings.from_config(config.trainer)
    values = {key: value for key, value in plain(config.trainer).items() if key not in changes}
    trainer = instantiate(values, "trainer", **changes)
    if trainer.world_size == 1 and not isinstance(trainer.strategy, SingleDeviceStrategy):
        # One rank needs neither a strategy nor a process group.
        values.pop("strategy", None)
        return instantiate(values, "trainer", **changes | {"strategy": "auto"})
    return trainer


def _check_ranks(config: DictConfig, trainer: Trainer) -> None:
    """Check that devices, launcher, strategy, data and callbacks are compatible. Raises ConfigurationError."""
    ranks, started = trainer.world_size, externally_started_ranks()
    sharded = isinstance(trainer.strategy, FSDPStrategy)
    if started is not None and started.n_ranks != ranks:
        problem = (
            f"{started.launcher} has started {started.n_ranks} processes, but trainer.devices x trainer.num_nodes is "
            f"{ranks}: make both the same, with trainer.devices those of one machine"
        )
    elif ranks > 1 and config.trainer.strategy == "auto":
        problem = (
            f"trainer.devices={config.trainer.devices} trainer.num_nodes={config.trainer.num_nodes}: several devices "
            "require a strategy, such as strategy=ddp"
        )
    elif ranks > 1 and is_sweep() and starts_ranks_by_command(trainer):
        problem = (
            "a sweep cannot start several ranks per run by the command line, which its runs share. Use "
            "strategy=ddp_spawn, hydra/launcher=submitit_slurm, which starts the ranks itself, or trainer.devices=1"
        )
    elif ranks > 1 and OmegaConf.select(config, "data.batch_size") == AUTO:
        problem = f"data.batch_size=auto with {ranks} devices: find the size with trainer.devices=1, and type it"
    elif sharded and OmegaConf.select(config, "data.max_batch_frames") is not None:
        problem = (
            "data.max_batch_frames may split the steps of two ranks into different numbers of batches, for which "
            "sharded networks would wait forever: use strategy=ddp, or a smaller data.batch_size"
        )
    elif sharded and callbacks_of(trainer, AveragedWeights):
        problem = (
            "callbacks.ema averages unsharded weights, which strategy=fsdp does not keep: use callbacks=default or "
            "strategy=ddp"
        )
    else:
        return
    raise ConfigurationError(problem)
