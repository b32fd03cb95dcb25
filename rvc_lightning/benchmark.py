"""`python -m rvc_lightning.benchmark`: what a training step takes of time and memory, on any device and precision.

The batches are random and the weights too: neither changes the work. `baseline=true` measures the loop that RVC
tools run beside ours, in the same process: the discriminator collects gradients in the generator's pass, the real
features are propagated through as well, and every loss is read back at every step.
"""

from __future__ import annotations

import logging
import resource
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import hydra
import torch
from lightning import Callback, LightningModule, Trainer, seed_everything
from omegaconf import DictConfig
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from rvc_lightning import losses, resolvers
from rvc_lightning.building import build_module, make
from rvc_lightning.commands import command
from rvc_lightning.data.batch import CONTENT_REPEAT, Batch, Example, collate
from rvc_lightning.data.manifest import DatasetHeader
from rvc_lightning.models.config import FRAMES_PER_SECOND
from rvc_lightning.module import Generated, RVCModule

log = logging.getLogger(__name__)

resolvers.register()


class RandomSlices(Dataset[Example]):
    """Noise with a pitch, as many examples as are asked for."""

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


def one_batch(examples: Sequence[Example]) -> list[Batch]:
    """The batches of an optimizer step: a single one."""
    return [collate(examples)]


class PlainLoop(RVCModule):
    """The same networks and losses in the loop that RVC tools run."""

    def training_step(self, batches: Sequence[Batch], batch_idx: int) -> None:
        """One step without any of our savings."""
        discriminator_optimizer, generator_optimizer = self._optimizers()
        (batch,) = batches
        generated = self.generate(batch)
        loss = self._plain_discriminator_loss(generated)
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

    def _plain_discriminator_loss(self, generated: Generated) -> Tensor:
        real = [j.score for j in self.discriminator(generated.real)]
        fake = [j.score for j in self.discriminator(generated.fake.detach())]
        return losses.discriminator_loss(real, fake)

    def generator_losses(self, generated: Generated, *, adversarial: bool = True) -> dict[str, Tensor]:
        """As ours, but the real features are part of the graph and the discriminator is not frozen."""
        real, fake = self.discriminator(generated.real), self.discriminator(generated.fake)
        return super().generator_losses(generated, adversarial=False) | {
            "adversarial": losses.adversarial_loss([j.score for j in fake]),
            "features": losses.feature_loss([j.features for j in real], [j.features for j in fake]),
        }


class StepTimer(Callback):
    """Notes when each step begins and ends, the device's work included, and the peak of memory."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.peak_bytes = 0
        self._since = 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Starts the clock."""
        self._wait(pl_module)
        self._since = perf_counter()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Stops the clock."""
        self._wait(pl_module)
        self.seconds.append(perf_counter() - self._since)
        self.peak_bytes = (
            torch.cuda.max_memory_allocated(pl_module.device)
            if pl_module.device.type == "cuda"
            else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        )

    @staticmethod
    def _wait(module: LightningModule) -> None:
        if module.device.type == "cuda":
            torch.cuda.synchronize(module.device)


@dataclass(frozen=True)
class Measurement:
    """What a number of steps took."""

    seconds_per_step: float
    """Median, the first two steps left out."""
    peak_gib: float
    """Of the device, or of the process on the CPU."""
    gflop_per_step: float
    """Floating-point operations of convolutions and matrix products, as torch counts them."""

    def line(self, name: str, audio_seconds: float) -> str:
        """One line of the table."""
        return (
            f"{name:10} {self.seconds_per_step:8.3f} s/step   {audio_seconds / self.seconds_per_step:7.1f} audio-s/s   "
            f"{self.gflop_per_step / self.seconds_per_step:8.1f} GFLOP/s   peak {self.peak_gib:6.2f} GiB"
        )


def measure(module: RVCModule, loader: DataLoader, config: DictConfig) -> Measurement:
    """Trains for a few steps and reports what they took."""
    timer = StepTimer()
    _short_trainer(config, callbacks=[timer]).fit(module, loader)
    timed = sorted(timer.seconds[2:])
    # Counted apart from the clock: counting slows a step down.
    with FlopCounterMode(display=False) as counter:
        _short_trainer(config, limit_train_batches=1).fit(module, loader)
    return Measurement(timed[len(timed) // 2], timer.peak_bytes / 2**30, counter.get_total_flops() / 1e9)


def _short_trainer(config: DictConfig, **changes: Any) -> Trainer:
    """The configured trainer for one epoch that leaves no traces."""
    quiet = {"callbacks": None, "logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return make(config, "trainer", **(quiet | {"max_epochs": 1, "limit_val_batches": 0} | changes))


@hydra.main(version_base="1.3", config_path="pkg://rvc_lightning.conf", config_name="benchmark")
@command
def main(config: DictConfig) -> None:
    """Measures our step, and the plain loop's beside it if asked for."""
    frames = round(config.seconds * FRAMES_PER_SECOND)
    header = DatasetHeader(config.model.synthesizer.sample_rate, {}, {"dim": config.content_dim})
    kinds: list[tuple[str, type[RVCModule]]] = [("ours", RVCModule)] + (
        [("plain", PlainLoop)] if config.baseline else []
    )
    results = {}
    for name, kind in kinds:
        seed_everything(config.seed, verbose=False)
        module = build_module(config, header, voice={}, kind=kind)
        hop_samples = module.synthesizer.config.hop_samples
        slices = RandomSlices(config.steps * config.batch_size, frames, hop_samples, config.content_dim)
        loader = DataLoader(slices, batch_size=config.batch_size, collate_fn=one_batch)
        results[name] = measure(module, loader, config)
        log.info("%s", results[name].line(name, config.batch_size * config.seconds))
    if config.baseline:
        ratio = results["ours"].seconds_per_step / results["plain"].seconds_per_step
        log.info("ours takes %.2f of the plain loop's time", ratio)


if __name__ == "__main__":
    main()
