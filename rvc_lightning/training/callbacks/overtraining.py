"""Detect overtraining, and warn or stop the run."""

from __future__ import annotations

import logging
import math
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

import torch
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from rvc_lightning.config.options import Settings, option
from rvc_lightning.training.lightning_adapter import callbacks_of
from rvc_lightning.training.module import RVCModule, StepLoss

_warn_once = rank_zero_only(logging.getLogger(__name__).warning)

RULES, ACTIONS = ("held_out", "classic"), ("warn", "stop")


@dataclass(frozen=True, kw_only=True)
class OvertrainingSettings(Settings, group="callbacks.overtraining"):
    """Settings of `Overtraining`."""

    rule: str = option(help="held_out: a validation metric; classic: the generator's training loss", choices=RULES)
    monitor: str = option(help="Logged metric that held_out watches; lower is better")
    smoothing: float = option(help="Share of the past in the smoothed value; 0 for none", min=0, max=0.9999)
    patience: int = option(help="Validations or epochs without improvement before the action", min=1)
    min_delta: float = option(help="Decrease that counts as an improvement", min=0)
    action: str = option(help="Warn or stop", choices=ACTIONS)


@dataclass
class _History:
    """Values so far; the state in a checkpoint."""

    recent: list[float] = field(default_factory=list)
    # The smoothed value is their ratio: without the weight, the first value would dominate short histories.
    weighted_sum: float = 0.0
    weight: float = 0.0
    best: float = math.inf
    best_epoch: int = 0
    best_step: int = 0
    lowest: float = math.inf
    since_best: int = 0
    since_action: int = 0
    epoch_sum: Tensor | float = 0.0
    epoch_batches: int = 0

    @property
    def smoothed(self) -> float:
        return self.weighted_sum / self.weight


class Overtraining(Callback):
    """Watches a value that should fall, and acts once it has not fallen for `patience` checks.

    The rule `held_out` checks a metric after each validation: only held-out recordings show that a voice is memorized.
    The rule `classic` is that of other RVC tools: it checks the generator's loss on training data after each epoch, as
    the mean over its batches.

    An improvement is a new minimum of the smoothed value, or of the value itself: the smoothed value lags behind,
    especially after outliers. No action is taken while the values of the last `patience` checks fall. Values that are
    not finite are ignored.

    The exported voice does not depend on this callback: it is that of the best checkpoint, or of the last one
    with `callbacks.best=null`.
    """

    def __init__(self, **settings: Any) -> None:
        """Initialize the callback with the values of `OvertrainingSettings`. Raises ConfigurationError."""
        self.settings = OvertrainingSettings.from_values(settings)
        self._history = _History()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: RVCModule, outputs: dict[str, Any], batch: Any, batch_idx: int
    ) -> None:
        """Add the generator's losses to the sum of the epoch, on the device."""
        if self.settings.rule == "classic":
            losses: list[StepLoss] = outputs["losses"]
            totals = [loss.value.float() for loss in losses if loss.name == "generator"]
            self._history.epoch_sum = self._history.epoch_sum + torch.stack(totals).sum()
            self._history.epoch_batches += len(totals)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: RVCModule) -> None:
        """Check the mean loss of the epoch (classic)."""
        history = self._history
        if self.settings.rule == "classic" and history.epoch_batches:
            mean = torch.as_tensor(history.epoch_sum / history.epoch_batches, device=pl_module.device)
            self._check(trainer, pl_module, "the generator's loss", float(trainer.strategy.reduce(mean)))
            history.epoch_sum, history.epoch_batches = 0.0, 0

    def on_validation_end(self, trainer: Trainer, pl_module: RVCModule) -> None:
        """Check the metric of the validation (held_out)."""
        value = trainer.callback_metrics.get(self.settings.monitor)
        if self.settings.rule == "held_out" and value is not None and not trainer.sanity_checking:
            self._check(trainer, pl_module, self.settings.monitor, float(value))

    def _check(self, trainer: Trainer, pl_module: RVCModule, name: str, value: float) -> None:
        if not math.isfinite(value):
            return
        history = self._history
        if self._improves(value):
            history.best_epoch, history.best_step = trainer.current_epoch, pl_module.optimizer_steps
            history.since_best = history.since_action = 0
            return
        history.since_best += 1
        history.since_action += 1
        if history.since_action >= self.settings.patience and not self._is_falling():
            history.since_action = 0
            self._act(trainer, name)

    def _improves(self, value: float) -> bool:
        """Add a value, and return whether it or the smoothed value is a new minimum."""
        history, keep, min_delta = self._history, self.settings.smoothing, self.settings.min_delta
        history.recent = [*history.recent, value][-(self.settings.patience + 1) :]
        history.weighted_sum = keep * history.weighted_sum + (1 - keep) * value
        history.weight = keep * history.weight + (1 - keep)
        lower_smoothed, lower = history.smoothed < history.best - min_delta, value < history.lowest - min_delta
        history.best = history.smoothed if lower_smoothed else history.best
        history.lowest = value if lower else history.lowest
        return lower_smoothed or lower

    def _is_falling(self) -> bool:
        """Return whether the later half of the recent values is lower than the earlier half."""
        values = self._history.recent
        middle = len(values) // 2
        return median(values[middle:]) < median(values[:middle]) - self.settings.min_delta

    def _act(self, trainer: Trainer, name: str) -> None:
        history, stops = self._history, self.settings.action == "stop"
        trainer.should_stop = trainer.should_stop or stops
        monitors = [callback.monitor for callback in callbacks_of(trainer, ModelCheckpoint) if callback.monitor]
        _warn_once(
            "Overtraining? %s has not improved for %d %s since epoch %d (step %d): the best smoothed value was %.4f, "
            "the last one is %.4f. Training %s%s",
            name,
            history.since_best,
            "validations" if self.settings.rule == "held_out" else "epochs",
            history.best_epoch,
            history.best_step,
            history.best,
            history.smoothed,
            "stops" if stops else "continues",
            f"; the checkpoint with the best {monitors[0]} is kept" if monitors else "",
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the state to resume, as plain values."""
        return asdict(self._history) | {"epoch_sum": float(self._history.epoch_sum)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state; that of an earlier version is ignored."""
        if state_dict.keys() == asdict(_History()).keys():
            self._history = _History(**state_dict)

    @property
    def state_key(self) -> str:
        """Key of the state by rule and metric: values of another metric cannot be compared."""
        return self._generate_state_key(rule=self.settings.rule, monitor=self.settings.monitor)
