"""Ctrl-C and SIGTERM end a run after the step at hand, with a checkpoint to go on from."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType
from typing import Any

from lightning import Callback, LightningModule, Trainer

FILENAME = "interrupted.ckpt"


class TrainingStopped(Exception):  # noqa: N818 - it is no error
    """The run was asked to stop and has saved itself."""

    def __init__(self, signal_number: int, checkpoint: Path) -> None:
        self.signal_number, self.checkpoint = signal_number, checkpoint
        name = signal.Signals(signal_number).name
        super().__init__(f"stopped by {name}; go on with: checkpoint={checkpoint}")


class GracefulStop(Callback):
    """Saves `interrupted.ckpt` at the end of the step during which a signal came, then stops the run.

    A second signal of the same kind ends the program at once, as it would without this callback.
    """

    def __init__(self, dirpath: str) -> None:
        """`dirpath`: where the checkpoint goes."""
        self.checkpoint = Path(dirpath) / FILENAME
        self._received: int | None = None
        self._previous: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes over the signals, after Lightning has set its own handlers."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._received = number
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.default_int_handler)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Saves and stops if a signal came; all ranks do so together."""
        if trainer.strategy.reduce_boolean_decision(self._received is not None, all=False):
            trainer.save_checkpoint(self.checkpoint)
            raise TrainingStopped(self._received or signal.SIGTERM, self.checkpoint)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Gives the signals back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()
