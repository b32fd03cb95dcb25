"""Limit of the training steps."""

from __future__ import annotations

from typing import Any

from lightning import Callback, Trainer

from rvc_lightning.training.module import RVCModule


class StepLimit(Callback):
    """Stops after `max_steps` steps of both networks, steps before a resume included; -1 for no limit.

    Lightning counts the steps of all optimizers, so its own `max_steps` stops a training of two networks halfway.
    """

    def __init__(self, max_steps: int) -> None:
        self.max_steps = max_steps

    def on_train_start(self, trainer: Trainer, pl_module: RVCModule) -> None:
        """Stop a resumed run that has reached the limit."""
        self._stop_at_limit(trainer, pl_module)

    def on_train_batch_end(self, trainer: Trainer, pl_module: RVCModule, *args: Any) -> None:
        """Stop after the last step."""
        self._stop_at_limit(trainer, pl_module)

    def _stop_at_limit(self, trainer: Trainer, pl_module: RVCModule) -> None:
        if 0 <= self.max_steps <= pl_module.optimizer_steps:
            trainer.should_stop = True
