"""Script of each rank in tests with several ranks: ranks.py DATASET OUTPUT STRATEGY... [--fail]."""

from argparse import ArgumentParser
from pathlib import Path

import torch
from golden import patch_random
from lightning import Callback
from lightning.pytorch.strategies import DDPStrategy
from pytest import MonkeyPatch
from tiny import tiny_data, tiny_module, tiny_trainer
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

from rvc_lightning.errors import DatasetError
from rvc_lightning.training.strategies import FSDPStrategy

STRATEGIES = {
    "ddp": lambda: DDPStrategy(find_unused_parameters=True),
    "fsdp": FSDPStrategy,
}
GLOBAL_BATCH, N_BATCHES = 4, 2


class ReductionCounter(Callback):
    """Counts how often the ranks reduce the gradients of a network."""

    def __init__(self):
        self.count = 0
        self.patch = MonkeyPatch()

    def on_train_start(self, trainer, pl_module):
        if isinstance(trainer.strategy, DDPStrategy):
            trainer.model.register_comm_hook(None, self.reduce)
        # Names of the function in several versions of torch.
        for name in {"reduce_scatter_tensor", "reduce_scatter_single"} & set(dir(torch.distributed)):
            self.patch.setattr(torch.distributed, name, self.count_calls(getattr(torch.distributed, name)))

    def reduce(self, state, bucket):
        self.count += bucket.is_last()
        return allreduce_hook(None, bucket)

    def count_calls(self, reduce):
        def counting(*args, **kwargs):
            self.count += 1
            return reduce(*args, **kwargs)

        return counting

    def on_train_end(self, trainer, pl_module):
        self.patch.undo()


class Failing(Callback):
    """Raises an error on the second rank."""

    def on_train_batch_start(self, trainer, *args):
        if trainer.global_rank == 1:
            raise DatasetError("slice '7' cannot be read")


def train(dataset, output, strategy, callbacks=()):
    """Train on two ranks: for an epoch, and for a second one from the checkpoint of a single device."""
    data = {"batch_size": GLOBAL_BATCH // 2, "accumulate_grad_batches": N_BATCHES}
    reductions, module = ReductionCounter(), tiny_module()
    trainer = tiny_trainer(devices=2, strategy=STRATEGIES[strategy](), callbacks=[reductions, *callbacks])
    trainer.fit(module, tiny_data(dataset, **data))
    trainer.save_checkpoint(output / f"{strategy}.ckpt")
    if trainer.is_global_zero:
        torch.save({"reductions": reductions.count, "steps": module.optimizer_steps}, output / f"{strategy}.pt")
    trainer = tiny_trainer(devices=2, strategy=STRATEGIES[strategy](), max_epochs=2)
    trainer.fit(tiny_module(), tiny_data(dataset, **data), ckpt_path=output / "one.ckpt", weights_only=True)
    trainer.save_checkpoint(output / f"{strategy}_second.ckpt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    patch_random(MonkeyPatch())
    parser = ArgumentParser()
    parser.add_argument("dataset", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("strategies", nargs="+")
    parser.add_argument("--fail", action="store_true")
    arguments = parser.parse_args()
    for name in arguments.strategies:
        train(arguments.dataset, arguments.output, name, [Failing()] if arguments.fail else [])
