"""Training of the speaker network: classify the speakers of a corpus with an additive margin.

Source: F. Wang et al., "Additive Margin Softmax for Face Verification", 2018.

Legend: B excerpts, J spectra of 10 ms, M mel bands, S speakers, E channels of an embedding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional

from rvc_lightning.config.options import Settings, option
from rvc_lightning.content.phonetic import PhoneticEncoder
from rvc_lightning.errors import ConfigurationError
from rvc_lightning.models.speaker import SpeakerConfig, SpeakerNetwork

_EQUALIZER_NODES = 6


@dataclass(frozen=True, kw_only=True)
class SpeakerTrainingConfig(Settings, group="model.training"):
    """Hyperparameters of the training; the defaults are in `conf/pretraining_speaker.yaml`."""

    lr: float = option(help="learning rate of the first step; it decays along a cosine", min=0)
    weight_decay: float = option(help="weight decay of AdamW", min=0)
    scale: float = option(help="factor of the cosine similarities", min=0)
    margin: float = option(help="margin that the similarity of the right speaker must exceed", min=0, max=1)
    equalizer: float = option(help="standard deviation of the random gain over the band, in log-mel units", min=0)


class SpeakerTraining(LightningModule):
    """Train the speaker network as a classifier of the speakers of a corpus."""

    def __init__(self, sizes: Mapping[str, Any], training: Mapping[str, Any], n_speakers: int) -> None:
        """Build the network.

        Args:
            sizes: Fields of `SpeakerConfig`, except for the mel bands, which are those of the phonetic encoder.
            training: Fields of `SpeakerTrainingConfig`.
            n_speakers: S.
        """
        super().__init__()
        n_mels = PhoneticEncoder().network.config.n_mels
        self.network = SpeakerNetwork(SpeakerConfig.from_values({**sizes, "n_mels": n_mels}))
        self.training_config = SpeakerTrainingConfig.from_values(training)
        self.speakers = nn.Parameter(0.1 * torch.randn(n_speakers, self.network.config.embedding))

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """Return the loss of excerpts [B, J, M] and speakers [B]."""
        log_mel, speaker = batch
        config = self.training_config
        nodes = config.equalizer * torch.randn(len(log_mel), 1, _EQUALIZER_NODES, device=log_mel.device)
        gain = functional.interpolate(nodes, log_mel.shape[2], mode="linear", align_corners=True)
        similarity = self.network(log_mel + gain) @ functional.normalize(self.speakers, dim=1).T
        margin = config.margin * functional.one_hot(speaker, len(self.speakers))
        loss = functional.cross_entropy(config.scale * (similarity - margin), speaker)
        error = (similarity.argmax(1) != speaker).float().mean()
        self.log("train/loss", loss, prog_bar=True)
        self.log("train/error", error, prog_bar=True, on_step=False, on_epoch=True, sync_dist=True)
        return loss

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return AdamW with a cosine decay over all steps. Raises ConfigurationError without a number of steps."""
        config, steps = self.training_config, self.trainer.estimated_stepping_batches
        if math.isinf(steps):
            raise ConfigurationError(
                "trainer.max_epochs=-1: choose a number of epochs, over which the learning rate decays"
            )
        optimizer = torch.optim.AdamW(self.parameters(), config.lr, weight_decay=config.weight_decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, int(steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
