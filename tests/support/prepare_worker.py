"""Prepare a dataset on two ranks, and record which rank wrote which file: prepare_worker.py INPUT OUTPUT."""

from argparse import ArgumentParser
from pathlib import Path

import torch
from defaults import make_extraction, make_recipe
from tiny import tiny_trainer

from rvc_lightning.data import features
from rvc_lightning.data.preparation import prepare


def main():
    parser = ArgumentParser()
    parser.add_argument("audio", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    output, trainer = arguments.output, tiny_trainer(devices=2, strategy="ddp")
    write_npy = features.write_npy

    def write_and_record(path, values):
        write_npy(path, values)
        if "content-" in str(path):
            with (output / f"by-rank-{trainer.global_rank}").open("a") as stream:
                stream.write(f"{Path(path).relative_to(output)}\n")

    features.write_npy = write_and_record
    prepare(arguments.audio, output, make_recipe(), trainer=trainer, extraction=make_extraction(batch_slices=2))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
