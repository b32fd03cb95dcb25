"""Speed and memory of training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from rvc_lightning.audio.frames import FRAMES_PER_SECOND
from rvc_lightning.config.options import Settings, option
from rvc_lightning.data.batch import Batch
from rvc_lightning.training.module import RVCModule


@dataclass(frozen=True, kw_only=True)
class ThroughputSettings(Settings, group="callbacks.throughput"):
    """Settings of `Throughput`."""

    every_n_steps: int = option(help="Steps that one figure covers, in any epochs; 0 for no figures", min=0)


class Throughput(Callback):
    """Logs seconds per step, seconds of audio per second of this rank and, if the device reports it, peak memory."""

    def __init__(self, **settings: Any) -> None:
        """Initialize the callback with the values of `ThroughputSettings`. Raises ConfigurationError."""
        self.settings = ThroughputSettings.from_values(settings)
        self._restart()
        self._paused_at = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock, paused until the first epoch."""
        self._restart()
        self._paused_at = perf_counter()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Continue the clock, which excludes validation and the time between epochs."""
        if self._paused_at:
            self._since += perf_counter() - self._paused_at
            self._paused_at = 0.0

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Pause the clock."""
        self._paused_at = self._paused_at or perf_counter()

    on_validation_start = on_train_epoch_end
    on_validation_end = on_train_epoch_start

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: RVCModule, outputs: Any, batch: Sequence[Batch], batch_idx: int
    ) -> None:
        """Count the step, and log at those steps of the training at which Lightning writes the log."""
        self._steps += 1
        # Shapes instead of lengths, which are on the device: padding is included.
        self._frames += sum(part.f0_hz.numel() for part in batch)
        if not self.settings.every_n_steps or pl_module.optimizer_steps % self.settings.every_n_steps:
            return
        seconds = perf_counter() - self._since
        pl_module.log("throughput/seconds_per_step", seconds / self._steps)
        pl_module.log("throughput/audio_seconds_per_second", self._frames / FRAMES_PER_SECOND / seconds)
        peak_bytes = getattr(torch.get_device_module(pl_module.device), "max_memory_allocated", None)
        if peak_bytes is not None:
            pl_module.log("throughput/peak_memory_gib", peak_bytes(pl_module.device) / 2**30)
        self._restart()

    def _restart(self) -> None:
        self._since, self._steps, self._frames = perf_counter(), 0, 0
