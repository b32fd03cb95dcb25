"""Limit of the training steps."""

from __future__ import annotations

from typing import Any

from lightning import Callback, LightningModule, Trainer

from rvc_lightning.training.lightning_adapter import steps_done


class StepLimit(Callback):
    """Stops after `max_steps` training steps, steps before a resume included; -1 for no limit.

    Lightning counts the steps of all optimizers, so its own `max_steps` stops a training of two networks halfway.
    """

    def __init__(self, max_steps: int) -> None:
        self.max_steps = max_steps

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop a resumed run that has reached the limit."""
        self._stop_at_limit(trainer)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Stop after the last step."""
        self._stop_at_limit(trainer)

    def _stop_at_limit(self, trainer: Trainer) -> None:
        if 0 <= self.max_steps <= steps_done(trainer):
            trainer.should_stop = True
