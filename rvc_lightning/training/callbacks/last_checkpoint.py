"""Checkpoints to go on from: now and then, at the end, and when a signal stops the run."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities import rank_zero_only

from rvc_lightning.config.validation import check_number, check_whole
from rvc_lightning.io.files import remove_leftovers
from rvc_lightning.training.checkpoints import LAST, NEXT, PREVIOUS

log = logging.getLogger(__name__)

_LEAST_MINUTES = 0.01


class TrainingStopped(Exception):  # noqa: N818 - it is no error
    """The run was asked to stop and has saved itself."""

    def __init__(self, signal_number: int, checkpoint: Path) -> None:
        self.signal_number, self.checkpoint = signal_number, checkpoint
        name = signal.Signals(signal_number).name
        super().__init__(f"stopped by {name}, saved as '{checkpoint}'")


@contextmanager
def stopped_by_signals(go_on: str) -> Iterator[None]:
    """Makes a training that was asked to stop a line of the log, and the exit status that shells expect.

    Args:
        go_on: How it goes on, for the log.
    """
    try:
        yield
    except TrainingStopped as stop:
        rank_zero_only(log.info)("Training %s. Go on with: %s", stop, go_on)
        raise SystemExit(128 + stop.signal_number) from None


class LastCheckpoint(Checkpoint):
    """Keeps the last two states of a run, `last.ckpt` and `previous.ckpt`; a kill at any moment leaves one of them.

    Saves where a resume is exact, and nowhere else: Lightning restores neither a validation that was to come nor the
    rest of an epoch's end, so a save that is due waits until both are over.

        step ─▶ step ─▶ step ─▶ validation ─▶ step ─▶ last step ─▶ validation ─▶ epoch end ─▶ step
              ▲       ▲                     ▲                                              ▲

    After SIGINT or SIGTERM the run stops at the next such place; a second signal ends the program at once. Lightning
    calls callbacks of this base class last, so that what others changed is saved.
    """

    def __init__(
        self,
        dirpath: str,
        every_n_epochs: int | None = None,
        *,
        every_n_steps: int | None = None,
        every_minutes: float | None = None,
    ) -> None:
        """Prepares to save; with several intervals, whichever comes first, with none, only at the end and by signal.

        Args:
            dirpath: Folder of the checkpoints.
            every_n_epochs: Epochs between two saves.
            every_n_steps: Steps between two saves.
            every_minutes: Minutes between two saves.

        Raises:
            ConfigurationError: An interval is no number, or not above 0.
        """
        for name, interval in (("every_n_epochs", every_n_epochs), ("every_n_steps", every_n_steps)):
            if interval is not None:
                check_whole(f"callbacks.last.{name}", interval, 1)
        if every_minutes is not None:
            check_number("callbacks.last.every_minutes", every_minutes, _LEAST_MINUTES)
        self.folder = Path(dirpath)
        self.every_n_epochs, self.every_n_steps, self.every_minutes = every_n_epochs, every_n_steps, every_minutes
        self._since_step, self._since, self._saved_step = 0, 0.0, -1
        self._flush = False
        self._received: int | None = None
        self._previous: dict[int, Any] = {}

    @property
    def path(self) -> Path:
        """The newest checkpoint."""
        return self.folder / LAST

    # ------------------------------------------------------------------ begin and end

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Tidies up after a run that was killed in this folder."""
        if stage == "fit" and trainer.is_global_zero:
            remove_leftovers(self.folder)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes over the signals, after Lightning has set its own handlers."""
        previous = self.folder / PREVIOUS
        gone_on_from = trainer.ckpt_path
        if trainer.is_global_zero and gone_on_from and previous.exists() and previous.samefile(gone_on_from):
            # The last one could not be read: it must not push out the one that could.
            os.replace(previous, self.path)
        self._received = None
        self._since_step, self._since, self._saved_step = _steps(trainer), monotonic(), -1
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._received = number
        rank_zero_only(log.info)("Stopping: this step is finished and saved. Once more ends it at once")
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.default_int_handler)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves the finished training."""
        # A training that ends within an epoch was saved there: its epoch is not over, though Lightning has closed it.
        if not self._just_saved(trainer):
            self._save(trainer)
        self._give_signals_back()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leaves the signals as they were found."""
        self._give_signals_back()

    def _give_signals_back(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    # ------------------------------------------------------------------ the places

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Writes down the log up to the state that was saved, so that the curves of a resumed run have no gap."""
        if self._flush:
            self._flush = False
            for logger in trainer.loggers:
                logger.save()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """After a step that nothing else follows."""
        if not _ends_epoch(trainer) and not _validation_may_follow(trainer):
            self._save_if_due(trainer, now=trainer.should_stop or _enough_steps(trainer))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """After a validation within an epoch; it also renews a state that was saved before it."""
        if not trainer.sanity_checking and not _ends_epoch(trainer):
            ends = trainer.should_stop or _enough_steps(trainer)
            self._save_if_due(trainer, now=ends or self._just_saved(trainer))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """After an epoch, unless it was cut short, and saved where it was."""
        if _ends_epoch(trainer):
            epochs = self.every_n_epochs
            self._save_if_due(trainer, now=epochs is not None and (trainer.current_epoch + 1) % epochs == 0)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Gives the states that are saved by a validation the form in which Lightning goes on from them exactly."""
        if trainer.validating:
            _mend(checkpoint["loops"]["fit_loop"], trainer)

    # ------------------------------------------------------------------ saving

    def _save_if_due(self, trainer: Trainer, *, now: bool) -> None:
        """Saves, and stops if a signal came; all ranks do so together."""
        steps, minutes = _steps(trainer) - self._since_step, (monotonic() - self._since) / 60
        due = now or self._received is not None
        due |= self.every_n_steps is not None and steps >= self.every_n_steps
        due |= self.every_minutes is not None and minutes >= self.every_minutes
        if not trainer.strategy.reduce_boolean_decision(due, all=False):
            return
        self._save(trainer)
        if trainer.strategy.reduce_boolean_decision(self._received is not None, all=False):
            raise TrainingStopped(self._received or signal.SIGTERM, self.path)

    def _save(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self.folder / NEXT)
        if trainer.is_global_zero:
            if self.path.exists():
                os.replace(self.path, self.folder / PREVIOUS)
            os.replace(self.folder / NEXT, self.path)
        self._since_step = self._saved_step = _steps(trainer)
        self._since, self._flush = monotonic(), True

    def _just_saved(self, trainer: Trainer) -> bool:
        return self._saved_step == _steps(trainer)


def _steps(trainer: Trainer) -> int:
    return trainer.fit_loop.epoch_loop.total_batch_idx + 1


def _ends_epoch(trainer: Trainer) -> bool:
    loop = trainer.fit_loop.epoch_loop
    return loop.batch_progress.is_last_batch or loop.batch_idx + 1 == trainer.num_training_batches


def _enough_steps(trainer: Trainer) -> bool:
    return trainer.max_steps != -1 and trainer.global_step >= trainer.max_steps


def _validation_may_follow(trainer: Trainer) -> bool:
    """Whether the steps done so far are those after which validation is due; by the clock, nobody knows."""
    interval = trainer.val_check_batch
    if interval is None or not trainer.enable_validation:
        return False
    loop = trainer.fit_loop.epoch_loop
    done = loop.total_batch_idx if trainer.check_val_every_n_epoch is None else loop.batch_idx
    return (done + 1) % interval == 0


def _mend(fit_loop: dict[str, Any], trainer: Trainer) -> None:
    """Where validation goes by the clock, none is due at a resume, and Lightning takes the state for another one.

    Within an epoch the state becomes that of a step that has just ended. At an epoch's end the loader is told that
    the epoch has no batches left: otherwise one more would be trained on.
    """
    progress = fit_loop["epoch_loop.batch_progress"]
    if not progress["is_last_batch"]:
        progress["total"]["completed"] -= 1
        progress["current"]["completed"] -= 1
    elif trainer.val_check_batch is None:
        fit_loop["epoch_loop.state_dict"]["_batches_that_stepped"] += 1
        for state in fit_loop["state_dict"].get("combined_loader", ()):
            state["taken"] = progress["current"]["ready"]
