"""Training of the phonetic encoder: phones, and the same content from whoever says it.

Letters: N pairs, F frames, C channels, A anchors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn import functional

from rvc_lightning.content.phonetic import load_network
from rvc_lightning.errors import ConfigurationError
from rvc_lightning.models.phonetic import PhoneticConfig, PhoneticNetwork, mel_filters
from rvc_lightning.pretraining.augment import AugmentConfig
from rvc_lightning.pretraining.data import NO_FRAME, Pairs

_SPEAKERS = 25
_NEIGHBOURS = 3


@dataclass(frozen=True)
class PhoneticTrainingConfig:
    """How the encoder is trained.

    Attributes:
        lr: Highest learning rate.
        weight_decay: Of AdamW.
        warmup_steps: Until `lr` is reached; it then falls to nothing along a cosine.
        agreement: Weight of the agreement between speakers, beside the phones' 1.
        temperature: Of the agreement.
        anchors: A, the moments of a batch that are told apart for it.
        label_smoothing: Of the phones.
    """

    lr: float = 2e-3
    weight_decay: float = 0.02
    warmup_steps: int = 200
    agreement: float = 0.5
    temperature: float = 0.1
    anchors: int = 512
    label_smoothing: float = 0.1


class PhoneticTraining(LightningModule):
    """Two losses: each frame's phone, and which of many moments said by one speaker is that said by another."""

    speakers: Tensor

    def __init__(
        self, sizes: Mapping[str, Any] | None = None, training: Mapping[str, Any] | None = None,
        augment: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """Makes the network.

        Args:
            sizes: Of `PhoneticConfig`.
            training: Of `PhoneticTrainingConfig`.
            augment: Of `AugmentConfig`.
        """
        super().__init__()
        self.network = PhoneticNetwork(PhoneticConfig.from_values(sizes or {}))
        self.training_config = PhoneticTrainingConfig(**training or {})
        self.augment = AugmentConfig(**augment or {})
        self.save_hyperparameters(
            {
                "sizes": asdict(self.network.config),
                "training": asdict(self.training_config),
                "augment": asdict(self.augment),
            }
        )
        ratios = torch.logspace(-1, 1, _SPEAKERS, self.augment.formants).tolist()
        filters = torch.stack([mel_filters(self.network.config.n_mels, ratio) for ratio in ratios])
        self.register_buffer("speakers", filters, persistent=False)

    def start_from(self, path: Path) -> None:
        """Takes the weights of an encoder.

        Raises:
            ConfigurationError: There is none at `path`, or it has other sizes.
        """
        network = load_network(path, "start_from")
        if network.config != self.network.config:
            raise ConfigurationError(f"start_from={path} has other sizes: {network.config}")
        self.network.load_state_dict(network.state_dict())

    def training_step(self, batch: Pairs, _: int) -> Tensor:
        """The sum of both losses."""
        wav16k = batch.wav16k.flatten(0, 1)
        speakers = self.speakers[torch.randint(_SPEAKERS, (len(wav16k),), device=wav16k.device)]
        log_mel = self._masked(self.network.log_mel(wav16k, speakers))
        phones, agreement = self._losses(*self._heard(log_mel, wav16k), batch)
        self.log_dict({"train/phones": phones, "train/agreement": agreement}, prog_bar=True)
        return phones + self.training_config.agreement * agreement

    def validation_step(self, batch: Pairs, _: int) -> None:
        """Share of frames with the wrong phone, and both losses."""
        wav16k = batch.wav16k.flatten(0, 1)
        below, log_phones = self._heard(self.network.log_mel(wav16k), wav16k)
        labels = batch.phones.flatten(0, 1)
        error = (log_phones.argmax(dim=2) != labels)[labels != NO_FRAME].float().mean()
        phones, agreement = self._losses(below, log_phones, batch)
        figures = {"val/frame_error": error, "val/phones": phones, "val/agreement": agreement}
        self.log_dict(figures, prog_bar=True, sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW, its rate rising and then falling over all steps of the trainer."""
        total = self.trainer.estimated_stepping_batches
        warmup = self.training_config.warmup_steps

        def share(step: int) -> float:
            return min((step + 1) / warmup, 0.5 + 0.5 * math.cos(math.pi * min(step / total, 1.0)))

        optimizer = torch.optim.AdamW(
            self.network.parameters(),
            self.training_config.lr,
            betas=(0.9, 0.98),
            weight_decay=self.training_config.weight_decay,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _heard(self, log_mel: Tensor, wav16k: Tensor) -> tuple[Tensor, Tensor]:
        return self.network.encode(log_mel, torch.full((len(wav16k),), wav16k.shape[1], device=wav16k.device))

    def _masked(self, log_mel: Tensor) -> Tensor:
        """Leaves out up to two bands and two times of some examples, [B, J, M] (Park et al. 2019)."""
        examples, spectra, bands = log_mel.shape
        masked = torch.rand(examples, 1, 1, device=log_mel.device) < self.augment.p_mask
        for _ in range(2):
            times, channels = _span(examples, spectra, 10, log_mel), _span(examples, bands, bands // 8, log_mel)
            log_mel = log_mel.masked_fill(masked & (times[:, :, None] | channels[:, None]), 0.0)
        return log_mel

    def _losses(self, below: Tensor, log_phones: Tensor, batch: Pairs) -> tuple[Tensor, Tensor]:
        """Of phones and of agreement, for what the network heard of 2 N examples."""
        phones = functional.cross_entropy(
            log_phones.flatten(0, 1).float(),
            batch.phones.flatten(),
            ignore_index=NO_FRAME,
            label_smoothing=self.training_config.label_smoothing,
        )
        content = self.network.content(below, log_phones)
        first, second = content.unflatten(0, (-1, 2)).float().unbind(1)
        return phones, self._agreement(first, second, batch.partners)

    def _agreement(self, first: Tensor, second: Tensor, partners: Tensor) -> Tensor:
        """Cross-entropy of finding a moment of one among many of the other (van den Oord et al. 2018), both ways.

        Frames of the same utterance within three of each other are no mistake for one another.
        """
        item, frame = (partners != NO_FRAME).nonzero(as_tuple=True)
        if not len(item):
            return first.sum() * 0
        chosen = torch.randperm(len(item), device=item.device)[: self.training_config.anchors]
        item, frame = item[chosen], frame[chosen]
        there = partners[item, frame]
        here, away = (functional.normalize(side, dim=1) for side in (first[item, frame], second[item, there]))
        similarity = here @ away.T / self.training_config.temperature
        near = (item[:, None] == item) & ((frame[:, None] - frame).abs() <= _NEIGHBOURS)
        near |= (item[:, None] == item) & ((there[:, None] - there).abs() <= _NEIGHBOURS)
        near.fill_diagonal_(False)
        similarity = similarity.masked_fill(near, -math.inf)
        target = torch.arange(len(item), device=item.device)
        return (functional.cross_entropy(similarity, target) + functional.cross_entropy(similarity.T, target)) / 2


def _span(examples: int, total: int, longest: int, like: Tensor) -> Tensor:
    """Boolean [examples, total], True within a stretch of up to `longest` somewhere."""
    length = torch.rand(examples, 1, device=like.device) * longest
    begin = torch.rand(examples, 1, device=like.device) * (total - length)
    position = torch.arange(total, device=like.device)
    return (position >= begin) & (position < begin + length)
