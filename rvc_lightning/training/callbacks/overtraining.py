"""Detects overtraining, and warns or stops the run."""

from __future__ import annotations

import logging
import math
from collections import deque
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from lightning import Callback, Trainer
from torch import Tensor

from rvc_lightning.config.options import Settings, option
from rvc_lightning.training.module import RVCModule, StepLoss

log = logging.getLogger(__name__)

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


class Overtraining(Callback):
    """Watches a value that should fall, and acts once it has not fallen for `patience` checks.

    The rule `held_out` checks a metric after each validation: only held-out recordings show that a voice is memorized.
    The rule `classic` is that of other RVC tools: it checks the generator's loss on training data after each epoch, as
    the mean over its batches.

    An improvement is a new minimum of the smoothed value, or of the value itself: the smoothed value lags behind, and
    further after outliers. There is no action either while the values of the last `patience` checks fall. Values that
    are not finite are ignored.

    The exported voice does not depend on this callback: it is the checkpoint with the best validation.
    """

    def __init__(self, **settings: Any) -> None:
        """Initialize the callback with the values of `OvertrainingSettings`. Raises ConfigurationError."""
        self.settings = OvertrainingSettings.from_values(settings)
        self._recent: deque[float] = deque(maxlen=self.settings.patience + 1)
        # The smoothed value is their ratio: without the weight, the first value would dominate short histories.
        self._weighted_sum, self._weight = 0.0, 0.0
        self._best, self._best_epoch, self._best_step = math.inf, 0, 0
        self._lowest = math.inf
        self._since_best, self._since_action = 0, 0
        self._epoch_sum: Tensor | float = 0.0
        self._epoch_batches = 0

    # ------------------------------------------------------------------ values

    def on_train_batch_end(  # type: ignore[override]
        self, trainer: Trainer, pl_module: RVCModule, outputs: dict[str, Any], batch: Any, batch_idx: int
    ) -> None:
        """Add the generator's losses to the sum of the epoch, on the device."""
        if self.settings.rule == "classic":
            losses: list[StepLoss] = outputs["losses"]
            totals = [loss.value.float() for loss in losses if loss.name == "generator"]
            self._epoch_sum = self._epoch_sum + torch.stack(totals).sum()
            self._epoch_batches += len(totals)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: RVCModule) -> None:  # type: ignore[override]
        """Check the mean loss of the epoch (classic)."""
        if self.settings.rule == "classic" and self._epoch_batches:
            mean = torch.as_tensor(self._epoch_sum / self._epoch_batches, device=pl_module.device)
            self._check(trainer, pl_module, "the generator's loss", float(trainer.strategy.reduce(mean)))
            self._epoch_sum, self._epoch_batches = 0.0, 0

    def on_validation_end(self, trainer: Trainer, pl_module: RVCModule) -> None:  # type: ignore[override]
        """Check the metric of the validation (held_out)."""
        value = trainer.callback_metrics.get(self.settings.monitor)
        if self.settings.rule == "held_out" and value is not None and not trainer.sanity_checking:
            self._check(trainer, pl_module, self.settings.monitor, float(value))

    # ------------------------------------------------------------------ decision

    @property
    def _smoothed(self) -> float:
        return self._weighted_sum / self._weight

    def _check(self, trainer: Trainer, pl_module: RVCModule, name: str, value: float) -> None:
        if not math.isfinite(value):
            return
        if self._improves(value):
            self._best_epoch, self._best_step = trainer.current_epoch, pl_module.optimizer_steps
            self._since_best = self._since_action = 0
            return
        self._since_best += 1
        self._since_action += 1
        if self._since_action >= self.settings.patience and not self._falls():
            self._since_action = 0
            self._act(trainer, name)

    def _improves(self, value: float) -> bool:
        """Add a value, and return whether it or the smoothed value is a new minimum."""
        keep, min_delta = self.settings.smoothing, self.settings.min_delta
        self._recent.append(value)
        self._weighted_sum, self._weight = (
            keep * self._weighted_sum + (1 - keep) * value,
            keep * self._weight + (1 - keep),
        )
        lower_smoothed, lower = self._smoothed < self._best - min_delta, value < self._lowest - min_delta
        self._best = self._smoothed if lower_smoothed else self._best
        self._lowest = value if lower else self._lowest
        return lower_smoothed or lower

    def _falls(self) -> bool:
        """Return whether the later half of the recent values is lower than the earlier half."""
        values = list(self._recent)
        middle = len(values) // 2
        return median(values[middle:]) < median(values[:middle]) - self.settings.min_delta

    def _act(self, trainer: Trainer, name: str) -> None:
        checks = "validations" if self.settings.rule == "held_out" else "epochs"
        stops = self.settings.action == "stop"
        trainer.should_stop = trainer.should_stop or stops
        log.warning(
            "Overtraining? %s has not improved for %d %s since epoch %d (step %d): the best smoothed value was %.4f, "
            "the last one is %.4f. Training %s; the checkpoint with the best validation is kept",
            name, self._since_best, checks, self._best_epoch, self._best_step, self._best, self._smoothed,
            "stops" if stops else "continues",
        )  # fmt: skip

    # ------------------------------------------------------------------ checkpoints

    def state_dict(self) -> dict[str, Any]:
        """Return the state to resume, as plain values."""
        values = {name: getattr(self, f"_{name}") for name in _STATE}
        return values | {"recent": list(self._recent), "epoch_sum": float(self._epoch_sum)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state; that of an earlier version is ignored."""
        if state_dict.keys() != {*_STATE, "recent", "epoch_sum"}:
            return
        for name in (*_STATE, "epoch_sum"):
            setattr(self, f"_{name}", state_dict[name])
        self._recent.extend(state_dict["recent"])

    @property
    def state_key(self) -> str:
        """Key of the state by rule and metric: values of another metric cannot be compared."""
        return self._generate_state_key(rule=self.settings.rule, monitor=self.settings.monitor)


_STATE = (
    *("weighted_sum", "weight", "best", "best_epoch", "best_step", "lowest"),
    *("since_best", "since_action", "epoch_batches"),
)
