"""Averaged weights: the voice that is judged and exported is a running mean of the one that is trained."""

from __future__ import annotations

import logging
from typing import Any, cast

from lightning import Callback, Trainer
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from rvc_lightning.config.validation import check_number
from rvc_lightning.errors import ConfigurationError
from rvc_lightning.models import Synthesizer
from rvc_lightning.training.checkpoints import AVERAGED_KEY
from rvc_lightning.training.module import RVCModule

log = logging.getLogger(__name__)

NOT_SHARDED = (
    "callbacks.ema averages whole weights, which no device has under fsdp: add callbacks=default, or use strategy=ddp"
)


class AveragedWeights(Callback):
    """Exponential moving average of the synthesizer's weights, updated once a step.

    Validation and samples use the average, training does not notice it. A checkpoint holds both; the average is what
    export takes. The average of n steps decays by min(decay, (1 + n) / (10 + n)), so that the first, random weights
    are forgotten soon.

    Lightning's own callback averages the whole module, the discriminator too, and ends a training by overwriting its
    weights, from where no run can go on exactly.
    """

    def __init__(self, decay: float) -> None:
        """`decay`: share of the average that a step keeps, 0 to 1.

        Raises:
            ConfigurationError: It lies outside.
        """
        check_number("callbacks.ema.decay", decay)
        if not 0 < decay < 1:
            raise ConfigurationError(f"callbacks.ema.decay={decay}: choose a number between 0 and 1, such as 0.999")
        self.decay = decay
        self._average: AveragedModel | None = None
        self._loaded: dict[str, Tensor] | None = None
        self._trained: Synthesizer | None = None

    def setup(self, trainer: Trainer, pl_module: RVCModule, stage: str) -> None:  # type: ignore[override]
        """Refuses strategies that keep only a part of the weights on each device.

        Raises:
            ConfigurationError: The strategy shards the weights.
        """
        if isinstance(trainer.strategy, FSDPStrategy | ModelParallelStrategy):
            raise ConfigurationError(NOT_SHARDED)

    def on_train_start(self, trainer: Trainer, pl_module: RVCModule) -> None:  # type: ignore[override]
        """Begins with the weights as they are, or with the average of the checkpoint."""
        self._average = AveragedModel(pl_module.synthesizer, multi_avg_fn=self._update)
        self._average.requires_grad_(False).eval()
        if self._loaded is not None:
            self._average.load_state_dict(self._loaded)
            self._loaded = None
        elif pl_module.optimizer_steps:
            log.warning("The checkpoint has no averaged weights: the average begins with the trained ones")

    def _update(self, averaged: Any, trained: Any, n_averaged: Tensor | int) -> None:
        assert self._average is not None
        # Ours, on the host: the argument is a copy on the device, and reading it would wait for the step.
        seen = int(self._average.n_averaged)
        get_ema_multi_avg_fn(min(self.decay, (1 + seen) / (10 + seen)))(averaged, trained, n_averaged)

    def on_train_batch_end(self, trainer: Trainer, pl_module: RVCModule, *args: Any) -> None:  # type: ignore[override]
        """Takes in the weights of the step."""
        assert self._average is not None
        self._average.update_parameters(pl_module.synthesizer)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: RVCModule) -> None:  # type: ignore[override]
        """Puts the average in the place of the trained networks."""
        if self._average is not None:
            self._trained, pl_module.synthesizer = pl_module.synthesizer, cast(Synthesizer, self._average.module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: RVCModule) -> None:  # type: ignore[override]
        """Puts the trained networks back."""
        if self._trained is not None:
            pl_module.synthesizer, self._trained = self._trained, None

    def on_save_checkpoint(self, trainer: Trainer, pl_module: RVCModule, checkpoint: dict[str, Any]) -> None:  # type: ignore[override]
        """Adds the average."""
        if self._average is not None:
            checkpoint[AVERAGED_KEY] = self._average.state_dict()

    def on_load_checkpoint(self, trainer: Trainer, pl_module: RVCModule, checkpoint: dict[str, Any]) -> None:  # type: ignore[override]
        """Keeps the average until the networks are on their device."""
        self._loaded = checkpoint.get(AVERAGED_KEY)
