"""A checkpoint to go on from: now and then, at the end, and when a signal stops the run."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint


class TrainingStopped(Exception):  # noqa: N818 - it is no error
    """The run was asked to stop and has saved itself."""

    def __init__(self, signal_number: int, checkpoint: Path) -> None:
        self.signal_number, self.checkpoint = signal_number, checkpoint
        name = signal.Signals(signal_number).name
        super().__init__(f"stopped by {name}; go on with: checkpoint={checkpoint}")


class LastCheckpoint(Checkpoint):
    """Keeps `last.ckpt`, replaced as a whole every few epochs, at the end of training and upon SIGINT or SIGTERM.

    After a signal the step at hand is finished first; a second one ends the program at once. Lightning calls
    callbacks of this base class last, so that the schedules have stepped before an epoch's state is saved.
    """

    def __init__(self, dirpath: str, every_n_epochs: int) -> None:
        """Prepares to save.

        Args:
            dirpath: Folder of the checkpoint.
            every_n_epochs: How often it is replaced while training goes on.
        """
        self.path = Path(dirpath) / "last.ckpt"
        self.every_n_epochs = every_n_epochs
        self._received: int | None = None
        self._previous: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes over the signals, after Lightning has set its own handlers."""
        self._received = None
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._received = number
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.default_int_handler)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Saves and stops if a signal came; all ranks do so together."""
        if trainer.strategy.reduce_boolean_decision(self._received is not None, all=False):
            trainer.save_checkpoint(self.path)
            raise TrainingStopped(self._received or signal.SIGTERM, self.path)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves if it is time."""
        if (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            trainer.save_checkpoint(self.path)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves the finished training."""
        trainer.save_checkpoint(self.path)
        self._give_signals_back()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leaves the signals as they were found."""
        self._give_signals_back()

    def _give_signals_back(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()
