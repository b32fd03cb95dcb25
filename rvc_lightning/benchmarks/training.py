"""Time and memory of a training step: `python -m rvc_lightning.benchmark`.

Batches and weights are random: their values do not affect the result. Each round of a row runs in a separate process,
which measures its own peak memory, and the rows alternate, so that other load on the machine affects all of them.

The first row for each batch size is the baseline, the loop of RVC tools in float32: the discriminator accumulates
gradients in the generator's pass, the real features are in the graph as well, every loss is copied to the host at
every step, AdamW is not fused, and all 2-D convolutions are vertical.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import product
from multiprocessing import get_context
from statistics import median
from time import perf_counter
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer, seed_everything
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rvc_lightning.audio.frames import CONTENT_REPEAT, FRAMES_PER_SECOND, hop_samples
from rvc_lightning.cli import resolvers
from rvc_lightning.cli.messages import silence_libraries
from rvc_lightning.config.values import instantiate, plain
from rvc_lightning.data.batch import Batch, Example, collate
from rvc_lightning.data.manifest import DatasetHeader
from rvc_lightning.errors import unknown_choice
from rvc_lightning.io.processes import peak_memory_bytes
from rvc_lightning.models.discriminators import PeriodDiscriminator
from rvc_lightning.training import losses
from rvc_lightning.training.module import Generated, RVCModule, StepLoss
from rvc_lightning.training.networks import build_module
from rvc_lightning.training.trainer import set_up_torch

resolvers.register()


class RandomSlices(Dataset[Example]):
    """Random examples: content, pitch and waveform are noise."""

    def __init__(self, n_examples: int, frames: int, hop_samples: int, content_dim: int) -> None:
        self.n_examples, self.frames, self.hop_samples, self.content_dim = n_examples, frames, hop_samples, content_dim

    def __len__(self) -> int:
        return self.n_examples

    def __getitem__(self, index: int) -> Example:
        return Example(
            id=str(index),
            content=torch.randn(self.frames // CONTENT_REPEAT, self.content_dim),
            f0_hz=torch.rand(self.frames) * 300 + 80,
            waveform=torch.rand(self.frames * self.hop_samples) - 0.5,
            frames=self.frames,
            speaker=0,
        )


def collate_step(examples: Sequence[Example]) -> list[Batch]:
    """Collate examples as the only batch of an optimizer step."""
    return [collate(examples)]


class BaselineLoop(RVCModule):
    """The same networks and losses in the loop of RVC tools."""

    def training_step(self, batches: Sequence[Batch], batch_idx: int) -> dict[str, list[StepLoss]]:
        """Run one step without our optimizations."""
        discriminator_optimizer, generator_optimizer = self._optimizers()
        (batch,) = batches
        generated = self.generate(batch)
        loss = self._baseline_discriminator_loss(generated)
        discriminator_optimizer.zero_grad()
        self.manual_backward(loss)
        discriminator_optimizer.step()
        terms = self.generator_losses(generated)
        total = self.weighted_sum(terms)
        generator_optimizer.zero_grad()
        self.manual_backward(total)
        generator_optimizer.step()
        for value in (loss, total, *terms.values()):
            value.item()
        return {"losses": []}

    def _baseline_discriminator_loss(self, generated: Generated) -> Tensor:
        real = [j.score for j in self.discriminator(generated.real)]
        fake = [j.score for j in self.discriminator(generated.fake.detach())]
        return losses.discriminator_loss(real, fake)

    def generator_losses(self, generated: Generated, *, adversarial: bool = True) -> dict[str, Tensor]:
        """Return the losses with the real features in the graph and the discriminator not frozen."""
        real, fake = self.discriminator(generated.real), self.discriminator(generated.fake)
        return super().generator_losses(generated, adversarial=False) | {
            "adversarial": losses.adversarial_loss([j.score for j in fake]),
            "features": losses.feature_loss([j.features for j in real], [j.features for j in fake]),
        }


class StepTimer(Callback):
    """Record the duration of each step, including the work of the device, and peak memory."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.peak_bytes = 0
        self._since = 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Start the clock."""
        self._wait(pl_module)
        self._since = perf_counter()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Stop the clock."""
        self._wait(pl_module)
        self.seconds.append(perf_counter() - self._since)
        self.peak_bytes = (
            torch.cuda.max_memory_allocated(pl_module.device)
            if pl_module.device.type == "cuda"
            else peak_memory_bytes()
        )

    @staticmethod
    def _wait(module: LightningModule) -> None:
        if module.device.type == "cuda":
            torch.cuda.synchronize(module.device)


LOOPS = {"ours": RVCModule, "plain": BaselineLoop}


@dataclass(frozen=True)
class Setup:
    """A row of the table."""

    loop: str
    precision: str
    compiled: bool
    checkpoint_activations: str
    batch_size: int


@dataclass
class Measurement:
    """Measurement of a row, over all rounds."""

    seconds: list[float] = field(default_factory=list)
    peak_bytes: int = 0

    def add(self, other: Measurement) -> None:
        """Add another round."""
        self.seconds += other.seconds
        self.peak_bytes = max(self.peak_bytes, other.peak_bytes)


def setups(config: DictConfig) -> list[Setup]:
    """Return the rows of the table: the baseline for each batch size, then all combinations for our loop.

    Raises:
        ConfigurationError: A loop is unknown.
    """
    if unknown := sorted(set(config.loops) - set(LOOPS)):
        raise unknown_choice("loop", unknown[0], LOOPS)
    table = config.table
    base = [Setup("plain", "32-true", False, "none", size) for size in table.batch_size if "plain" in config.loops]
    combinations = product(table.batch_size, table.precision, table.compile, table.checkpoint_activations)
    ours = [
        Setup("ours", precision, compiled, checkpointed, size)
        for size, precision, compiled, checkpointed in combinations
        if "ours" in config.loops
    ]
    return base + ours


def measure(settings: Mapping[str, Any], setup: Setup) -> Measurement:
    """Train for one round in this process. The first step warms up and is not measured."""
    silence_libraries()
    config = OmegaConf.create(dict(settings))
    assert isinstance(config, DictConfig)
    seed_everything(config.seed, verbose=False)
    set_up_torch(config)
    config.trainer.precision = setup.precision
    config.model.compile, config.model.checkpoint_activations = setup.compiled, setup.checkpoint_activations
    if setup.loop == "plain":
        config.optimizer.fused = None
    timer = StepTimer()
    quiet = {"callbacks": [timer], "logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = instantiate(config.trainer, "trainer", **quiet, max_epochs=1, limit_val_batches=0)
    trainer.fit(build(config, setup.loop), random_loader(config, setup.batch_size))
    return Measurement(timer.seconds[1:], timer.peak_bytes)


def build(config: DictConfig, loop: str) -> RVCModule:
    """Build the module of a loop; the baseline lacks our optimizations, see the top of this module."""
    header = DatasetHeader(config.model.synthesizer.sample_rate, {}, {"dim": config.content_dim})
    module = build_module(config, header, voice={}, kind=LOOPS[loop])
    if loop == "plain":
        for part in module.discriminator.discriminators:
            if isinstance(part, PeriodDiscriminator):
                part.transposed = False
    return module


def random_loader(config: DictConfig, batch_size: int) -> DataLoader:
    """Return a loader of one random batch for each step of a round."""
    sample_rate, frames = config.model.synthesizer.sample_rate, round(config.seconds * FRAMES_PER_SECOND)
    slices = RandomSlices(config.steps * batch_size, frames, hop_samples(sample_rate), config.content_dim)
    return DataLoader(slices, batch_size=batch_size, collate_fn=collate_step)


def run(config: DictConfig) -> str:
    """Measure training; return a table in Markdown."""
    return as_table(measure_all(config), config.seconds)


def measure_all(config: DictConfig) -> dict[Setup, Measurement]:
    """Measure every row, round by round, each in a new process."""
    settings = plain(config)
    results = {setup: Measurement() for setup in setups(config)}
    for _ in range(config.rounds):
        for setup, result in results.items():
            with ProcessPoolExecutor(1, get_context("spawn")) as process:
                result.add(process.submit(measure, settings, setup).result())
    return results


def as_table(results: Mapping[Setup, Measurement], clip_seconds: float) -> str:
    """Format the medians in Markdown, with the speedup over the baseline at that batch size."""
    baseline_seconds = {
        setup.batch_size: median(result.seconds) for setup, result in results.items() if setup.loop == "plain"
    }
    lines = [
        "| loop | precision | compile | checkpointing | batch | s/step | GiB | audio-s/s | x plain |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for setup, result in results.items():
        seconds = median(result.seconds)
        speedup = baseline_seconds.get(setup.batch_size, float("nan")) / seconds
        lines.append(
            f"| {setup.loop} | {setup.precision} | {'yes' if setup.compiled else 'no'} "
            f"| {setup.checkpoint_activations} | {setup.batch_size} | {seconds:.3f} | {result.peak_bytes / 2**30:.2f} "
            f"| {setup.batch_size * clip_seconds / seconds:.2f} | {speedup:.2f} |"
        )
    return "\n".join(lines)
