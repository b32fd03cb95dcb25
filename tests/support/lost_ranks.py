"""Script of two ranks, one of which is killed: lost_ranks.py DATASET STRATEGY VICTIM."""

import logging
import os
import signal
from argparse import ArgumentParser
from pathlib import Path

import torch
from lightning import Callback
from ranks import STRATEGIES
from tiny import tiny_data, tiny_module, tiny_trainer

from rvc_lightning.cli.command import errors_as_exit_status
from rvc_lightning.training.callbacks.rank_watch import RankWatch


class Killed(Callback):
    """Kills a rank before its second step."""

    def __init__(self, victim, marker):
        self.victim, self.marker = victim, marker

    def on_train_batch_start(self, trainer, pl_module, *args):
        if trainer.global_rank == self.victim and pl_module.optimizer_steps == 1:
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)


@errors_as_exit_status()
def main():
    parser = ArgumentParser()
    parser.add_argument("dataset", type=Path)
    parser.add_argument("strategy")
    parser.add_argument("victim", type=int)
    arguments = parser.parse_args()
    callbacks = [RankWatch(), Killed(arguments.victim, arguments.dataset / "killed")]
    trainer = tiny_trainer(devices=2, strategy=STRATEGIES[arguments.strategy](), callbacks=callbacks, max_epochs=9)
    trainer.fit(tiny_module(), tiny_data(arguments.dataset, batch_size=2))


if __name__ == "__main__":
    torch.set_num_threads(1)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
