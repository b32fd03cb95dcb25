"""The private parts of Lightning that this package uses, in one place. Tried with lightning 2.6.6."""

from __future__ import annotations

from typing import NamedTuple

from lightning import Trainer
from lightning.fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher, _SubprocessScriptLauncher
from lightning.pytorch.utilities import rank_zero_only


class StartedRanks(NamedTuple):
    """Ranks that a launcher outside of Lightning has started."""

    launcher: str
    count: int


def externally_started_ranks() -> StartedRanks | None:
    """Return the ranks that torchrun or SLURM has started; None if Lightning starts them."""
    for launcher, environment in (("torchrun", TorchElasticEnvironment), ("SLURM", SLURMEnvironment)):
        if environment.detect():
            return StartedRanks(launcher, environment().world_size())
    return None


def starts_ranks_by_command(trainer: Trainer) -> bool:
    """Return whether the trainer starts its ranks by repeating the command line of this process."""
    return isinstance(trainer.strategy.launcher, _SubprocessScriptLauncher)


def start_method(trainer: Trainer) -> str:
    """Return how the trainer starts its ranks, as `DDPStrategy` names it."""
    launcher = trainer.strategy.launcher
    return launcher._start_method if isinstance(launcher, _MultiProcessingLauncher) else "popen"


def is_first_rank() -> bool:
    """Return whether this process is rank 0, or the only one."""
    return rank_zero_only.rank == 0  # type: ignore[attr-defined]


def steps_done(trainer: Trainer) -> int:
    """Return how many training steps the trainer has taken, those before a resume included."""
    return trainer.fit_loop.epoch_loop.total_batch_idx + 1
