"""What each rank of a test with several runs: python -m torch.distributed.run ... ranks.py DATASET OUTPUT STRATEGY."""

from argparse import ArgumentParser
from pathlib import Path

import torch
from conftest import patch_draws
from lightning import Callback
from lightning.pytorch.strategies import DDPStrategy
from pytest import MonkeyPatch
from tiny import tiny_data, tiny_module, tiny_trainer
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

from rvc_lightning.strategies import FlatlyShardedNetworks, FullyShardedNetworks

STRATEGIES = {
    "ddp": lambda: DDPStrategy(find_unused_parameters=True),
    "fsdp": FlatlyShardedNetworks,
    "fsdp2": FullyShardedNetworks,
}


class Exchanges(Callback):
    """Counts how often gradients are exchanged."""

    def __init__(self):
        self.count = 0

    def on_train_start(self, trainer, pl_module):
        if isinstance(trainer.strategy, DDPStrategy):
            trainer.model.register_comm_hook(None, self.exchange)

    def exchange(self, state, bucket):
        self.count += bucket.is_last()
        return allreduce_hook(None, bucket)


def train(dataset, output, strategy, **settings):
    """Trains on two ranks; rank 0 saves the weights and how often gradients were exchanged."""
    exchanges = Exchanges()
    trainer = tiny_trainer(devices=2, strategy=STRATEGIES[strategy](), callbacks=[exchanges])
    module = tiny_module()
    trainer.fit(module, tiny_data(dataset, batch_size=2, accumulate_grad_batches=2, **settings))
    trainer.save_checkpoint(output / f"{strategy}.ckpt")
    if trainer.is_global_zero:
        torch.save({"exchanges": exchanges.count, "steps": module.optimizer_steps}, output / f"{strategy}.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    patch_draws(MonkeyPatch())
    parser = ArgumentParser()
    parser.add_argument("dataset", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("strategies", nargs="+")
    arguments = parser.parse_args()
    for name in arguments.strategies:
        train(arguments.dataset, arguments.output, name)
