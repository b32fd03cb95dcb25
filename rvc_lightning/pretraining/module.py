"""Training of the phonetic encoder: recognize phones, remove the speaker, and keep the details of articulation.

Legend: N pairs, T samples, F frames, C channels, A anchors, S speakers, M mel bands.
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
from torch import Tensor, nn
from torch.nn import functional

from rvc_lightning.audio.frames import CONTENT_REPEAT
from rvc_lightning.config.options import Settings, option
from rvc_lightning.content.phonetic import load_network
from rvc_lightning.errors import ConfigurationError
from rvc_lightning.models.phonetic import LOG_MEL_DEVIATION, PhoneticConfig, PhoneticNetwork, mel_filters
from rvc_lightning.pretraining.augment import AugmentConfig
from rvc_lightning.pretraining.data import NO_FRAME, Pairs
from rvc_lightning.pretraining.phones import PHONES

_WARPS = 25
"""Number of different vocal tract lengths."""
_NEIGHBOURS = 3
_SEGMENT_FRAMES = 50
_HIDDEN = 256
_SPEAKER_CHANNELS = 64
_CEPSTRA = 24
"""Cepstral coefficients of an envelope; pitch begins at higher ones."""
_DYNAMIC_RANGE = 14.0
"""Range of an envelope below its maximum, as a natural logarithm of power: 60 dB."""


@dataclass(frozen=True, kw_only=True)
class PhoneticTrainingConfig(Settings, group="model.training"):
    """Hyperparameters of the training; the defaults are in `conf/pretraining_train.yaml`."""

    lr: float = option(help="highest learning rate", min=0)
    weight_decay: float = option(help="weight decay of AdamW", min=0)
    warmup_steps: int = option(help="steps until `lr` is reached; it then decays along a cosine", min=1)
    agreement: float = option(help="weight of the agreement loss; that of the phones is 1", min=0)
    speaker: float = option(help="weight of the speaker loss, which removes the speaker from the content", min=0)
    envelope: float = option(help="weight of the envelope loss, which keeps details of articulation", min=0)
    temperature: float = option(help="temperature of the agreement loss", min=1e-3)
    anchors: int = option(help="A, frames of a batch in the agreement loss", min=1)
    label_smoothing: float = option(help="label smoothing of the phones", min=0, max=1)


class SpeakerClassifier(nn.Module):
    """Classify the speaker of a second of content; the gradient of the content is reversed (Ganin et al. 2016)."""

    def __init__(self, content_dim: int, n_speakers: int) -> None:
        super().__init__()
        self.frames = nn.Sequential(nn.Linear(content_dim, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, _HIDDEN), nn.ReLU())
        self.speakers = nn.Linear(_HIDDEN, n_speakers)

    def forward(self, content: Tensor) -> Tensor:
        """[B, F, C] -> logits [B, segments, S]."""
        reversed_gradient = 2 * content.detach() - content
        segments = self.frames(reversed_gradient).split(_SEGMENT_FRAMES, dim=1)
        return self.speakers(torch.stack([segment.mean(1) for segment in segments], dim=1))


class EnvelopeDecoder(nn.Module):
    """Predict spectral envelopes of speech from its content and its speaker.

    A voice cannot articulate details that its content features lack. Mean and deviation of the envelopes represent
    speaker and microphone, so that the content need not contain them (Huang and Belongie 2017).
    """

    def __init__(self, content_dim: int, n_mels: int) -> None:
        super().__init__()
        self.speaker = nn.Linear(2 * n_mels, _SPEAKER_CHANNELS)
        self.first = nn.Conv1d(content_dim + _SPEAKER_CHANNELS, _HIDDEN, 5, padding=2)
        self.second = nn.Conv1d(_HIDDEN, _HIDDEN, 3, padding=1)
        self.envelope = nn.Conv1d(_HIDDEN, n_mels, 1)

    def forward(self, content: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
        """[B, F, C], mean and deviation [B, 1, M] of the envelopes -> log-mel envelopes [B, F, M]."""
        speaker = self.speaker(torch.cat([mean, deviation], dim=2))
        inputs = torch.cat([content, speaker.expand(-1, content.shape[1], -1)], dim=2)
        hidden = functional.gelu(self.first(inputs.mT))
        return mean + deviation * self.envelope(hidden + functional.gelu(self.second(hidden))).mT


class PhoneticTraining(LightningModule):
    """Train the phonetic encoder with four losses: phones, agreement, speaker (adversarial) and envelope."""

    warped_filters: Tensor
    smoothing: Tensor

    def __init__(
        self, sizes: Mapping[str, Any], training: Mapping[str, Any], augment: Mapping[str, Any], n_speakers: int
    ) -> None:
        """Build the networks.

        Args:
            sizes: See `phonetic_config`.
            training: Fields of `PhoneticTrainingConfig`.
            augment: Fields of `AugmentConfig`.
            n_speakers: S, number of speakers in the corpus.
        """
        super().__init__()
        self.network = PhoneticNetwork(phonetic_config(sizes))
        content_dim, n_mels = self.network.config.content_dim, self.network.config.n_mels
        self.classifier = SpeakerClassifier(content_dim, n_speakers)
        self.decoder = EnvelopeDecoder(content_dim, n_mels)
        self.training_config = PhoneticTrainingConfig.from_values(training)
        self.augment = AugmentConfig.from_values(augment)
        self.save_hyperparameters(
            {
                "sizes": asdict(self.network.config),
                "training": asdict(self.training_config),
                "augment": asdict(self.augment),
            }
        )
        ratios = torch.logspace(-1, 1, _WARPS, self.augment.formants).tolist()
        filters = torch.stack([mel_filters(n_mels, ratio) for ratio in ratios])
        self.register_buffer("warped_filters", filters, persistent=False)
        self.register_buffer("smoothing", cepstral_smoothing(n_mels), persistent=False)

    def start_from(self, path: Path) -> None:
        """Load the weights of an encoder.

        Raises:
            ConfigurationError: `path` contains no encoder, or its sizes differ.
        """
        network = load_network(path, "start_from")
        if network.config != self.network.config:
            raise ConfigurationError(f"start_from={path} has other sizes: {network.config}")
        self.network.load_state_dict(network.state_dict())

    def training_step(self, batch: Pairs, _: int) -> Tensor:
        """Return the weighted sum of the losses."""
        wav16k = batch.wav16k.flatten(0, 1)
        filters = self.warped_filters[torch.randint(_WARPS, (len(wav16k),), device=wav16k.device)]
        log_mel = self._mask(self.network.log_mel(wav16k, filters))
        bottleneck, log_phones = self._encode(log_mel, wav16k)
        content = self.network.content(bottleneck, log_phones)
        phones, agreement = self._losses(content, log_phones, batch)
        speaker, envelope = self._speaker_loss(content, batch), self._envelope_loss(content, batch)
        losses = {"phones": phones, "agreement": agreement, "speaker": speaker, "envelope": envelope}
        self.log_dict({f"train/{name}": loss for name, loss in losses.items()}, prog_bar=True)
        config = self.training_config
        return phones + config.agreement * agreement + config.speaker * speaker + config.envelope * envelope

    def validation_step(self, batch: Pairs, _: int) -> None:
        """Log the share of frames with a wrong phone, and the losses of phones, agreement and envelopes."""
        wav16k = batch.wav16k.flatten(0, 1)
        bottleneck, log_phones = self._encode(self.network.log_mel(wav16k), wav16k)
        labels = batch.phones.flatten(0, 1)
        error = (log_phones.argmax(dim=2) != labels)[labels != NO_FRAME].float().mean()
        content = self.network.content(bottleneck, log_phones)
        phones, agreement = self._losses(content, log_phones, batch)
        figures = {"val/frame_error": error, "val/phones": phones, "val/agreement": agreement}
        figures["val/envelope"] = self._envelope_loss(content, batch)
        self.log_dict(figures, prog_bar=True, sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return AdamW with a linear warm-up and a cosine decay over all steps."""
        total = self.trainer.estimated_stepping_batches
        warmup = self.training_config.warmup_steps

        def share(step: int) -> float:
            return min((step + 1) / warmup, 0.5 + 0.5 * math.cos(math.pi * min(step / total, 1.0)))

        optimizer = torch.optim.AdamW(
            self.parameters(),
            self.training_config.lr,
            betas=(0.9, 0.98),
            weight_decay=self.training_config.weight_decay,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _encode(self, log_mel: Tensor, wav16k: Tensor) -> tuple[Tensor, Tensor]:
        return self.network.encode(log_mel, torch.full((len(wav16k),), wav16k.shape[1], device=wav16k.device))

    def _mask(self, log_mel: Tensor) -> Tensor:
        """Mask up to two bands and two times of some examples, [B, J, M] (Park et al. 2019)."""
        examples, spectra, bands = log_mel.shape
        chosen = torch.rand(examples, 1, 1, device=log_mel.device) < self.augment.p_mask
        for _ in range(2):
            times, channels = _span(examples, spectra, 10, log_mel), _span(examples, bands, bands // 8, log_mel)
            log_mel = log_mel.masked_fill(chosen & (times[:, :, None] | channels[:, None]), 0.0)
        return log_mel

    def _losses(self, content: Tensor, log_phones: Tensor, batch: Pairs) -> tuple[Tensor, Tensor]:
        """Return the losses of phones and agreement, of 2 N examples."""
        phones = functional.cross_entropy(
            log_phones.flatten(0, 1).float(),
            batch.phones.flatten(),
            ignore_index=NO_FRAME,
            label_smoothing=self.training_config.label_smoothing,
        )
        first, second = content.unflatten(0, (-1, 2)).float().unbind(1)
        return phones, self._agreement(first, second, batch)

    def _speaker_loss(self, content: Tensor, batch: Pairs) -> Tensor:
        """Return the cross-entropy of the speakers of all segments."""
        logits = self.classifier(content)
        speakers = batch.speakers.flatten()[:, None].expand(logits.shape[:2])
        return functional.cross_entropy(logits.flatten(0, 1).float(), speakers.flatten())

    def _envelope_loss(self, content: Tensor, batch: Pairs) -> Tensor:
        """Return the mean distance of predicted and clean log-mel envelopes [2 N, F, M], as natural logarithms."""
        with torch.no_grad(), torch.autocast(content.device.type, enabled=False):
            envelope = self.network.log_mel(batch.clean16k.flatten(0, 1))[:, ::CONTENT_REPEAT] * LOG_MEL_DEVIATION
            envelope = envelope.maximum(envelope.amax((1, 2), keepdim=True) - _DYNAMIC_RANGE) @ self.smoothing
            mean, deviation = envelope.mean(1, keepdim=True), envelope.std(1, keepdim=True)
        predicted = self.decoder(content, mean, deviation)
        return (predicted[:, : envelope.shape[1]].float() - envelope).abs().mean()

    def _agreement(self, first: Tensor, second: Tensor, batch: Pairs) -> Tensor:
        """Return the InfoNCE loss of finding the partner of a frame (van den Oord et al. 2018), in both directions.

        Frames within three frames of the partner are not negatives. If both utterances of a pair have the same speaker,
        only frames of the pair are negatives, because those of other people would reward content that contains the
        speaker.
        """
        partners = batch.partners
        item, frame = (partners != NO_FRAME).nonzero(as_tuple=True)
        if not len(item):
            return first.sum() * 0
        chosen = torch.randperm(len(item), device=item.device)[: self.training_config.anchors]
        item, frame = item[chosen], frame[chosen]
        partner = partners[item, frame]
        anchors = functional.normalize(first[item, frame], dim=1)
        candidates = functional.normalize(second[item, partner], dim=1)
        similarity = anchors @ candidates.T / self.training_config.temperature
        near = (item[:, None] == item) & ((frame[:, None] - frame).abs() <= _NEIGHBOURS)
        near |= (item[:, None] == item) & ((partner[:, None] - partner).abs() <= _NEIGHBOURS)
        near.fill_diagonal_(False)
        alone = batch.speakers[item, 0] == batch.speakers[item, 1]
        others = (item[:, None] != item) & (alone[:, None] | alone)
        similarity = similarity.masked_fill(near | others, -math.inf)
        target = torch.arange(len(item), device=item.device)
        return (functional.cross_entropy(similarity, target) + functional.cross_entropy(similarity.T, target)) / 2


def phonetic_config(sizes: Mapping[str, Any]) -> PhoneticConfig:
    """Return the sizes of the encoder, the fields of `PhoneticConfig` other than the phones, which are `PHONES`."""
    return PhoneticConfig.from_values({**sizes, "n_phones": len(PHONES)})


def cepstral_smoothing(n_mels: int) -> Tensor:
    """Return the matrix [M, M] that keeps the first coefficients of the cosine transform of log-mel spectra."""
    order = torch.arange(min(_CEPSTRA, n_mels))[:, None]
    basis = torch.cos(torch.pi / n_mels * (torch.arange(n_mels) + 0.5) * order)
    basis = functional.normalize(basis, dim=1)
    return basis.T @ basis


def _span(examples: int, total: int, longest: int, like: Tensor) -> Tensor:
    """Return a boolean mask [examples, total], True in a random span of up to `longest`."""
    length = torch.rand(examples, 1, device=like.device) * longest
    start = torch.rand(examples, 1, device=like.device) * (total - length)
    position = torch.arange(total, device=like.device)
    return (position >= start) & (position < start + length)
