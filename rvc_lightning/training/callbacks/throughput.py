"""How fast training goes, and what it takes of memory."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from rvc_lightning.audio.frames import FRAMES_PER_SECOND
from rvc_lightning.config.validation import check_whole
from rvc_lightning.data.batch import Batch
from rvc_lightning.training.module import RVCModule


class Throughput(Callback):
    """Logs seconds a step, audio-seconds a second of this rank and, where the device counts it, the peak memory."""

    def __init__(self, every_n_steps: int) -> None:
        """`every_n_steps`: how many steps one figure covers, whichever epochs they lie in; 0 for no figures.

        Raises:
            ConfigurationError: It is no whole number from 0 up.
        """
        check_whole("callbacks.throughput.every_n_steps", every_n_steps, 0)
        self.every_n_steps = every_n_steps
        self._since, self._steps, self._frames = perf_counter(), 0, 0
        self._paused = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins; what follows until the first epoch does not count."""
        self._restart()
        self._pause()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Goes on: what lies between epochs does not count."""
        self._go_on()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops the clock."""
        self._pause()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops the clock."""
        self._pause()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Goes on, as if no time had passed."""
        self._go_on()

    def on_train_batch_end(  # type: ignore[override]
        self, trainer: Trainer, pl_module: RVCModule, outputs: Any, batch: Sequence[Batch], batch_idx: int
    ) -> None:
        """Counts the step; logs at those steps of the training at which Lightning writes what was logged."""
        self._steps += 1
        # Shapes, not lengths: they are known without waiting for the device. Padding inside a bucket counts too.
        self._frames += sum(part.f0_hz.numel() for part in batch)
        if not self.every_n_steps or pl_module.optimizer_steps % self.every_n_steps:
            return
        seconds = perf_counter() - self._since
        pl_module.log("throughput/seconds_per_step", seconds / self._steps)
        pl_module.log("throughput/audio_seconds_per_second", self._frames / FRAMES_PER_SECOND / seconds)
        peak_bytes = getattr(torch.get_device_module(pl_module.device), "max_memory_allocated", None)
        if peak_bytes is not None:
            pl_module.log("throughput/peak_memory_gib", peak_bytes(pl_module.device) / 2**30)
        self._restart()

    def _pause(self) -> None:
        self._paused = self._paused or perf_counter()

    def _go_on(self) -> None:
        if self._paused:
            self._since += perf_counter() - self._paused
            self._paused = 0.0

    def _restart(self) -> None:
        self._since, self._steps, self._frames = perf_counter(), 0, 0
