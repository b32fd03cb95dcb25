"""Notices when a voice gets worse by more training, and says so or stops."""

from __future__ import annotations

import logging
from typing import Any

import torch
from lightning import Callback, Trainer
from torch import Tensor

from rvc_lightning.config.validation import check_number, check_whole
from rvc_lightning.errors import unknown_choice
from rvc_lightning.training.module import RVCModule, StepLoss

log = logging.getLogger(__name__)

_MOST_SMOOTHING = 0.9999

RULES, ACTIONS = ("held_out", "classic"), ("warn", "stop")


class Overtraining(Callback):
    """Watches a figure that should fall, smoothed, and acts once it has not fallen for a while.

    The rule `held_out` looks at what validation measures: only recordings that were not trained on can tell that a
    voice is learned by heart. The rule `classic` is that of other RVC tools: it looks at the generator's loss on the
    training data, as the mean over the batches of an epoch (defects T1 and T2).

    Which voice is kept is not decided here: the checkpoint with the best validation is exported either way.
    """

    def __init__(
        self,
        rule: str,
        monitor: str,
        smoothing: float,
        patience: int,
        min_delta: float,
        action: str,
    ) -> None:
        """Prepares to watch.

        Args:
            rule: 'held_out': after each validation; 'classic': the generator's loss after each epoch.
            monitor: Logged figure that `held_out` watches, lower is better.
            smoothing: Share of the past in the smoothed figure, from 0 (none) to below 1.
            patience: Validations or epochs without a new best after which to act.
            min_delta: By how much a new best must be lower.
            action: 'warn' or 'stop'.

        Raises:
            ConfigurationError: A value is none of the choices or out of range.
        """
        if rule not in RULES:
            raise unknown_choice("rule of overtraining", rule, RULES)
        if action not in ACTIONS:
            raise unknown_choice("action upon overtraining", action, ACTIONS)
        check_number("callbacks.overtraining.smoothing", smoothing, 0, _MOST_SMOOTHING)
        check_number("callbacks.overtraining.min_delta", min_delta, 0)
        check_whole("callbacks.overtraining.patience", patience, 1)
        self.rule, self.monitor, self.smoothing = rule, monitor, smoothing
        self.patience, self.min_delta, self.action = patience, min_delta, action
        self._smoothed: float | None = None
        self._best, self._best_epoch, self._best_step = float("inf"), 0, 0
        self._without_best = 0
        self._sum: Tensor | float = 0.0
        self._batches = 0

    # ------------------------------------------------------------------ what is watched

    def on_train_batch_end(  # type: ignore[override]
        self, trainer: Trainer, pl_module: RVCModule, outputs: dict[str, Any], batch: Any, batch_idx: int
    ) -> None:
        """Adds the generator's losses to the sum of the epoch, on the device."""
        if self.rule == "classic":
            losses: list[StepLoss] = outputs["losses"]
            totals = [loss.value.float() for loss in losses if loss.name == "generator"]
            self._sum, self._batches = self._sum + torch.stack(totals).sum(), self._batches + len(totals)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: RVCModule) -> None:  # type: ignore[override]
        """Judges the epoch by the classic rule."""
        if self.rule == "classic" and self._batches:
            mean = torch.as_tensor(self._sum / self._batches, device=pl_module.device)
            self._judge(trainer, pl_module, "the generator's loss", float(trainer.strategy.reduce(mean)))
            self._sum, self._batches = 0.0, 0

    def on_validation_end(self, trainer: Trainer, pl_module: RVCModule) -> None:  # type: ignore[override]
        """Judges what validation found."""
        value = trainer.callback_metrics.get(self.monitor)
        if self.rule == "held_out" and value is not None and not trainer.sanity_checking:
            self._judge(trainer, pl_module, self.monitor, float(value))

    # ------------------------------------------------------------------ judgment

    def _judge(self, trainer: Trainer, pl_module: RVCModule, what: str, value: float) -> None:
        past = value if self._smoothed is None else self._smoothed
        self._smoothed = self.smoothing * past + (1 - self.smoothing) * value
        if self._smoothed < self._best - self.min_delta:
            self._best, self._without_best = self._smoothed, 0
            self._best_epoch, self._best_step = trainer.current_epoch, pl_module.optimizer_steps
            return
        self._without_best += 1
        # By its multiples, so that a warning is repeated now and then, but not every time.
        if self._without_best % self.patience == 0:
            self._act(trainer, what)

    def _act(self, trainer: Trainer, what: str) -> None:
        checks = "validations" if self.rule == "held_out" else "epochs"
        seen = (
            f"Overtraining? {what} has found no new best for {self._without_best} {checks}: "
            f"it was {self._best:.4f} at epoch {self._best_epoch} (step {self._best_step}), "
            f"and is {self._smoothed:.4f} now"
        )
        if self.action == "stop":
            trainer.should_stop = True
            log.warning("%s. Training stops; the checkpoint with the best validation is kept", seen)
        else:
            log.warning("%s. Training goes on; the checkpoint with the best validation is kept", seen)

    # ------------------------------------------------------------------ checkpoints

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must remember, as plain values."""
        return {
            "smoothed": self._smoothed,
            "best": self._best,
            "best_epoch": self._best_epoch,
            "best_step": self._best_step,
            "without_best": self._without_best,
            "sum": float(self._sum),
            "batches": self._batches,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from there."""
        self._smoothed, self._best = state_dict["smoothed"], state_dict["best"]
        self._best_epoch, self._best_step = state_dict["best_epoch"], state_dict["best_step"]
        self._without_best = state_dict["without_best"]
        self._sum, self._batches = state_dict["sum"], state_dict["batches"]

    @property
    def state_key(self) -> str:
        """The rule and the figure: what was seen of another one says nothing."""
        return self._generate_state_key(rule=self.rule, monitor=self.monitor)
