"""Choice of the largest batch that fits the device, for `data.batch_size=auto`.

The candidates are the divisors of `data.step_slices`, so that an optimizer step has the same slices on every device.
A copy of the module takes two steps on the longest slices with each candidate, smallest first; in the second step, the
optimizer states also exist.
"""

from __future__ import annotations

import logging
from copy import deepcopy
from itertools import repeat
from typing import Any

import psutil
from lightning import Callback
from omegaconf import DictConfig, OmegaConf

from rvc_lightning.config.values import instantiate
from rvc_lightning.data.batch import Batch
from rvc_lightning.data.datamodule import RVCDataModule
from rvc_lightning.errors import OutOfMemoryError
from rvc_lightning.training.module import RVCModule
from rvc_lightning.training.trainer import build_probing_trainer

log = logging.getLogger(__name__)

_USABLE_SHARE = 0.8
"""Share of the available host memory that a step may use on a CPU, where exceeding it ends the process."""
_STEPS = 2


def choose_batch_size(config: DictConfig, module: RVCModule, datamodule: RVCDataModule) -> dict[str, int]:
    """Find the largest batch that fits the device.

    Args:
        config: Configuration of the run.
        module: Module to train, which is not changed.
        datamodule: Prepared slices, with `batch_size` 'auto'.

    Returns:
        `data.batch_size` and `model.accumulate_grad_batches`; their product is `data.step_slices`.

    Raises:
        OutOfMemoryError: A single slice does not fit.
    """
    n_slices = datamodule.config.step_slices
    datamodule.setup()
    start, available = _host_memory_used(), psutil.virtual_memory().available
    chosen, used = 0, 0
    for size in (size for size in range(1, n_slices + 1) if n_slices % size == 0):
        if chosen and used * size / chosen > _USABLE_SHARE * available:
            break
        batches = [datamodule.longest_batch(size)] * (n_slices // size)
        try:
            peak = _take_steps(config, module, batches)
        except OutOfMemoryError:
            if not chosen:
                raise
            break
        chosen, used = size, max(peak - start, 0)
    parts = n_slices // chosen
    log.info("The largest batch that fits: data.batch_size=%d model.accumulate_grad_batches=%d", chosen, parts)
    return {"data.batch_size": chosen, "model.accumulate_grad_batches": parts}


def _take_steps(config: DictConfig, module: RVCModule, batches: list[Batch]) -> int:
    """Train a copy of the module, and return the largest memory of the process in bytes, 0 on an accelerator."""
    watch, averaged = _PeakMemory(), OmegaConf.select(config, "callbacks.ema")
    trainer = build_probing_trainer(config, [*([instantiate(averaged, "callbacks.ema")] if averaged else []), watch])
    copy = deepcopy(module)
    # A step uses most memory once it includes the discriminator.
    copy.optimizer_steps = copy.training_config.adversarial_from_step or 0
    trainer.fit(copy, repeat(batches, _STEPS))
    return watch.peak_bytes if trainer.strategy.root_device.type == "cpu" else 0


class _PeakMemory(Callback):
    """Measures host memory where a step uses most: before each backward pass, and at its end."""

    def __init__(self) -> None:
        self.peak_bytes = 0

    def on_before_backward(self, *_: Any) -> None:
        self.peak_bytes = max(self.peak_bytes, _host_memory_used())

    def on_train_batch_end(self, *_: Any) -> None:
        self.peak_bytes = max(self.peak_bytes, _host_memory_used())


def _host_memory_used() -> int:
    return int(psutil.Process().memory_info().rss)
