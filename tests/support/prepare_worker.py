"""Prepares in a process that may be killed, and notes which rank wrote what: prepare_worker.py INPUT OUTPUT RANKS."""

from argparse import ArgumentParser
from pathlib import Path

import lightning
import torch
from lightning.pytorch.strategies import DDPStrategy

from rvc_lightning.data import features
from rvc_lightning.data.features import ExtractionConfig
from rvc_lightning.data.preparation import prepare
from rvc_lightning.data.recipe import Recipe


def main():
    parser = ArgumentParser()
    parser.add_argument("audio", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("ranks", type=int)
    arguments = parser.parse_args()
    output, ranks = arguments.output, arguments.ranks
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=ranks,
        strategy=DDPStrategy() if ranks > 1 else "auto",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        use_distributed_sampler=False,
    )
    write_npy = features.write_npy

    def noted(path, values):
        write_npy(path, values)
        if ranks > 1 and "content-" in str(path):
            with (output / f"by-rank-{trainer.global_rank}").open("a") as stream:
                stream.write(f"{path.relative_to(output)}\n")

    features.write_npy = noted
    prepare(
        arguments.audio,
        output,
        Recipe(sample_rate=24000, pitch={"name": "swift_f0"}, content={"name": "spectral"}),
        trainer=trainer,
        extraction=ExtractionConfig(batch_slices=2),
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
