"""Training of a voice: networks, losses, optimizer steps, schedules and validation.

Legend: B batch, T frames, N samples, M mel bands, S spectrogram bins.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import ParallelStrategy
from lightning.pytorch.utilities.seed import isolate_rng
from lightning.pytorch.utilities.types import LRSchedulerConfigType, OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import MeanMetric

from rvc_lightning.audio.frames import CONTENT_REPEAT, frame_mask
from rvc_lightning.audio.spectra import LinearSpectrogram, LogMel, MultiScaleMel
from rvc_lightning.data.batch import Batch, content_at_frame_rate
from rvc_lightning.models import (
    Discriminator,
    DiscriminatorConfig,
    Synthesizer,
    SynthesizerConfig,
    SynthesizerOutput,
)
from rvc_lightning.models.synthesizer import random_starts, slice_frames
from rvc_lightning.pitch.scale import coarse_pitch
from rvc_lightning.training import losses
from rvc_lightning.training.checkpoints import CHECKPOINT_KEY
from rvc_lightning.training.config import TrainingConfig
from rvc_lightning.training.conversion_losses import ConversionLosses
from rvc_lightning.training.memory import advise_out_of_memory, checkpoint_activations
from rvc_lightning.training.strategies import full_tensor, shard


class Generated(NamedTuple):
    """Recorded and generated segments of a batch."""

    real: Tensor
    """Recorded segments, [B, 1, N]."""
    fake: Tensor
    """Generated segments, [B, 1, N]."""
    output: SynthesizerOutput


class StepLoss(NamedTuple):
    """A loss of one batch of a step, for callbacks."""

    name: str
    value: Tensor
    """Detached scalar on the device."""
    ids: tuple[str, ...]
    """Slices of the batch."""


class Share(NamedTuple):
    """Share of a batch in an optimizer step, which makes the step independent of its division into batches."""

    items: float
    """Share of the slices of this rank."""
    frames: Tensor
    """Frames of the batch divided by the mean number of frames per rank; ranks have different numbers of frames."""


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Compute no gradients of the parameters of `module` in the block."""
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)


def _ignore_conversion_losses(_: nn.Module, keys: Any) -> None:
    """Accept a state without the frozen networks of `ConversionLosses`, which are never saved."""
    keys.missing_keys[:] = [key for key in keys.missing_keys if not key.startswith("conversion_losses.")]


class RVCModule(LightningModule):
    """Trains a synthesizer against a discriminator (SPECIFICATION.md, section 8).

    One training step is one optimizer step of each network, over all batches whose gradients are accumulated: the
    discriminator is always updated before it computes the generator's losses.
    """

    def __init__(
        self,
        synthesizer: SynthesizerConfig,
        discriminator: DiscriminatorConfig,
        training: TrainingConfig,
        *,
        optimizer: Callable[[Iterator[nn.Parameter] | list[dict[str, Any]]], Optimizer],
        scheduler: Callable[[Optimizer], LRScheduler],
        voice: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        """Build the networks with random weights.

        Args:
            synthesizer: Sizes of the synthesizer.
            discriminator: Sizes of the discriminator.
            training: Settings of losses and steps.
            optimizer: Factory of an optimizer from parameters or groups of them, called for each network.
            scheduler: Factory of a schedule from an optimizer, stepped once per epoch.
            voice: Metadata of the voice as plain values: content encoder, pitch extractor, speaker names.
            seed: Seed of the random numbers of each step: segments, noise, dropout.
        """
        super().__init__()
        self._build = functools.partial(
            type(self),
            synthesizer,
            discriminator,
            training,
            optimizer=optimizer,
            scheduler=scheduler,
            voice=voice,
            seed=seed,
        )
        self.automatic_optimization = False
        self.training_config = training
        self.voice, self.seed = dict(voice or {}), seed
        self.synthesizer = Synthesizer(synthesizer)
        self.discriminator = Discriminator(discriminator)
        self.spectrogram = LinearSpectrogram(synthesizer.n_fft, synthesizer.hop_samples)
        self.log_mel = LogMel(synthesizer.sample_rate, synthesizer.n_fft, training.n_mels)
        self.multi_scale_mel = MultiScaleMel(synthesizer.sample_rate) if training.mel_loss == "multi_scale" else None
        self.conversion_losses = ConversionLosses(synthesizer.sample_rate) if training.uses_conversions else None
        self.register_load_state_dict_post_hook(_ignore_conversion_losses)
        self.val_mel = MeanMetric()
        # Updated by the callback that tracks pitch, see `callbacks.pitch_error`.
        self.val_pitch_cents, self.val_voicing_error = MeanMetric(), MeanMetric()
        self.optimizer_steps, self._is_configured = 0, False
        self._grad_norms: dict[str, Tensor] = {}
        self._step_losses: list[StepLoss] = []
        self._make_optimizer, self._make_scheduler = optimizer, scheduler

    def __reduce__(self) -> tuple[Callable[..., RVCModule], tuple[Any, ...]]:
        """Pickle the arguments and the weights, for spawned processes: modules with weight norm cannot be pickled."""
        return _rebuild, (self._build, self.state_dict())

    def configure_model(self) -> None:
        """Set up checkpointing, compilation and sharding once; Lightning calls this before each run, on every rank."""
        if self._is_configured:
            return
        self._is_configured = True
        checkpoint_activations(self.synthesizer, self.discriminator, self.training_config.checkpoint_activations)
        if self.training_config.compile:
            # Their input has a fixed length. Other networks process slices of any length, and are a tenth of the work.
            self.synthesizer.generator.compile()
            # As one module: torch recompiles the same code for a few modules only.
            self.discriminator.compile()
        self.synthesizer, self.discriminator = shard(self, self.synthesizer), shard(self, self.discriminator)

    # ------------------------------------------------------------------ training

    def on_train_batch_start(self, batch: Sequence[Batch], batch_idx: int) -> None:
        """Seed the random numbers of the step by run, rank and step.

        A resumed run thereby draws the same numbers as an uninterrupted one, from any checkpoint. Saved states of the
        generators would have to be gathered from all ranks and devices, and would not suit another number of them.
        """
        high, low = np.random.SeedSequence([self.seed, self.global_rank, self.optimizer_steps]).generate_state(2)
        torch.manual_seed(int(high) << 32 | int(low))

    @advise_out_of_memory
    def training_step(self, batches: Sequence[Batch], batch_idx: int) -> dict[str, list[StepLoss]]:
        """Update the discriminator, then the generator, over all of `batches`.

        Returns:
            `losses`: all losses of the step in the order of their computation.
        """
        recordings, batches = batches, [self.crop(batch) for batch in batches]
        shares = self.shares(batches)
        first_step = self.training_config.adversarial_from_step
        adversarial = first_step is not None and self.optimizer_steps >= first_step
        generated = self._update_discriminator(batches, shares) if adversarial else None
        self._update_generator(batches, recordings, shares, generated, adversarial=adversarial)
        self.log_dict(self._grad_norms)
        self._grad_norms = {}
        self.optimizer_steps += 1
        step_losses, self._step_losses = self._step_losses, []
        return {"losses": step_losses}

    def _update_discriminator(self, batches: Sequence[Batch], shares: Sequence[Share]) -> Generated | None:
        """Step the discriminator; return the generated segments with their graph if there is one batch."""
        optimizer, _ = self._optimizers()
        # With one batch the generator's graph is kept for its own losses; with several, memory would grow.
        keeps_graph = len(batches) == 1
        for batch, share in zip(batches, shares, strict=True):
            with torch.set_grad_enabled(keeps_graph):
                generated = self.generate(batch)
            loss = self.discriminator_loss(generated)
            self._backward(loss * share.items, is_last=batch is batches[-1])
            self._log_losses({"discriminator": loss}, batch)
        self._step(optimizer)
        return generated if keeps_graph else None

    def _update_generator(
        self,
        batches: Sequence[Batch],
        recordings: Sequence[Batch],
        shares: Sequence[Share],
        generated: Generated | None,
        *,
        adversarial: bool,
    ) -> None:
        """Step the generator.

        Args:
            batches: Cropped batches.
            recordings: The same batches as loaded.
            shares: Share of each batch.
            generated: The segments of a single batch, if they are generated already.
            adversarial: Whether to compute the losses of the discriminator.
        """
        _, optimizer = self._optimizers()
        with frozen(self.discriminator):
            for batch, whole, share in zip(batches, recordings, shares, strict=True):
                terms = self.generator_losses(generated or self.generate(batch), adversarial=adversarial)
                if self.conversion_losses is not None:
                    terms |= self.conversion_losses(self.synthesizer, whole)
                part = {name: loss * (share.frames if name == "kl" else share.items) for name, loss in terms.items()}
                self._backward(self.weighted_sum(part), is_last=batch is batches[-1])
                self._log_losses(terms | {"generator": self.weighted_sum(terms)}, batch)
            self._step(optimizer)

    def shares(self, batches: Sequence[Batch]) -> list[Share]:
        """Return the share of each batch in the step: the KL loss is a mean over frames, other losses over slices."""
        n_items = sum(len(batch.ids) for batch in batches)
        n_frames = torch.stack([batch.lengths.sum() for batch in batches]).float()
        # Gradients are averaged over ranks, which have equal numbers of slices, but not of frames.
        rank_frames = self.trainer.strategy.reduce(n_frames.sum(), reduce_op="mean")
        return [
            Share(len(batch.ids) / n_items, frames)
            for batch, frames in zip(batches, n_frames / rank_frames, strict=True)
        ]

    def _backward(self, loss: Tensor, *, is_last: bool) -> None:
        """Accumulate gradients; ranks reduce them once, with the last batch of the step."""
        strategy = self.trainer.strategy
        if is_last or not isinstance(strategy, ParallelStrategy):
            self.manual_backward(loss)
        else:
            with strategy.block_backward_sync():
                self.manual_backward(loss)

    def crop(self, batch: Batch) -> Batch:
        """Crop `crop_frames` of every item at random, aligned with content frames; without a limit, return `batch`."""
        limit = self.training_config.crop_frames
        if limit is None or batch.f0_hz.shape[1] <= limit:
            return batch
        hop_samples = self.synthesizer.config.hop_samples
        starts = random_starts(batch.lengths, limit) // CONTENT_REPEAT
        first_frames = starts * CONTENT_REPEAT
        lengths = (batch.lengths - first_frames).clamp(max=limit)
        return batch._replace(
            content=slice_frames(batch.content.mT, starts, limit // CONTENT_REPEAT).mT,
            f0_hz=slice_frames(batch.f0_hz, first_frames, limit),
            waveform=slice_frames(batch.waveform, first_frames * hop_samples, limit * hop_samples),
            waveform_lengths=lengths * hop_samples,
            lengths=lengths,
        )

    def generate(self, batch: Batch) -> Generated:
        """Generate one random segment of every item, and cut the same segments from the recordings."""
        frames = batch.f0_hz.shape[1]
        hop_samples = self.synthesizer.config.hop_samples
        is_variational = self.synthesizer.config.variational
        output = self.synthesizer(
            content_at_frame_rate(batch.content, frames),
            batch.lengths,
            coarse_pitch(batch.f0_hz),
            batch.f0_hz,
            batch.speaker,
            self.spectrogram_of(batch).to(batch.content.dtype) if is_variational else None,
            self.training_config.segment_frames,
            self._from_content(batch),
            self.training_config.noise_scale,
        )
        segment_samples = self.training_config.segment_frames * hop_samples
        real = slice_frames(batch.waveform.unsqueeze(1), output.start_frames * hop_samples, segment_samples)
        return Generated(real, output.waveform, output)

    def _from_content(self, batch: Batch) -> Tensor | None:
        """Draw which items are generated from content and pitch, bool [B]; None if none ever is."""
        share = self.training_config.from_content_share
        return torch.rand(len(batch.ids), device=batch.f0_hz.device) < share if share else None

    def spectrogram_of(self, batch: Batch) -> Tensor:
        """Return the linear spectrogram of the recordings, zero past the end of each, [B, S, T]."""
        frames = batch.f0_hz.shape[1]
        spec = self.spectrogram(batch.waveform, batch.waveform_lengths)[..., :frames]
        return spec * frame_mask(batch.lengths, frames).unsqueeze(1)

    def discriminator_loss(self, generated: Generated) -> Tensor:
        """Return the loss of the discriminator on recorded and generated segments, a scalar."""
        segments = torch.cat([generated.real, generated.fake.detach().to(generated.real.dtype)])
        scores = [output.score.chunk(2) for output in self.discriminator(segments)]
        return losses.discriminator_loss([real for real, _ in scores], [fake for _, fake in scores])

    def generator_losses(self, generated: Generated, *, adversarial: bool = True) -> dict[str, Tensor]:
        """Return the unweighted losses of the generator by name, with those of the discriminator if `adversarial`."""
        output = generated.output
        terms = {"mel": self.mel_loss(generated.real, generated.fake)}
        if output.latent is not None:
            terms["kl"] = losses.kl_loss(
                output.latent.prior_sample, output.latent.posterior.log_std, output.latent.prior
            )
        if adversarial:
            # Both passes use the same weights: compute weight norm once, unless it is recomputed in the backward pass.
            recomputes = self.training_config.checkpoint_activations == "all"
            with nullcontext() if recomputes else parametrize.cached():
                with torch.no_grad():
                    real = self.discriminator(generated.real)
                fake = self.discriminator(generated.fake)
            terms["adversarial"] = losses.adversarial_loss([output.score for output in fake])
            terms["features"] = losses.feature_loss([r.features for r in real], [f.features for f in fake])
        else:
            terms["offset"] = losses.offset_loss(generated.fake)
        return terms

    def mel_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the mel loss of two waveforms [B, 1, N], of one scale or several, a scalar."""
        if self.multi_scale_mel is None:
            return losses.mel_loss(self.mel_of(real), self.mel_of(fake))
        return losses.multi_scale_mel_loss(self.multi_scale_mel(real.squeeze(1)), self.multi_scale_mel(fake.squeeze(1)))

    def weighted_sum(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Return the weighted sum of losses; the offset loss has the weight of the mel loss, which it completes."""
        weights = self.training_config.loss_weights
        weights = {**weights, "offset": weights["mel"]}
        return torch.stack([weights[name] * loss for name, loss in terms.items()]).sum()

    def mel_of(self, waveform: Tensor) -> Tensor:
        """Return the log-mel spectrum: [B, 1, N] -> [B, M, T]."""
        return self.log_mel(self.spectrogram(waveform.squeeze(1)))

    # ------------------------------------------------------------------ optimizers and schedules

    def configure_optimizers(self) -> list[OptimizerLRSchedulerConfig]:
        """Build an optimizer and a schedule for the discriminator and for the synthesizer, in this order."""
        configured = [self._optimizer_of(name) for name in ("discriminator", "synthesizer")]
        self._initial_rates = [[group["initial_lr"] for group in one["optimizer"].param_groups] for one in configured]
        return configured

    def _optimizer_of(self, network: str) -> OptimizerLRSchedulerConfig:
        optimizer = self._make_optimizer(self._parameters_of(network))
        scheduler: LRSchedulerConfigType = {
            "scheduler": self._make_scheduler(optimizer),
            "name": f"learning_rate/{network}",
        }
        return {"optimizer": optimizer, "lr_scheduler": scheduler}

    def _parameters_of(self, network: str) -> Iterator[nn.Parameter] | list[dict[str, Any]]:
        """Return the parameters of a network, with `speaker_lr` in two groups: the speaker embedding is the last."""
        parameters, speaker_lr = self.get_submodule(network).parameters(), self.training_config.speaker_lr
        if network == "discriminator" or speaker_lr is None:
            return parameters
        *others, embedding = parameters
        return [{"params": others}, {"params": [embedding], "lr": speaker_lr}]

    def on_train_start(self) -> None:
        """Apply the learning rates of the settings where a checkpoint has restored others."""
        schedulers = self._schedulers()
        for optimizer, scheduler, rates in zip(self._optimizers(), schedulers, self._initial_rates, strict=True):
            for number, (group, rate) in enumerate(zip(optimizer.param_groups, rates, strict=True)):
                saved = group["initial_lr"]
                if rate != saved:
                    group["lr"], group["initial_lr"] = rate * (group["lr"] / saved if saved else 1), rate
                    scheduler.base_lrs[number] = rate

    def on_train_epoch_end(self) -> None:
        """Step the schedules, once per epoch (SPECIFICATION.md, section 8.2)."""
        for scheduler in self._schedulers():
            scheduler.step()

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Measure and clip the gradients, which are unscaled here."""
        config, step = self.training_config, self.optimizer_steps
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        # At the steps at which Lightning writes the log: other values would be lost in short epochs.
        if config.grad_norm_every_n_steps and (step + 1) % config.grad_norm_every_n_steps == 0:
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            name = "discriminator" if parameters[0] is next(self.discriminator.parameters()) else "generator"
            # Logged by `training_step`: Lightning drops the values of one hook when another one logs in a first batch.
            self._grad_norms[f"grad_norm/{name}"] = full_tensor(nn.utils.get_total_norm(gradients))
        if config.gradient_clip_val:
            # Lightning rejects fused optimizers here in bf16-mixed too, which does not scale gradients.
            norm = config.gradient_clip_algorithm == "norm"
            clip = nn.utils.clip_grad_norm_ if norm else nn.utils.clip_grad_value_
            clip(parameters, config.gradient_clip_val)

    def _step(self, optimizer: LightningOptimizer) -> None:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def _optimizers(self) -> list[LightningOptimizer]:
        optimizers = self.optimizers()
        assert isinstance(optimizers, list)
        return optimizers

    def _schedulers(self) -> list[LRScheduler]:
        schedulers = self.lr_schedulers()
        assert isinstance(schedulers, list)
        return schedulers

    def _log_losses(self, terms: Mapping[str, Tensor], batch: Batch) -> None:
        detached = {name: loss.detach() for name, loss in terms.items()}
        self._step_losses += [StepLoss(name, loss, batch.ids) for name, loss in detached.items()]
        self.log_dict({f"loss/{name}": loss for name, loss in detached.items()}, batch_size=len(batch.ids))

    # ------------------------------------------------------------------ validation

    @advise_out_of_memory
    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Measure the mel distance of held-out speech to its reconstruction from content and pitch, as in conversion.

        Returns:
            `rebuilt`: the reconstructed speech, [B, N].
        """
        mask = frame_mask(batch.lengths, batch.f0_hz.shape[1])
        recorded, rebuilt = self.log_mel(self.spectrogram_of(batch)), self.rebuild(batch)
        distance = (recorded - self.log_mel(self.spectrogram(rebuilt))).abs().mean(1)
        self.val_mel.update(distance[mask])
        self.log("val/mel", self.val_mel, prog_bar=True, batch_size=len(batch.ids))
        return {"rebuilt": rebuilt}

    def rebuild(self, batch: Batch) -> Tensor:
        """Reconstruct speech from content and pitch, with the same noise every time, [B, N]."""
        frames = batch.f0_hz.shape[1]
        # Compiled networks would be recompiled for slices of any length.
        with isolate_rng(), torch.compiler.set_stance("force_eager"):
            torch.manual_seed(0)
            waveform = self.synthesizer.infer(
                content_at_frame_rate(batch.content, frames),
                batch.lengths,
                coarse_pitch(batch.f0_hz),
                batch.f0_hz,
                batch.speaker,
                self.training_config.noise_scale,
            )
        return waveform.squeeze(1)

    # ------------------------------------------------------------------ checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the metadata that export and resume need, as plain values."""
        checkpoint[CHECKPOINT_KEY] = {
            "synthesizer": asdict(self.synthesizer.config),
            "discriminator": asdict(self.discriminator.config),
            "voice": self.voice,
            "optimizer_steps": self.optimizer_steps,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the step counter."""
        self.optimizer_steps = checkpoint[CHECKPOINT_KEY]["optimizer_steps"]


def _rebuild(build: Callable[[], RVCModule], weights: Mapping[str, Tensor]) -> RVCModule:
    module = build()
    module.load_state_dict(weights)
    return module
