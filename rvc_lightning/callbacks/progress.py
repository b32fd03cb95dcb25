"""One bar for the whole training, with the time that is left, and a line for each validation."""

from __future__ import annotations

import logging
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, Timer
from tqdm import tqdm

log = logging.getLogger(__name__)


class RunProgress(ProgressBar):
    """Counts the seconds of a training that ends by the clock, else its steps.

    The bar is for people: where the output is no terminal, only the lines are written.
    """

    def __init__(self, refresh_every_n_steps: int) -> None:
        """`refresh_every_n_steps`: how often the figures beside the bar are fetched from the device."""
        super().__init__()
        self.refresh_every_n_steps = refresh_every_n_steps
        self._bar: tqdm | None = None
        self._timer: Timer | None = None
        self._enabled = True

    def disable(self) -> None:
        """Called by Lightning on all ranks but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Shows the bar again."""
        self._enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Opens the bar where the run stands: a resumed one does not begin at nought."""
        timers = [callback for callback in trainer.callbacks if isinstance(callback, Timer)]  # type: ignore[attr-defined]
        self._timer = next((timer for timer in timers if timer.time_remaining() is not None), None)
        total: float | None
        if self._timer is not None:
            total = self._timer.time_elapsed() + (self._timer.time_remaining() or 0.0)
            layout = "{desc} {percentage:3.0f}% {bar} {n:.0f} of {total:.0f} s{postfix}"
        else:
            epochs = trainer.max_epochs if trainer.max_epochs and trainer.max_epochs > 0 else None
            total = None if epochs is None else epochs * trainer.num_training_batches
            layout = None
        self._bar = tqdm(
            total=total,
            initial=self._position(trainer),
            desc="Training",
            unit="step",
            bar_format=layout,
            disable=None if self._enabled else True,
            dynamic_ncols=True,
        )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Moves the bar."""
        if self._bar is None or self._bar.disable:
            return
        self._bar.update(self._position(trainer) - self._bar.n)
        if batch_idx % self.refresh_every_n_steps == 0:
            figures = {key: value for key, value in trainer.callback_metrics.items() if key in ("loss/mel", "val/mel")}
            shown = {key: f"{float(value):.3f}" for key, value in figures.items()}
            self._bar.set_postfix({"epoch": trainer.current_epoch, **shown}, refresh=False)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes what validation found."""
        value = trainer.callback_metrics.get("val/mel")
        if value is None or trainer.sanity_checking or not self._enabled:
            return
        if self._bar is not None:
            self._bar.clear()
        log.info("epoch %d, step %d: val/mel %.3f", trainer.current_epoch, self._steps(trainer), float(value))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Closes the bar."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Closes the bar."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _position(self, trainer: Trainer) -> float:
        if self._timer is None:
            return self._steps(trainer)
        elapsed = self._timer.time_elapsed()
        return elapsed if self._bar is None else min(elapsed, self._bar.total)

    @staticmethod
    def _steps(trainer: Trainer) -> int:
        return trainer.fit_loop.epoch_loop.total_batch_idx + 1
