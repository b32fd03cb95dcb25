"""Stops a training whose values are not finite any more, and reports where that started."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from shlex import quote
from typing import Any, NamedTuple

import torch
from lightning import Callback, Trainer
from torch import Tensor, nn

from rvc_lightning.cli.overrides import format_override
from rvc_lightning.config.options import Settings, option
from rvc_lightning.data.datamodule import RVCDataModule
from rvc_lightning.errors import DivergenceError
from rvc_lightning.training.callbacks.last_checkpoint import LastCheckpoint
from rvc_lightning.training.module import RVCModule, StepLoss

_MAX_NAMES = 8


@dataclass(frozen=True, kw_only=True)
class FiniteSettings(Settings, group="callbacks.finite"):
    """Settings of `FiniteGuard`."""

    check_every_n_steps: int = option(help="Steps between checks; there is another before each checkpoint", min=1)


class _Pending(NamedTuple):
    """A loss that is not checked yet."""

    step: int
    epoch: int
    loss: StepLoss


class FiniteGuard(Callback):
    """Raises DivergenceError if a loss or a weight is NaN or infinite, before such a state is saved.

    Losses are collected at every step and checked every few steps, so that training does not wait for the device; the
    first bad one is reported all the same. Gradients are not checked: with 16-mixed, infinite ones are normal, and
    their step is skipped.
    """

    def __init__(self, check_every_n_steps: int) -> None:
        """Initialize the callback; the argument is described in `FiniteSettings`. Raises ConfigurationError."""
        self.settings = FiniteSettings(check_every_n_steps=check_every_n_steps)
        self._pending: list[_Pending] = []
        self._last: StepLoss | None = None

    def on_train_batch_end(  # type: ignore[override]
        self, trainer: Trainer, pl_module: RVCModule, outputs: dict[str, Any], batch: Any, batch_idx: int
    ) -> None:
        """Collect the losses of the step, and check them at every few steps."""
        step = pl_module.optimizer_steps
        self._pending += [_Pending(step, trainer.current_epoch, loss) for loss in outputs["losses"]]
        if step % self.settings.check_every_n_steps == 0:
            self._check(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: RVCModule) -> None:  # type: ignore[override]
        """Raise DivergenceError if a loss, or the distance to held-out speech, is not finite."""
        if trainer.sanity_checking:
            return
        self._check(trainer)
        distance = trainer.callback_metrics.get("val/mel")
        if distance is not None and not distance.isfinite():
            raise DivergenceError(
                f"val/mel is {float(distance)} after step {pl_module.optimizer_steps}, while the losses are finite: "
                f"a held-out recording is damaged, or the networks are. {_advice(trainer)}"
            )

    def on_save_checkpoint(self, trainer: Trainer, pl_module: RVCModule, checkpoint: dict[str, Any]) -> None:  # type: ignore[override]
        """Raise DivergenceError if a loss or a weight is not finite; nothing is saved then."""
        self._check(trainer)
        if bad := _not_finite(checkpoint["state_dict"].items()):
            where = "" if self._last is None else f", which used {_describe(trainer, self._last.ids)}"
            raise DivergenceError(
                f"the weights '{bad[0]}' ({len(bad)} in all) are not finite after step {pl_module.optimizer_steps}"
                f"{where}; all losses were finite. {_advice(trainer)}"
            )

    def _check(self, trainer: Trainer) -> None:
        """Raise DivergenceError on all ranks together if a loss is not finite."""
        pending, self._pending = self._pending, []
        if pending:
            self._last = pending[-1].loss
        bad = bool(pending) and not bool(torch.stack([one.loss.value for one in pending]).isfinite().all())
        if not trainer.strategy.reduce_boolean_decision(bad, all=False):
            return
        if not bad:
            raise DivergenceError(f"training diverged on another rank, see its message. {_advice(trainer)}")
        step, epoch, loss = next(one for one in pending if not bool(one.loss.value.isfinite()))
        raise DivergenceError(
            f"the loss '{loss.name}' became {float(loss.value)} in step {step} (epoch {epoch}), in the batch of "
            f"{_describe(trainer, loss.ids)}. {_advice(trainer)}"
        )


def _not_finite(tensors: Iterable[tuple[str, Any]]) -> list[str]:
    """Return the names of tensors that are not finite; if all are, the device is waited for only once."""
    floating = {name: tensor for name, tensor in tensors if isinstance(tensor, Tensor) and tensor.is_floating_point()}
    if not floating or bool(nn.utils.get_total_norm(list(floating.values())).isfinite()):
        return []
    return [name for name, tensor in floating.items() if not bool(tensor.isfinite().all())]


def _describe(trainer: Trainer, ids: tuple[str, ...]) -> str:
    """Return the names of slices and of their recordings."""
    data = getattr(trainer, "datamodule", None)
    rows = data.training_rows if isinstance(data, RVCDataModule) else []
    recordings = sorted({row.recording for row in rows if row.id in set(ids)})
    slices = f"the slices {_join(ids)}"
    return f"{slices} of the recordings {_join(recordings)}" if recordings else slices


def _join(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return ", ".join(f"'{name}'" for name in names[:_MAX_NAMES]) + more


def _advice(trainer: Trainer) -> str:
    """Return how to avoid the divergence, and how to resume."""
    paths = [one.path for one in trainer.callbacks if isinstance(one, LastCheckpoint)]  # type: ignore[attr-defined]
    resume = next(
        (f", and resume with {quote(format_override('checkpoint', path.parent))}" for path in paths if path.is_file()),
        "",
    )
    return (
        "Nothing of it was saved. Listen to the recordings and remove damaged ones; or lower optimizer.lr, set "
        f"model.gradient_clip_val, or use precision=32-true or bf16-mixed instead of 16-mixed{resume}"
    )
