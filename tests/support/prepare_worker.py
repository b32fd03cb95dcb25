"""Prepare a dataset on two ranks, and record which rank wrote which file: prepare_worker.py INPUT OUTPUT [--fail]."""

from argparse import ArgumentParser
from pathlib import Path

import torch
from defaults import make_extraction, make_recipe
from tiny import tiny_trainer

from rvc_lightning.data import features, preparation


def main():
    parser = ArgumentParser()
    parser.add_argument("audio", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--fail", action="store_true")
    arguments = parser.parse_args()
    output, trainer = arguments.output, tiny_trainer(devices=2, strategy="ddp")
    write_npy = features.write_npy

    def write_and_record(path, values):
        write_npy(path, values)
        if "content-" in str(path):
            with (output / f"by-rank-{trainer.global_rank}").open("a") as stream:
                stream.write(f"{Path(path).relative_to(output)}\n")

    features.write_npy = write_and_record
    if arguments.fail:
        preparation.write_manifest = fail
    try:
        preparation.prepare(
            arguments.audio, output, make_recipe(), trainer=trainer, extraction=make_extraction(batch_slices=2)
        )
    except OSError as error:
        (output / f"error-of-rank-{trainer.global_rank}").write_text(str(error), encoding="utf-8")


def fail(*args):
    raise OSError("no space left on device")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
