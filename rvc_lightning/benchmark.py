"""`python -m rvc_lightning.benchmark`: what a training step takes of time and memory, on any device and precision.

The batches are random and the weights too: neither changes the work. `loops=[ours,plain]` measures the loop that RVC
tools run beside ours, both by turns in one process: in it the discriminator collects gradients in the generator's pass,
the real features are propagated through as well, every loss is read back at every step, AdamW is not fused, and all
2-D convolutions run down the columns.
"""

from __future__ import annotations

import logging
import resource
from collections.abc import Sequence
from statistics import median
from time import perf_counter
from typing import Any

import hydra
import torch
from lightning import Callback, LightningModule, Trainer, seed_everything
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from rvc_lightning import losses, resolvers
from rvc_lightning.building import build_module, make
from rvc_lightning.commands import command, readable_choices
from rvc_lightning.data.batch import CONTENT_REPEAT, Batch, Example, collate
from rvc_lightning.data.manifest import DatasetHeader
from rvc_lightning.errors import unknown_choice
from rvc_lightning.models.config import FRAMES_PER_SECOND, hop_samples
from rvc_lightning.models.discriminators import PeriodDiscriminator
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


LOOPS = {"ours": RVCModule, "plain": PlainLoop}


def timed_steps(module: RVCModule, loader: DataLoader, config: DictConfig) -> StepTimer:
    """Trains on all of `loader` and gives what it took."""
    timer = StepTimer()
    _short_trainer(config, callbacks=[timer]).fit(module, loader)
    return timer


def count_gflop(module: RVCModule, loader: DataLoader, config: DictConfig) -> float:
    """Billions of floating-point operations of one step, as torch counts convolutions and matrix products."""
    with FlopCounterMode(display=False) as counter:
        _short_trainer(config, limit_train_batches=1).fit(module, loader)
    return counter.get_total_flops() / 1e9


def _short_trainer(config: DictConfig, **changes: Any) -> Trainer:
    """The configured trainer for one epoch that leaves no traces."""
    quiet = {"callbacks": None, "logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return make(config, "trainer", **(quiet | {"max_epochs": 1, "limit_val_batches": 0} | changes))


def build(config: DictConfig, loop: str) -> RVCModule:
    """The networks in the loop of that name; the plain one without what we do for speed, see the head of this file."""
    header = DatasetHeader(config.model.synthesizer.sample_rate, {}, {"dim": config.content_dim})
    settings = config if loop == "ours" else OmegaConf.merge(config, {"optimizer": {"fused": None}})
    assert isinstance(settings, DictConfig)
    module = build_module(settings, header, voice={}, kind=LOOPS[loop])
    if loop == "plain":
        for part in module.discriminator.discriminators:
            if isinstance(part, PeriodDiscriminator):
                part.transposed = False
    return module


def random_loader(config: DictConfig) -> DataLoader:
    """As many random batches as a round has steps."""
    sample_rate, frames = config.model.synthesizer.sample_rate, round(config.seconds * FRAMES_PER_SECOND)
    slices = RandomSlices(config.steps * config.batch_size, frames, hop_samples(sample_rate), config.content_dim)
    return DataLoader(slices, batch_size=config.batch_size, collate_fn=one_batch)


@readable_choices
@hydra.main(version_base="1.3", config_path="pkg://rvc_lightning.conf", config_name="benchmark")
@command
def main(config: DictConfig) -> None:
    """Measures the loops by turns, so that what else the machine does meets all of them."""
    if unknown := sorted(set(config.loops) - set(LOOPS)):
        raise unknown_choice("loop", unknown[0], LOOPS)
    seed_everything(config.seed, verbose=False)
    modules = {name: build(config, name) for name in config.loops}
    loader = random_loader(config)
    timers: dict[str, list[StepTimer]] = {name: [] for name in modules}
    for _ in range(config.rounds):
        for name, module in modules.items():
            timers[name].append(timed_steps(module, loader, config))
    # The first step of a round warms up and does not count.
    seconds = {name: median(s for timer in rounds for s in timer.seconds[1:]) for name, rounds in timers.items()}
    for name, module in modules.items():
        gflop = count_gflop(module, loader, config)
        audio = config.batch_size * config.seconds / seconds[name]
        log.info("%-6s %8.3f s/step  %7.2f audio-s/s  %8.1f GFLOP/s", name, seconds[name], audio, gflop / seconds[name])
    if len(modules) == 1:
        log.info("peak memory %.2f GiB", timers[config.loops[0]][-1].peak_bytes / 2**30)
    for name in list(modules)[1:]:
        log.info("%s takes %.2f of the time of %s", config.loops[0], seconds[config.loops[0]] / seconds[name], name)


if __name__ == "__main__":
    main()
