"""Checkpoints to resume from: at intervals, at the end, and when a signal stops the run."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities import rank_zero_only

from rvc_lightning.config.options import Settings, option
from rvc_lightning.io.files import remove_leftovers, replace_file
from rvc_lightning.io.processes import HANGUPS, INTERRUPTS, discard_terminal_output
from rvc_lightning.training.checkpoints import LAST, NEXT, PREVIOUS
from rvc_lightning.training.lightning_adapter import is_epoch_end, is_validation_due, make_resumable, steps_done

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LastSettings(Settings, group="callbacks.last"):
    """Intervals of `LastCheckpoint`; None for no such interval."""

    every_n_epochs: int | None = option(None, "Epochs between saves", min=1)
    every_n_steps: int | None = option(None, "Steps between saves", min=1)
    every_minutes: float | None = option(None, "Minutes between saves", min=0.01)


class TrainingStopped(Exception):  # noqa: N818 - not an error
    """A signal has stopped the run, which has saved its state."""

    def __init__(self, signal_number: int, checkpoint: Path) -> None:
        self.signal_number, self.checkpoint = signal_number, checkpoint
        super().__init__(f"stopped by {signal.Signals(signal_number).name}, saved as '{checkpoint}'")


@contextmanager
def stopped_by_signals(resume: str, export: str | None = None) -> Iterator[None]:
    """Turn `TrainingStopped` into lines of the log and the exit status that shells expect.

    Args:
        resume: Command that resumes the run, for the log.
        export: Command that exports the voice in its present state, for the log.
    """
    try:
        yield
    except TrainingStopped as stop:
        then = f"\nExport the voice as it is: {export}" if export else ""
        rank_zero_only(log.info)("Training %s. Resume with: %s%s", stop, resume, then)
        raise SystemExit(128 + stop.signal_number) from None


class LastCheckpoint(Checkpoint):
    """Keeps the last two states of a run; at least one of them survives a kill at any moment.

    They are `last.ckpt` and `previous.ckpt`. It saves only where a resume is exact: Lightning restores neither a
    pending validation nor the remaining hooks at the end of an epoch, so a due save waits for both.

        step ─▶ step ─▶ step ─▶ validation ─▶ step ─▶ last step ─▶ validation ─▶ epoch end ─▶ step
              ▲       ▲                     ▲                                              ▲

    After SIGINT, SIGTERM or SIGHUP (a closed terminal) the run stops at the next such place; a second SIGINT or SIGTERM
    aborts the program. Lightning calls callbacks of this base class last, so that the changes of other callbacks are
    saved.
    """

    def __init__(self, dirpath: str, **intervals: Any) -> None:
        """Initialize the callback. With several intervals, the first one that elapses triggers a save.

        Args:
            dirpath: Folder of the checkpoints.
            **intervals: Those of `LastSettings`; without any, it saves only at the end and upon a signal.

        Raises:
            ConfigurationError: An interval is out of range.
        """
        self.folder, self.settings = Path(dirpath), LastSettings.from_values(intervals)
        self._since_step, self._since, self._saved_step = 0, 0.0, -1
        self._flush = False
        self._received: int | None = None
        self._pid = os.getpid()
        self._previous_handlers: dict[int, Any] = {}

    @property
    def path(self) -> Path:
        """Path of the newest checkpoint."""
        return self.folder / LAST

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Remove temporary files of a killed run."""
        if stage == "fit" and trainer.is_global_zero:
            remove_leftovers(self.folder)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Install signal handlers, in place of those of Lightning."""
        previous, resumed = self.folder / PREVIOUS, trainer.ckpt_path
        if trainer.is_global_zero and resumed and previous.exists() and previous.samefile(resumed):
            # The last one was unreadable, and must not replace the readable one.
            replace_file(previous, self.path)
        self._received, self._pid = None, os.getpid()
        self._since_step, self._since, self._saved_step = steps_done(trainer), monotonic(), -1
        # nohup ignores a closed terminal.
        hangups = [number for number in HANGUPS if signal.getsignal(number) != signal.SIG_IGN]
        for number in (*INTERRUPTS, *hangups, signal.SIGTERM):
            self._previous_handlers[number] = signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._received = number
        if number in HANGUPS:
            # Before the log, whose errors interfere with the bar.
            discard_terminal_output()
        # Loading processes inherit the handler, and Ctrl-C reaches them as well.
        if os.getpid() == self._pid:
            rank_zero_only(log.info)("Saving after this step, then stopping. Press Ctrl-C again to abort")
        # The shell and the system may both report a closed terminal.
        again = signal.SIG_IGN if number in HANGUPS else signal.default_int_handler
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else again)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the end of the training, unless it ended within an epoch and was saved there; stop upon a signal."""
        if not self._just_saved(trainer):
            self._save(trainer)
        self._restore_handlers()
        self._stop_if_received(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Restore the previous signal handlers."""
        self._restore_handlers()

    def _restore_handlers(self) -> None:
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)
        self._previous_handlers.clear()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Write the log up to the saved state, so that the curves of a resumed run have no gap."""
        if self._flush:
            self._flush = False
            for logger in trainer.loggers:
                logger.save()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Save after a step that neither a validation nor the end of the epoch follows."""
        if not is_epoch_end(trainer) and not is_validation_due(trainer):
            self._save_if_due(trainer, force=trainer.should_stop)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save after a validation within an epoch, also to replace a state that was saved before it."""
        if not trainer.sanity_checking and not is_epoch_end(trainer):
            self._save_if_due(trainer, force=trainer.should_stop or self._just_saved(trainer))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save after an epoch, unless it was cut short and saved there."""
        if is_epoch_end(trainer):
            epochs = self.settings.every_n_epochs
            self._save_if_due(trainer, force=epochs is not None and (trainer.current_epoch + 1) % epochs == 0)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Let Lightning resume exactly."""
        make_resumable(checkpoint, trainer)

    def _save_if_due(self, trainer: Trainer, *, force: bool) -> None:
        """Save, and stop upon a signal, on all ranks together."""
        steps, minutes = steps_done(trainer) - self._since_step, (monotonic() - self._since) / 60
        due = force or self._received is not None
        due |= self.settings.every_n_steps is not None and steps >= self.settings.every_n_steps
        due |= self.settings.every_minutes is not None and minutes >= self.settings.every_minutes
        if not trainer.strategy.reduce_boolean_decision(due, all=False):
            return
        self._save(trainer)
        self._stop_if_received(trainer)

    def _stop_if_received(self, trainer: Trainer) -> None:
        """Raise TrainingStopped on all ranks together if one has received a signal."""
        if trainer.strategy.reduce_boolean_decision(self._received is not None, all=False):
            raise TrainingStopped(self._received or signal.SIGTERM, self.path)

    def _save(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self.folder / NEXT)
        if trainer.is_global_zero:
            if self.path.exists():
                replace_file(self.path, self.folder / PREVIOUS)
            replace_file(self.folder / NEXT, self.path)
        self._since_step = self._saved_step = steps_done(trainer)
        self._since, self._flush = monotonic(), True

    def _just_saved(self, trainer: Trainer) -> bool:
        return self._saved_step == steps_done(trainer)
