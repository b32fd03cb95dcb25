"""Exponential moving average of the weights, which is validated and exported."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, cast

from lightning import Callback, Trainer
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from rvc_lightning.config.options import Settings, option
from rvc_lightning.models import Synthesizer
from rvc_lightning.training.checkpoints import AVERAGED_KEY
from rvc_lightning.training.module import RVCModule

_warn_once = rank_zero_only(logging.getLogger(__name__).warning)


@dataclass(frozen=True, kw_only=True)
class AveragedSettings(Settings, group="callbacks.ema"):
    """Settings of `AveragedWeights`."""

    decay: float = option(help="Share of the average that a step keeps", min=0, max=1)


class AveragedWeights(Callback):
    """Exponential moving average of the synthesizer's weights, updated at every step.

    Validation and samples use the average; training does not depend on it. A checkpoint contains both, and export uses
    the average. After n steps the decay is min(decay, (1 + n) / (10 + n)), which soon forgets the initial weights.

    Lightning's own callback averages the whole module with the discriminator, and replaces the weights at the end of
    the training, after which no exact resume is possible. Sharded weights cannot be averaged.
    """

    def __init__(self, **settings: Any) -> None:
        """Initialize the callback with the values of `AveragedSettings`. Raises ConfigurationError."""
        self.settings = AveragedSettings.from_values(settings)
        self._average: AveragedModel | None = None
        self._loaded: dict[str, Tensor] | None = None
        self._trained: Synthesizer | None = None

    def on_train_start(self, trainer: Trainer, pl_module: RVCModule) -> None:
        """Start from the average of the checkpoint, or else from the current weights."""
        self._average = AveragedModel(pl_module.synthesizer, multi_avg_fn=self._update)
        self._average.requires_grad_(False).eval()
        if self._loaded is not None:
            self._average.load_state_dict(self._loaded)
            self._loaded = None
        elif trainer.ckpt_path is not None:
            _warn_once("The checkpoint has no averaged weights: averaging starts from the trained ones")

    def _update(self, averaged: Any, trained: Any, n_averaged: Tensor | int) -> None:
        assert self._average is not None
        # Not `n_averaged`, which is on the device: reading it would wait for the step.
        steps = int(self._average.n_averaged)
        get_ema_multi_avg_fn(min(self.settings.decay, (1 + steps) / (10 + steps)))(averaged, trained, n_averaged)

    def on_train_batch_end(self, trainer: Trainer, pl_module: RVCModule, *args: Any) -> None:
        """Add the weights of the step."""
        assert self._average is not None
        self._average.update_parameters(pl_module.synthesizer)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: RVCModule) -> None:
        """Replace the trained synthesizer by the averaged one."""
        if self._average is not None:
            self._trained, pl_module.synthesizer = pl_module.synthesizer, cast(Synthesizer, self._average.module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: RVCModule) -> None:
        """Restore the trained synthesizer."""
        if self._trained is not None:
            pl_module.synthesizer, self._trained = self._trained, None

    def on_save_checkpoint(self, trainer: Trainer, pl_module: RVCModule, checkpoint: dict[str, Any]) -> None:
        """Add the average."""
        if self._average is not None:
            checkpoint[AVERAGED_KEY] = self._average.state_dict()

    def on_load_checkpoint(self, trainer: Trainer, pl_module: RVCModule, checkpoint: dict[str, Any]) -> None:
        """Keep the average until the networks are on their device."""
        self._loaded = checkpoint.get(AVERAGED_KEY)
