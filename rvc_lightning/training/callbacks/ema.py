"""Exponential moving average of the weights, which is validated and exported."""

from __future__ import annotations

import logging
from typing import Any, cast

from lightning import Callback, Trainer
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from rvc_lightning.errors import ConfigurationError
from rvc_lightning.models import Synthesizer
from rvc_lightning.training.checkpoints import AVERAGED_KEY
from rvc_lightning.training.module import RVCModule

log = logging.getLogger(__name__)

NOT_SHARDED = (
    "callbacks.ema averages unsharded weights, which strategy=fsdp does not keep: use callbacks=default or strategy=ddp"
)


class AveragedWeights(Callback):
    """Exponential moving average of the synthesizer's weights, updated at every step.

    Validation and samples use the average; training does not depend on it. A checkpoint contains both, and export uses
    the average. After n steps the decay is min(decay, (1 + n) / (10 + n)), which soon forgets the initial weights.

    Lightning's own callback averages the whole module with the discriminator, and replaces the weights at the end of
    the training, after which no exact resume is possible.
    """

    def __init__(self, decay: float) -> None:
        """Initialize the callback.

        Args:
            decay: Share of the average that a step keeps, 0 to 1.

        Raises:
            ValueError: The decay is out of range.
        """
        get_ema_multi_avg_fn(decay)
        self.decay = decay
        self._average: AveragedModel | None = None
        self._loaded: dict[str, Tensor] | None = None
        self._trained: Synthesizer | None = None

    def setup(self, trainer: Trainer, pl_module: RVCModule, stage: str) -> None:  # type: ignore[override]
        """Raise ConfigurationError if the strategy shards the weights."""
        if isinstance(trainer.strategy, ModelParallelStrategy):
            raise ConfigurationError(NOT_SHARDED)

    def on_train_start(self, trainer: Trainer, pl_module: RVCModule) -> None:  # type: ignore[override]
        """Start from the average of the checkpoint, or else from the current weights."""
        self._average = AveragedModel(pl_module.synthesizer, multi_avg_fn=self._update)
        self._average.requires_grad_(False).eval()
        if self._loaded is not None:
            self._average.load_state_dict(self._loaded)
            self._loaded = None
        elif pl_module.optimizer_steps:
            log.warning("The checkpoint has no averaged weights: averaging starts from the trained ones")

    def _update(self, averaged: Any, trained: Any, n_averaged: Tensor | int) -> None:
        assert self._average is not None
        # Not `n_averaged`, which is on the device: reading it would wait for the step.
        steps = int(self._average.n_averaged)
        get_ema_multi_avg_fn(min(self.decay, (1 + steps) / (10 + steps)))(averaged, trained, n_averaged)

    def on_train_batch_end(self, trainer: Trainer, pl_module: RVCModule, *args: Any) -> None:  # type: ignore[override]
        """Add the weights of the step."""
        assert self._average is not None
        self._average.update_parameters(pl_module.synthesizer)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: RVCModule) -> None:  # type: ignore[override]
        """Replace the trained synthesizer by the averaged one."""
        if self._average is not None:
            self._trained, pl_module.synthesizer = pl_module.synthesizer, cast(Synthesizer, self._average.module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: RVCModule) -> None:  # type: ignore[override]
        """Restore the trained synthesizer."""
        if self._trained is not None:
            pl_module.synthesizer, self._trained = self._trained, None

    def on_save_checkpoint(self, trainer: Trainer, pl_module: RVCModule, checkpoint: dict[str, Any]) -> None:  # type: ignore[override]
        """Add the average."""
        if self._average is not None:
            checkpoint[AVERAGED_KEY] = self._average.state_dict()

    def on_load_checkpoint(self, trainer: Trainer, pl_module: RVCModule, checkpoint: dict[str, Any]) -> None:  # type: ignore[override]
        """Keep the average until the networks are on their device."""
        self._loaded = checkpoint.get(AVERAGED_KEY)
