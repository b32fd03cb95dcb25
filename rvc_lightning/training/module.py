"""The training of a voice: generator and discriminator, their losses, steps, schedules and validation.

Legend: B batch, T frames, N samples, M mel bands, S spectrogram bins.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
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
from rvc_lightning.config.validation import check_types
from rvc_lightning.data.batch import Batch, content_at_frame_rate
from rvc_lightning.errors import ConfigurationError, unknown_choice
from rvc_lightning.models import (
    Discriminator,
    DiscriminatorConfig,
    Synthesizer,
    SynthesizerConfig,
    SynthesizerOutput,
)
from rvc_lightning.models.synthesizer import PRIOR_NOISE_SCALE, random_starts, slice_frames
from rvc_lightning.pitch.scale import coarse_pitch
from rvc_lightning.training import losses
from rvc_lightning.training.memory import CHECKPOINTED, explains_out_of_memory, recompute_activations
from rvc_lightning.training.strategies import full_tensor, shard

CHECKPOINT_KEY = "rvc_lightning"
"""Where a checkpoint keeps what a voice must remember, as plain values."""

MEL_LOSSES = ("single", "multi_scale")
"""Kinds of the mel loss."""

AVERAGED_KEY = "averaged_synthesizer"
"""Where a checkpoint keeps the synthesizer's averaged weights, if there are such: names after `module.`."""


@dataclass(frozen=True)
class TrainingConfig:
    """How a voice is trained, beside the sizes of its networks."""

    segment_frames: int
    """Frames of the segments that the generator makes and the discriminator judges."""
    n_mels: int
    """Bands of the mel spectrum that the mel loss compares."""
    loss_weights: Mapping[str, float]
    """Weights of the generator's losses by name: adversarial, features, mel, kl."""
    mel_loss: str = "single"
    """'single' compares one log-mel spectrum, 'multi_scale' seven of them, from coarse to fine in time."""
    crop_frames: int | None = None
    """Frames of a random part of each slice that a step looks at; null for whole slices. Saves time and memory."""
    accumulate_grad_batches: int = 1
    """Batches of `data.batch_size` that one optimizer step is made of."""
    gradient_clip_val: float | None = None
    """Largest gradient norm (or value) of one optimizer step; null for no clipping."""
    gradient_clip_algorithm: str = "norm"
    """'norm' or 'value'."""
    adversarial_from_step: int = 0
    """Steps that the generator learns from the mel, offset and KL losses alone before the discriminator joins."""
    from_content_share: float = 0.0
    """Share of the segments that are generated from content and pitch, as in conversion, and not from the recording."""
    noise_scale: float = PRIOR_NOISE_SCALE
    """Spread of the prior that segments from content, validation and the exported voice draw from, 0 to 1."""
    grad_norm_every_n_steps: int = 20
    """How often the gradient norms are measured for the log; 0 for never."""
    checkpoint_activations: str = "none"
    """What computes its activations once more in the backward pass instead of keeping them: none, generator, all."""
    compile: bool = False
    """Whether generator and discriminator are compiled."""

    def __post_init__(self) -> None:
        check_types(self)
        if self.gradient_clip_algorithm not in ("norm", "value"):
            raise ConfigurationError(
                f"model.gradient_clip_algorithm={self.gradient_clip_algorithm}; choose one of: norm, value"
            )
        if not 0 <= self.from_content_share <= 1:
            raise ConfigurationError(f"model.from_content_share={self.from_content_share}; it must lie in 0 to 1")
        if not 0 <= self.noise_scale <= 1:
            raise ConfigurationError(f"model.noise_scale={self.noise_scale}; it must lie in 0 to 1")
        if self.mel_loss not in MEL_LOSSES:
            raise unknown_choice("model.mel_loss", self.mel_loss, MEL_LOSSES)
        if self.checkpoint_activations not in CHECKPOINTED:
            raise unknown_choice("model.checkpoint_activations", self.checkpoint_activations, CHECKPOINTED)
        if self.accumulate_grad_batches < 1:
            raise ConfigurationError(
                f"model.accumulate_grad_batches={self.accumulate_grad_batches}; it must be 1 or more"
            )
        if self.crop_frames is not None and (self.crop_frames <= self.segment_frames or self.crop_frames % 2):
            raise ConfigurationError(
                f"model.crop_frames={self.crop_frames}; it must be even and exceed "
                f"model.segment_frames={self.segment_frames}, or be null"
            )
        expected = {"adversarial", "features", "mel", "kl"}
        if set(self.loss_weights) != expected:
            raise ConfigurationError(f"model.loss_weights has {sorted(self.loss_weights)}; it needs {sorted(expected)}")


class Generated(NamedTuple):
    """A batch after the synthesizer."""

    real: Tensor
    """Recorded segments, [B, 1, N]."""
    fake: Tensor
    """Generated segments, [B, 1, N]."""
    output: SynthesizerOutput


class SeenLoss(NamedTuple):
    """A loss of one batch of a step, for those who watch."""

    name: str
    value: Tensor
    """A scalar without a graph, on the device."""
    ids: tuple[str, ...]
    """Slices of the batch."""


class Share(NamedTuple):
    """What part of an optimizer step a batch is, so that cutting a step into other batches changes nothing."""

    items: float
    """Of the rank's slices."""
    frames: Tensor
    """Of the frames of a rank, which is as many as ranks have on average."""


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Keeps the gradients of `module`'s parameters from being computed inside the block."""
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)


def _with_weights(make: Callable[[], RVCModule], weights: Mapping[str, Tensor]) -> RVCModule:
    module = make()
    module.load_state_dict(weights)
    return module


class RVCModule(LightningModule):
    """Trains a synthesizer against a discriminator (specification 8).

    One training step is one optimizer step of each network. It gets as many batches as gradients are accumulated
    over, so that the discriminator has always stepped before the generator's losses ask for its opinion.
    """

    def __init__(
        self,
        synthesizer: SynthesizerConfig,
        discriminator: DiscriminatorConfig,
        training: TrainingConfig,
        *,
        optimizer: Callable[[Iterator[nn.Parameter]], Optimizer],
        scheduler: Callable[[Optimizer], LRScheduler],
        voice: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        """Builds the networks with random weights.

        Args:
            synthesizer: Sizes of the synthesizer.
            discriminator: Sizes of the discriminator.
            training: Segments, losses, accumulation and clipping.
            optimizer: Makes an optimizer of parameters; called for each network.
            scheduler: Makes a schedule of an optimizer; stepped once an epoch.
            voice: Plain values that an exported voice carries: content encoder, pitch extractor, speaker names.
            seed: Of what each step draws: segments, noise, dropout.
        """
        super().__init__()
        self._arguments = functools.partial(
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
        self.voice = dict(voice or {})
        self.seed = seed
        self.synthesizer = Synthesizer(synthesizer)
        self.discriminator = Discriminator(discriminator)
        self.spectrogram = LinearSpectrogram(synthesizer.n_fft, synthesizer.hop_samples)
        self.log_mel = LogMel(synthesizer.sample_rate, synthesizer.n_fft, training.n_mels)
        self.multi_scale_mel = MultiScaleMel(synthesizer.sample_rate) if training.mel_loss == "multi_scale" else None
        self.val_mel = MeanMetric()
        # Filled by a callback that knows a pitch tracker, see `callbacks.pitch_error`.
        self.val_pitch_cents, self.val_voicing_error = MeanMetric(), MeanMetric()
        self.optimizer_steps = 0
        self._grad_norms: dict[str, Tensor] = {}
        self._seen: list[SeenLoss] = []
        self._configured = False
        self._make_optimizer, self._make_scheduler = optimizer, scheduler

    def __reduce__(self) -> tuple[Callable[..., RVCModule], tuple[Any, ...]]:
        """For strategies that spawn processes: networks with weight norm cannot be pickled, but their weights can."""
        return _with_weights, (self._arguments, self.state_dict())

    def configure_model(self) -> None:
        """Prepares the networks for how they are run; Lightning calls this before each run, on every rank."""
        if self._configured:
            return
        self._configured = True
        recompute_activations(self.synthesizer, self.discriminator, self.training_config.checkpoint_activations)
        if self.training_config.compile:
            # They see segments, whose length is fixed. The rest sees slices of any length, and is a tenth of the work.
            self.synthesizer.generator.compile()
            # As a whole: torch gives up on code that is compiled for more than a few modules.
            self.discriminator.compile()
        self.synthesizer, self.discriminator = shard(self, self.synthesizer), shard(self, self.discriminator)

    # ------------------------------------------------------------------ one step

    def on_train_batch_start(self, batch: Sequence[Batch], batch_idx: int) -> None:
        """Seeds the step's draws by run, rank and step.

        So a resumed run draws what an uninterrupted one would, whatever checkpoint it goes on from. Saved generator
        states could not promise that: they would have to be gathered from every rank and device, and would not fit a
        run that goes on with others. Loaders draw nothing, but the order of an epoch by its number and the seed.
        """
        words = np.random.SeedSequence([self.seed, self.global_rank, self.optimizer_steps]).generate_state(2)
        torch.manual_seed(int(words[0]) << 32 | int(words[1]))

    @explains_out_of_memory
    def training_step(self, batches: Sequence[Batch], batch_idx: int) -> dict[str, list[SeenLoss]]:
        """One step of the discriminator and one of the generator, over all of `batches`.

        Returns:
            `losses`: every loss of the step, in the order in which they came up.
        """
        discriminator_optimizer, generator_optimizer = self._optimizers()
        adversarial = self.optimizer_steps >= self.training_config.adversarial_from_step
        generated = None
        batches = [self.crop(batch) for batch in batches]
        shares = self.shares(batches)
        if adversarial:
            for batch, share in zip(batches, shares, strict=True):
                # With one batch the generator's graph is kept for its own losses; with more, memory would grow.
                with torch.set_grad_enabled(len(batches) == 1):
                    generated = self.generate(batch)
                loss = self.discriminator_loss(generated)
                self._backward(loss * share.items, is_last=batch is batches[-1])
                self._log_losses({"discriminator": loss}, batch)
            self._step(discriminator_optimizer)

        with frozen(self.discriminator):
            for batch, share in zip(batches, shares, strict=True):
                if generated is None or len(batches) > 1:
                    generated = self.generate(batch)
                terms = self.generator_losses(generated, adversarial=adversarial)
                part = {name: loss * (share.frames if name == "kl" else share.items) for name, loss in terms.items()}
                self._backward(self.weighted_sum(part), is_last=batch is batches[-1])
                self._log_losses(terms | {"generator": self.weighted_sum(terms)}, batch)
            self._step(generator_optimizer)
        self.log_dict(self._grad_norms)
        self._grad_norms = {}
        self.optimizer_steps += 1
        seen, self._seen = self._seen, []
        return {"losses": seen}

    def shares(self, batches: Sequence[Batch]) -> list[Share]:
        """The share of each batch in the step: the KL loss is a mean over frames, the others are over slices."""
        n_items = sum(len(batch.ids) for batch in batches)
        n_frames = torch.stack([batch.lengths.sum() for batch in batches]).float()
        # Ranks have equally many slices, but not frames, and the mean of their gradients is taken.
        rank_frames = self.trainer.strategy.reduce(n_frames.sum(), reduce_op="mean")
        return [
            Share(len(batch.ids) / n_items, frames)
            for batch, frames in zip(batches, n_frames / rank_frames, strict=True)
        ]

    def _backward(self, loss: Tensor, *, is_last: bool) -> None:
        """Adds to the gradients of the step; ranks exchange them once, with its last batch."""
        strategy = self.trainer.strategy
        if is_last or not isinstance(strategy, ParallelStrategy):
            self.manual_backward(loss)
        else:
            with strategy.block_backward_sync():
                self.manual_backward(loss)

    def crop(self, batch: Batch) -> Batch:
        """A random part of `crop_frames` of every item, on whole content frames; the batch itself where none is set."""
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
        """Generates one random segment of every item and cuts the recording to the same segments."""
        frames = batch.f0_hz.shape[1]
        hop_samples = self.synthesizer.config.hop_samples
        output = self.synthesizer(
            content_at_frame_rate(batch.content, frames),
            batch.lengths,
            coarse_pitch(batch.f0_hz),
            batch.f0_hz,
            batch.speaker,
            self.spectrogram_of(batch).to(batch.content.dtype),
            self.training_config.segment_frames,
            self._from_content(batch),
            self.training_config.noise_scale,
        )
        segment_samples = self.training_config.segment_frames * hop_samples
        real = slice_frames(batch.waveform.unsqueeze(1), output.start_frames * hop_samples, segment_samples)
        return Generated(real, output.waveform, output)

    def _from_content(self, batch: Batch) -> Tensor | None:
        """Draws the items that are generated from content and pitch, [B]; None where none ever is."""
        share = self.training_config.from_content_share
        return torch.rand(len(batch.ids), device=batch.f0_hz.device) < share if share else None

    def spectrogram_of(self, batch: Batch) -> Tensor:
        """Linear spectrogram of the recordings, zero behind the end of each: [B, S, T]."""
        frames = batch.f0_hz.shape[1]
        spec = self.spectrogram(batch.waveform, batch.waveform_lengths)[..., :frames]
        return spec * frame_mask(batch.lengths, frames).unsqueeze(1)

    def discriminator_loss(self, generated: Generated) -> Tensor:
        """How far the discriminator is from telling recorded from generated segments: a scalar."""
        both = torch.cat([generated.real, generated.fake.detach().to(generated.real.dtype)])
        scores = [judgement.score.chunk(2) for judgement in self.discriminator(both)]
        return losses.discriminator_loss([real for real, _ in scores], [fake for _, fake in scores])

    def generator_losses(self, generated: Generated, *, adversarial: bool = True) -> dict[str, Tensor]:
        """The generator's losses by name, unweighted scalars; the discriminator's only if `adversarial`."""
        output = generated.output
        terms = {
            "mel": self.mel_loss(generated.real, generated.fake),
            "kl": losses.kl_loss(output.prior_latent, output.posterior.log_std, output.prior),
        }
        if adversarial:
            # Both passes see the same weights: the norms are multiplied out once, unless that is done again later.
            recomputed = self.training_config.checkpoint_activations == "all"
            with nullcontext() if recomputed else parametrize.cached():
                with torch.no_grad():
                    real = self.discriminator(generated.real)
                fake = self.discriminator(generated.fake)
            terms["adversarial"] = losses.adversarial_loss([judgement.score for judgement in fake])
            terms["features"] = losses.feature_loss([j.features for j in real], [j.features for j in fake])
        else:
            terms["offset"] = losses.offset_loss(generated.fake)
        return terms

    def mel_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """Distance of two waveforms [B, 1, N] in their log-mel spectra, of one scale or several: a scalar."""
        if self.multi_scale_mel is None:
            return losses.mel_loss(self.mel_of(real), self.mel_of(fake))
        return losses.multi_scale_mel_loss(self.multi_scale_mel(real.squeeze(1)), self.multi_scale_mel(fake.squeeze(1)))

    def weighted_sum(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Sum of losses, each times its weight; the offset has that of the mel loss, which it completes."""
        weights = self.training_config.loss_weights
        weights = {**weights, "offset": weights["mel"]}
        return torch.stack([weights[name] * loss for name, loss in terms.items()]).sum()

    def mel_of(self, waveform: Tensor) -> Tensor:
        """Log-mel spectrum: [B, 1, N] -> [B, M, T]."""
        return self.log_mel(self.spectrogram(waveform.squeeze(1)))

    # ------------------------------------------------------------------ optimizers and schedules

    def configure_optimizers(self) -> list[OptimizerLRSchedulerConfig]:
        """One optimizer and one schedule for each network, the discriminator's first."""
        return [self._optimizer_of(name) for name in ("discriminator", "synthesizer")]

    def _optimizer_of(self, network: str) -> OptimizerLRSchedulerConfig:
        optimizer = self._make_optimizer(self.get_submodule(network).parameters())
        scheduler: LRSchedulerConfigType = {
            "scheduler": self._make_scheduler(optimizer),
            "name": f"learning_rate/{network}",
        }
        return {"optimizer": optimizer, "lr_scheduler": scheduler}

    def on_train_epoch_end(self) -> None:
        """Steps the schedules: the learning rate falls once an epoch (specification 8.2)."""
        for scheduler in self._schedulers():
            scheduler.step()

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Measures and clips the gradients; called once they are unscaled."""
        config, step = self.training_config, self.optimizer_steps
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        # The steps at which Lightning writes what was logged: what comes between is lost where epochs are short.
        if config.grad_norm_every_n_steps and (step + 1) % config.grad_norm_every_n_steps == 0:
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            name = "discriminator" if parameters[0] is next(self.discriminator.parameters()) else "generator"
            # Logged by the step: Lightning forgets the values of one hook when another logs in a first batch.
            self._grad_norms[f"grad_norm/{name}"] = full_tensor(nn.utils.get_total_norm(gradients))
        if config.gradient_clip_val is not None:
            self.clip_gradients(optimizer, config.gradient_clip_val, config.gradient_clip_algorithm)

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
        self._seen += [SeenLoss(name, loss, batch.ids) for name, loss in detached.items()]
        self.log_dict({f"loss/{name}": loss for name, loss in detached.items()}, batch_size=len(batch.ids))

    # ------------------------------------------------------------------ validation

    @explains_out_of_memory
    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Distance of held-out speech to the same speech rebuilt from content and pitch, as conversion does it.

        Returns:
            `rebuilt`: the rebuilt speech, [B, N].
        """
        mask = frame_mask(batch.lengths, batch.f0_hz.shape[1])
        recorded, rebuilt = self.log_mel(self.spectrogram_of(batch)), self.rebuild(batch)
        distance = (recorded - self.log_mel(self.spectrogram(rebuilt))).abs().mean(1)
        self.val_mel.update(distance[mask])
        self.log("val/mel", self.val_mel, prog_bar=True, batch_size=len(batch.ids))
        return {"rebuilt": rebuilt}

    def rebuild(self, batch: Batch) -> Tensor:
        """The batch's speech from its content and pitch, the same draw of noise every time: [B, N]."""
        frames = batch.f0_hz.shape[1]
        # Whole slices of any length: what is compiled for segments would be compiled anew for them.
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
        """Adds what export and resume need beside the weights, as plain values."""
        checkpoint[CHECKPOINT_KEY] = {
            "synthesizer": asdict(self.synthesizer.config),
            "discriminator": asdict(self.discriminator.config),
            "voice": self.voice,
            "optimizer_steps": self.optimizer_steps,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores the step counter; refuses a checkpoint of networks of other sizes.

        Raises:
            ConfigurationError: The checkpoint's networks differ from those of this run.
        """
        saved = checkpoint[CHECKPOINT_KEY]
        for name, config in (
            ("synthesizer", self.synthesizer.config),
            ("discriminator", self.discriminator.config),
        ):
            before, now = asdict(type(config).from_values(saved[name])), asdict(config)
            if changed := [key for key in now if before[key] != now[key]]:
                details = ", ".join(f"{key} was {before[key]}, is {now[key]}" for key in changed)
                raise ConfigurationError(
                    f"the checkpoint holds another {name}: {details}; resume with the same settings"
                )
        self.optimizer_steps = saved["optimizer_steps"]
