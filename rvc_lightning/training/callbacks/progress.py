"""One progress bar for the whole training, and a line for each validation."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar, Timer
from tqdm import tqdm

from rvc_lightning.cli.progress_file import report_progress
from rvc_lightning.config.options import Settings, option
from rvc_lightning.training.callbacks.step_limit import StepLimit
from rvc_lightning.training.lightning_adapter import callbacks_of, steps_done

log = logging.getLogger(__name__)

_CONVERSION_LOSSES = ("loss/content", "loss/speaker")
"""Losses that decrease while `val/mel`, a measure of resynthesis, hardly changes."""


@dataclass(frozen=True, kw_only=True)
class ProgressSettings(Settings, group="callbacks.progress"):
    """Settings of `RunProgress`."""

    refresh_every_n_steps: int = option(help="Steps between updates of the metrics, read from the device", min=1)


class RunProgress(ProgressBar):
    """Counts the steps of a training with a limit of steps or epochs, else its seconds.

    The bar is shown on terminals only; the lines are always logged.
    """

    def __init__(self, **settings: Any) -> None:
        """Initialize the callback with the values of `ProgressSettings`. Raises ConfigurationError."""
        super().__init__()
        self.settings = ProgressSettings.from_values(settings)
        self._bar: tqdm | None = None
        self._timer: Timer | None = None
        self._total: float | None = None
        self._total_steps: int | None = None
        self._enabled = True
        self._started_at, self._started_from = 0.0, 0

    def disable(self) -> None:
        """Disable the bar; Lightning calls this on all ranks but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Enable the bar."""
        self._enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the length of the training, and show the bar, from the current position of a resumed run."""
        timers = callbacks_of(trainer, Timer)
        self._timer = next((timer for timer in timers if timer.time_remaining() is not None), None)
        self._total_steps = self._total_steps_of(trainer)
        self._total = self._total_seconds() if self._counts_seconds else self._total_steps
        self._started_at, self._started_from = perf_counter(), steps_done(trainer)
        if self._enabled:
            log.info("Training%s", self._describe_position(trainer))
        self._bar = tqdm(
            total=self._total,
            initial=self._position(trainer),
            desc="Training",
            unit="step",
            bar_format="{desc} {percentage:3.0f}% {bar} {n:.0f} of {total:.0f} s{postfix}"
            if self._counts_seconds
            else None,
            disable=None if self._enabled else True,
            dynamic_ncols=True,
        )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Advance the bar, and report the position to the progress file."""
        if self._enabled:
            report_progress("training", *self._share_and_seconds_left(trainer))
        if self._bar is None or self._bar.disable:
            return
        self._bar.update(self._position(trainer) - self._bar.n)
        if batch_idx % self.settings.refresh_every_n_steps == 0:
            metrics = {key: value for key, value in trainer.callback_metrics.items() if key in ("loss/mel", "val/mel")}
            formatted = {key: f"{float(value):.3f}" for key, value in metrics.items()}
            self._bar.set_postfix({"epoch": trainer.current_epoch, **formatted}, refresh=False)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the result of the validation, the best one so far if a callback keeps it, and losses of the last step."""
        metrics = trainer.callback_metrics
        value = metrics.get("val/mel")
        if value is None or trainer.sanity_checking or not self._enabled:
            return
        if self._bar is not None:
            self._bar.clear()
        keepers = [each for each in callbacks_of(trainer, ModelCheckpoint) if each.monitor == "val/mel"]
        scores = [float(each.best_model_score) for each in keepers if each.best_model_score is not None]
        best = f" (best {min([float(value), *scores]):.3f})" if keepers else ""
        losses = "".join(f", {name} {float(metrics[name]):.3f}" for name in _CONVERSION_LOSSES if name in metrics)
        where = f"epoch {trainer.current_epoch}, step {steps_done(trainer)}{self._describe_position(trainer)}"
        log.info("%s: val/mel %.3f%s%s", where, float(value), best, losses)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar, and log the last step."""
        self._close()
        if self._enabled:
            log.info("Trained: step %d, epoch %d", steps_done(trainer), trainer.current_epoch)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the bar."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    @property
    def _counts_seconds(self) -> bool:
        return self._timer is not None and self._total_steps is None

    def _total_seconds(self) -> float | None:
        """Return the seconds of the whole training; None without a time limit."""
        return None if self._timer is None else self._timer.time_elapsed() + (self._timer.time_remaining() or 0.0)

    def _total_steps_of(self, trainer: Trainer) -> int | None:
        """Return the steps of the whole training; None without a limit of steps or epochs."""
        limits = [limit.max_steps for limit in callbacks_of(trainer, StepLimit) if limit.max_steps >= 0]
        if trainer.max_epochs is not None and trainer.max_epochs > 0:
            limits.append(int(trainer.max_epochs * trainer.num_training_batches))
        return min(limits, default=None)

    def _position(self, trainer: Trainer) -> float:
        if self._timer is None or not self._counts_seconds:
            return steps_done(trainer)
        elapsed = self._timer.time_elapsed()
        return elapsed if self._bar is None else min(elapsed, self._total or elapsed)

    def _share_and_seconds_left(self, trainer: Trainer) -> tuple[float | None, float | None]:
        """Return the share of the training that is done and the time left, by the limit that is reached first.

        None without a limit.
        """
        limits: list[tuple[float, float]] = []
        if self._timer is not None and (total := self._total_seconds()):
            limits.append((self._timer.time_remaining() or 0.0, self._timer.time_elapsed() / total))
        if self._total_steps and (steps := steps_done(trainer)) > self._started_from:
            seconds_per_step = (perf_counter() - self._started_at) / (steps - self._started_from)
            limits.append((max(self._total_steps - steps, 0) * seconds_per_step, steps / self._total_steps))
        if not limits:
            return None, None
        seconds, share = min(limits)
        return min(share, 1.0), seconds

    def _describe_position(self, trainer: Trainer) -> str:
        """Return ', 61 of 420 s' or ', 20 of 90 steps'; '' without a limit."""
        if self._total is None:
            return ""
        return f", {self._position(trainer):.0f} of {self._total:.0f} {'s' if self._counts_seconds else 'steps'}"
