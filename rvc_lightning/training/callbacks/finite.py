"""Stops a training whose values are no longer finite, and says where it began."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from lightning import Callback, Trainer
from torch import Tensor, nn

from rvc_lightning.config.validation import check_whole
from rvc_lightning.data.datamodule import RVCDataModule
from rvc_lightning.errors import DivergenceError
from rvc_lightning.training.callbacks.last_checkpoint import LastCheckpoint
from rvc_lightning.training.module import RVCModule, StepLoss

_MOST_NAMES = 8


class _Noted(NamedTuple):
    """A loss that nobody has looked at yet."""

    step: int
    epoch: int
    loss: StepLoss


class FiniteGuard(Callback):
    """Looks for losses and weights that are NaN or infinite, and ends the run before it saves any.

    Losses are noted every step and looked at every few, so that training does not wait for the device; the first bad
    one is named all the same. Gradients are not looked at: under 16-mixed, infinite ones are normal, and their step
    is skipped.
    """

    def __init__(self, check_every_n_steps: int) -> None:
        """`check_every_n_steps`: steps between two looks; before a checkpoint is saved there is one more.

        Raises:
            ConfigurationError: It is no whole number from 1 up.
        """
        check_whole("callbacks.finite.check_every_n_steps", check_every_n_steps, 1)
        self.check_every_n_steps = check_every_n_steps
        self._noted: list[_Noted] = []
        self._last: StepLoss | None = None

    def on_train_batch_end(  # type: ignore[override]
        self, trainer: Trainer, pl_module: RVCModule, outputs: dict[str, Any], batch: Any, batch_idx: int
    ) -> None:
        """Notes the losses of the step; looks at them if it is time."""
        step = pl_module.optimizer_steps
        self._noted += [_Noted(step, trainer.current_epoch, loss) for loss in outputs["losses"]]
        if step % self.check_every_n_steps == 0:
            self._look(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: RVCModule) -> None:  # type: ignore[override]
        """Looks at what was measured.

        Raises:
            DivergenceError: A loss, or the distance to held-out speech, is not finite.
        """
        if trainer.sanity_checking:
            return
        self._look(trainer)
        distance = trainer.callback_metrics.get("val/mel")
        if distance is not None and not distance.isfinite():
            raise DivergenceError(
                f"val/mel is {float(distance)} after step {pl_module.optimizer_steps}, while the losses are finite: "
                f"a held-out recording is damaged, or the networks are. {_remedies(trainer)}"
            )

    def on_save_checkpoint(self, trainer: Trainer, pl_module: RVCModule, checkpoint: dict[str, Any]) -> None:  # type: ignore[override]
        """Looks at all losses so far and at the weights.

        Raises:
            DivergenceError: One is not finite; nothing is saved then.
        """
        self._look(trainer)
        if bad := _not_finite(checkpoint["state_dict"].items()):
            last = self._last
            where = "" if last is None else f", which looked at {_names(trainer, last.ids)}"
            raise DivergenceError(
                f"the weights '{bad[0]}' ({len(bad)} in all) are not finite after step {pl_module.optimizer_steps}"
                f"{where}; all losses were finite. {_remedies(trainer)}"
            )

    def _look(self, trainer: Trainer) -> None:
        """Raises DivergenceError if a noted loss is not finite, on all ranks together."""
        noted, self._noted = self._noted, []
        if noted:
            self._last = noted[-1].loss
        here = bool(noted) and not bool(torch.stack([note.loss.value for note in noted]).isfinite().all())
        if not trainer.strategy.reduce_boolean_decision(here, all=False):
            return
        if not here:
            raise DivergenceError(f"training diverged on another rank, see its message. {_remedies(trainer)}")
        step, epoch, loss = next(note for note in noted if not bool(note.loss.value.isfinite()))
        raise DivergenceError(
            f"the loss '{loss.name}' became {float(loss.value)} in step {step} (epoch {epoch}), in the batch of "
            f"{_names(trainer, loss.ids)}. {_remedies(trainer)}"
        )


def _not_finite(tensors: Iterable[tuple[str, Any]]) -> list[str]:
    """Names of tensors with a value that is not finite; one look at the device where there is none."""
    floating = {name: tensor for name, tensor in tensors if isinstance(tensor, Tensor) and tensor.is_floating_point()}
    if not floating or bool(nn.utils.get_total_norm(list(floating.values())).isfinite()):
        return []
    return [name for name, tensor in floating.items() if not bool(tensor.isfinite().all())]


def _names(trainer: Trainer, ids: tuple[str, ...]) -> str:
    """The slices and the recordings that they are of."""
    data = getattr(trainer, "datamodule", None)
    rows = data.training_rows if isinstance(data, RVCDataModule) else []
    bad = set(ids)
    recordings = sorted({row.recording for row in rows if row.id in bad})
    slices = f"the slices {_listed(ids)}"
    return f"{slices} of the recordings {_listed(recordings)}" if recordings else slices


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(f"'{name}'" for name in names[:_MOST_NAMES]) + more


def _remedies(trainer: Trainer) -> str:
    """What to do, and from where to go on."""
    kept = [callback.path for callback in trainer.callbacks if isinstance(callback, LastCheckpoint)]  # type: ignore[attr-defined]
    there = [path for path in kept if path.is_file()]
    go_on = f", and go on with checkpoint={there[0].parent}" if there else ""
    return (
        "Nothing of it was saved. Listen to the recordings and take damaged ones away; or lower optimizer.lr, set "
        f"model.gradient_clip_val, or use precision=32-true or bf16-mixed instead of 16-mixed{go_on}"
    )
