"""Ends a training after so many steps, as people count them."""

from __future__ import annotations

from typing import Any

from lightning import Callback, Trainer

from rvc_lightning.training.module import RVCModule


class StepLimit(Callback):
    """Stops once the module has taken `max_steps` steps, over all runs that went on from each other.

    Lightning counts the steps of all optimizers, so that its own `max_steps` ends a training of two networks halfway.
    """

    def __init__(self, max_steps: int) -> None:
        """`max_steps`: each of both networks."""
        self.max_steps = max_steps

    def on_train_start(self, trainer: Trainer, pl_module: RVCModule) -> None:  # type: ignore[override]
        """Stops a run that goes on with nothing left to do."""
        self._stop_if_done(trainer, pl_module)

    def on_train_batch_end(self, trainer: Trainer, pl_module: RVCModule, *args: Any) -> None:  # type: ignore[override]
        """Stops after the last step."""
        self._stop_if_done(trainer, pl_module)

    def _stop_if_done(self, trainer: Trainer, pl_module: RVCModule) -> None:
        if pl_module.optimizer_steps >= self.max_steps:
            trainer.should_stop = True
