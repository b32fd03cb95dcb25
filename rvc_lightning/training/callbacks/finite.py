"""Stop a training when a loss or a weight is not finite, and report the first one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from lightning import Callback, Trainer
from torch import Tensor, nn

from rvc_lightning.cli.overrides import format_override
from rvc_lightning.config.options import Settings, option
from rvc_lightning.data.datamodule import RVCDataModule
from rvc_lightning.errors import DivergenceError
from rvc_lightning.io.processes import quote_argument
from rvc_lightning.training.callbacks.last_checkpoint import LastCheckpoint
from rvc_lightning.training.lightning_adapter import callbacks_of
from rvc_lightning.training.module import RVCModule, StepLoss

_MAX_NAMES = 8


@dataclass(frozen=True, kw_only=True)
class FiniteSettings(Settings, group="callbacks.finite"):
    """Settings of `FiniteGuard`."""

    check_every_n_steps: int = option(help="Steps between checks, in addition to one before each checkpoint", min=1)


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

    def __init__(self, **settings: Any) -> None:
        """Initialize the callback with the values of `FiniteSettings`. Raises ConfigurationError."""
        self.settings = FiniteSettings.from_values(settings)
        self._pending: list[_Pending] = []
        self._last_ids: tuple[str, ...] = ()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: RVCModule, outputs: dict[str, Any], batch: Any, batch_idx: int
    ) -> None:
        """Collect the losses of the step, and check them at every few steps."""
        step, losses = pl_module.optimizer_steps, outputs["losses"]
        self._pending += [_Pending(step, trainer.current_epoch, loss) for loss in losses]
        self._last_ids = losses[-1].ids
        if step % self.settings.check_every_n_steps == 0:
            self._check(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: RVCModule) -> None:
        """Check the losses and the distance to held-out speech."""
        if trainer.sanity_checking:
            return
        if (distance := trainer.callback_metrics.get("val/mel")) is not None:
            loss = StepLoss("val/mel", torch.as_tensor(distance, device=pl_module.device), ())
            self._pending.append(_Pending(pl_module.optimizer_steps, trainer.current_epoch, loss))
        self._check(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: RVCModule, checkpoint: dict[str, Any]) -> None:
        """Check the losses and the weights; nothing is saved if one is not finite."""
        self._check(trainer)
        if bad := _not_finite(checkpoint["state_dict"]):
            raise DivergenceError(
                f"the weights '{bad[0]}' ({len(bad)} in all) are not finite after step {pl_module.optimizer_steps}"
                f"{_describe(trainer, self._last_ids)}; all losses were finite. {_advice(trainer)}"
            )

    def _check(self, trainer: Trainer) -> None:
        """Raise DivergenceError on all ranks together if a loss is not finite."""
        pending, self._pending = self._pending, []
        bad = bool(pending) and not bool(torch.stack([item.loss.value for item in pending]).isfinite().all())
        if trainer.strategy.reduce_boolean_decision(bad, all=False):
            reason = _first_bad(trainer, pending) if bad else "training diverged on another rank, see its message"
            raise DivergenceError(f"{reason}. {_advice(trainer)}")


def _first_bad(trainer: Trainer, pending: Sequence[_Pending]) -> str:
    step, epoch, loss = next(item for item in pending if not bool(item.loss.value.isfinite()))
    where = _describe(trainer, loss.ids)
    return f"the loss '{loss.name}' became {float(loss.value)} in step {step} (epoch {epoch}){where}"


def _not_finite(weights: dict[str, Any]) -> list[str]:
    """Return the names of tensors that are not finite; if all are finite, synchronize with the device only once."""
    tensors = {name: value for name, value in weights.items() if isinstance(value, Tensor)}
    floating = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
    if not floating or bool(nn.utils.get_total_norm(list(floating.values())).isfinite()):
        return []
    return [name for name, tensor in floating.items() if not bool(tensor.isfinite().all())]


def _describe(trainer: Trainer, ids: tuple[str, ...]) -> str:
    """Return text that names the slices of a batch and their recordings; '' without slices."""
    data = getattr(trainer, "datamodule", None)
    rows = data.training_rows if isinstance(data, RVCDataModule) else []
    recordings = sorted({row.recording for row in rows if row.id in set(ids)})
    slices = f", in the batch of the slices {_join(ids)}" if ids else ""
    return f"{slices} of the recordings {_join(recordings)}" if recordings else slices


def _join(names: Iterable[str]) -> str:
    names = list(names)
    omitted = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return ", ".join(f"'{name}'" for name in names[:_MAX_NAMES]) + omitted


def _advice(trainer: Trainer) -> str:
    """Return how to avoid the divergence, and how to resume."""
    paths = [callback.path for callback in callbacks_of(trainer, LastCheckpoint) if callback.path.is_file()]
    resume = f", and resume with {quote_argument(format_override('checkpoint', paths[0].parent))}" if paths else ""
    return (
        "This state was not saved. Listen to the recordings and remove damaged ones; or lower optimizer.lr, set "
        f"model.gradient_clip_val, or use precision=32-true or bf16-mixed instead of 16-mixed{resume}"
    )
