"""The private or untyped parts of Lightning that this package uses, in one place. Tried with lightning 2.6.6."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeVar

from lightning import Callback, Trainer
from lightning.fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher, _SubprocessScriptLauncher
from lightning.pytorch.utilities import rank_zero_only

C = TypeVar("C", bound=Callback)


class StartedRanks(NamedTuple):
    """Ranks that a launcher outside of Lightning has started."""

    launcher: str
    n_ranks: int


def externally_started_ranks() -> StartedRanks | None:
    """Return the ranks that torchrun or SLURM has started; None if Lightning starts them."""
    for launcher, environment in (("torchrun", TorchElasticEnvironment), ("SLURM", SLURMEnvironment)):
        if environment.detect():
            return StartedRanks(launcher, environment().world_size())
    return None


def starts_ranks_by_command(trainer: Trainer) -> bool:
    """Return whether the trainer starts its ranks by repeating the command line of this process."""
    return isinstance(trainer.strategy.launcher, _SubprocessScriptLauncher)


def start_method(trainer: Trainer) -> Literal["popen", "spawn", "fork", "forkserver"]:
    """Return how the trainer starts its ranks, as `DDPStrategy` names it."""
    launcher = trainer.strategy.launcher
    return launcher._start_method if isinstance(launcher, _MultiProcessingLauncher) else "popen"


def is_first_rank() -> bool:
    """Return whether this process is rank 0, or the only one."""
    return getattr(rank_zero_only, "rank", 0) == 0


def callbacks_of(trainer: Trainer, kind: type[C]) -> list[C]:
    """Return the callbacks of one class, in order."""
    return [callback for callback in getattr(trainer, "callbacks", ()) if isinstance(callback, kind)]


def shard_over_all_devices(strategy: ModelParallelStrategy) -> None:
    """Let a strategy shard over the devices of all nodes. Call it before `setup_environment`."""
    strategy._data_parallel_size = strategy.num_nodes * strategy.num_processes


def steps_done(trainer: Trainer) -> int:
    """Return how many training steps the trainer has taken, those before a resume included."""
    return trainer.fit_loop.epoch_loop.total_batch_idx + 1


def loop_state(trainer: Trainer) -> dict[str, Any]:
    """Return the state of the training loop, as in a checkpoint."""
    return trainer.fit_loop.state_dict()


def is_epoch_end(trainer: Trainer) -> bool:
    """Return whether the current step is the last one of its epoch."""
    loop = trainer.fit_loop.epoch_loop
    return loop.batch_progress.is_last_batch or loop.batch_idx + 1 == trainer.num_training_batches


def is_validation_due(trainer: Trainer) -> bool:
    """Return whether a validation follows the current step; False for validation by the clock."""
    interval, epochs = trainer.val_check_batch, trainer.check_val_every_n_epoch
    skips_epoch = epochs is not None and (trainer.current_epoch + 1) % epochs != 0
    if interval is None or skips_epoch or not trainer.enable_validation:
        return False
    loop = trainer.fit_loop.epoch_loop
    steps = loop.total_batch_idx if epochs is None else loop.batch_idx
    return (steps + 1) % interval == 0


def make_resumable(checkpoint: dict[str, Any], trainer: Trainer) -> None:
    """Change a checkpoint so that Lightning resumes exactly from it.

    At the end of an epoch, the loader must not skip batches of the next one, even if `limit_train_batches` left some.

    During a validation, the state becomes that after the validation. Within an epoch, it is that of a step that has
    just ended. At its end, with validation by the clock, Lightning would otherwise train on one more batch.
    """
    loops = checkpoint["loops"]["fit_loop"]
    progress = loops["epoch_loop.batch_progress"]
    by_clock = trainer.validating and trainer.val_check_batch is None
    if is_epoch_end(trainer):
        for state in loops["state_dict"].get("combined_loader", ()):
            state["taken"] = len(trainer.train_dataloader or ()) if by_clock else 0
        if by_clock:
            loops["epoch_loop.state_dict"]["_batches_that_stepped"] += 1
    elif trainer.validating:
        progress["total"]["completed"] -= 1
        progress["current"]["completed"] -= 1
