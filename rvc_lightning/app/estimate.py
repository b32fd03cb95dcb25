"""Time and memory of a training before it starts, measured in a few steps on this machine.

Three steps of the same networks run on random slices as long as those of the dataset, in a separate process
(`rvc_lightning.benchmarks.training`); the first one warms up and is not counted. The time of the training is that of a
step, times the steps of an epoch, times the epochs, and at most the time limit. Validation and preparation are not
included.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from math import ceil
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, median
from typing import Any

from lightning.pytorch.callbacks import Timer
from omegaconf import DictConfig, OmegaConf

from rvc_lightning.benchmarks.training import Measurement, Setup, measure
from rvc_lightning.config.values import plain
from rvc_lightning.data.datamodule import AUTO, split_held_out
from rvc_lightning.data.manifest import read_header, read_used_rows
from rvc_lightning.errors import OutOfMemoryError
from rvc_lightning.models.memory import is_out_of_memory
from rvc_lightning.training.dataset import content_dim_of

_STEPS = 3
_DEFAULT_SLICE_SECONDS = 3.0
_NEEDED = ("seed", "model", "optimizer", "scheduler", "platform", "name", "author")


@dataclass(frozen=True)
class Estimate:
    """What a training will take.

    Attributes:
        step_seconds: Time of one step.
        total_seconds: Time of the training; None if it has no limit.
        memory_bytes: Peak memory of the device, or of the process on a CPU.
        steps: Steps of the whole training; None if only its time is limited, or nothing is.
    """

    step_seconds: float
    total_seconds: float | None
    memory_bytes: int
    steps: int | None


def estimate(config: DictConfig, dataset: Path) -> Estimate:
    """Measure a training on a prepared dataset.

    Args:
        config: Composed configuration of `train`.
        dataset: Folder of the dataset; without one, slices of three seconds are assumed, and no steps are counted.

    Raises:
        RVCError: The dataset or a setting is invalid.
    """
    rows = read_used_rows(dataset) if dataset.is_dir() else []
    seconds = mean(row.seconds for row in rows) if rows else _DEFAULT_SLICE_SECONDS
    batch_size, parts = config.data.batch_size, config.model.accumulate_grad_batches
    if batch_size == AUTO:
        batch_size, parts = config.data.step_slices, 1
    trainer = {name: config.trainer[name] for name in ("_target_", "accelerator", "devices", "precision")}
    settings = {
        **{name: plain(config[name]) if OmegaConf.is_config(config[name]) else config[name] for name in _NEEDED},
        "trainer": trainer | {"use_distributed_sampler": False, "enable_model_summary": False},
        "content_dim": content_dim_of(config),
        "seconds": seconds,
        "steps": _STEPS,
    }
    setup = Setup(
        "ours", config.trainer.precision, config.model.compile, config.model.checkpoint_activations, batch_size
    )
    measured = _measured(settings, setup)
    step_seconds = median(measured.seconds) * parts
    epochs, limit = config.trainer.max_epochs, config.trainer.max_steps
    limits = [limit] if limit >= 0 else []
    if rows and epochs is not None and epochs > 0:
        variants = 1 + len(read_header(dataset).content_speeds)
        training, _ = split_held_out(rows, config.data.held_out, config.data.held_out_seconds)
        slices = sum(row.repeats for row in training) * variants
        limits.append(ceil(slices / (batch_size * parts * _devices(config.trainer))) * epochs)
    steps = min(limits, default=None)
    times = [] if steps is None else [steps * step_seconds]
    if config.trainer.max_time is not None:
        timer = Timer(duration=config.trainer.max_time)
        times.append(timer.time_remaining() or 0.0)
    return Estimate(step_seconds, min(times, default=None), measured.peak_bytes, steps)


def _devices(trainer: DictConfig) -> int:
    """Return the number of devices that share an epoch; 1 if Lightning chooses it."""
    devices = trainer.devices
    number = devices if isinstance(devices, int) else len(devices) if OmegaConf.is_list(devices) else 1
    return max(number, 1) * trainer.num_nodes


def _measured(settings: dict[str, Any], setup: Setup) -> Measurement:
    """Measure in a separate process. Raises OutOfMemoryError, also if the system kills the process."""
    try:
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            return process.submit(measure, settings, setup).result()
    except RuntimeError as error:
        if not isinstance(error, BrokenProcessPool) and not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(
            "the measurement ran out of memory, or its process was killed: lower data.batch_size or model.crop_frames, "
            "or end other programs"
        ) from error
