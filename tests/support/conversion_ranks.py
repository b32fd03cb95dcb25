"""Script of conversions in other processes: conversion_ranks.py FOLDER STRATEGY, or FOLDER long --minutes N."""

import logging
import sys
from argparse import ArgumentParser
from pathlib import Path

import golden_rule
import soundfile
import torch
from stubs import StubContent, StubPitch, cpu_trainer, make_voice, quick_config

from rvc_lightning import ConversionOptions, VoiceConverter
from rvc_lightning.cli.command import errors_as_exit_status
from rvc_lightning.conversion.folder import convert_files
from rvc_lightning.conversion.lengths import ChunkLengths


def make_converter(lengths=None, **trainer):
    parts = {"content": StubContent(), "pitch": StubPitch(), "trainer": cpu_trainer(**trainer)}
    return VoiceConverter(make_voice(quick_config()), lengths=lengths, **parts)


@errors_as_exit_status()
def convert_on_ranks(folder, strategy):
    converter = make_converter(ChunkLengths(1, 1, 4, 5), devices=2, strategy=strategy)
    convert_files(converter, folder / "in", folder / "out", ConversionOptions())


def convert_long_recording(folder, minutes):
    block = golden_rule.stub_audio("long", 60.0)
    with soundfile.SoundFile(folder / "long.wav", "w", 16000, 1) as file:
        for _ in range(minutes):
            file.write(block)
    # Short chunks, so that their length makes little difference to the memory.
    convert_files(
        make_converter(ChunkLengths(1, 1, 6, 8)),
        folder / "long.wav",
        folder / "long_out.wav",
        ConversionOptions(volume_envelope=0.5),
    )
    # The module only exists on POSIX.
    import resource

    sys.stdout.write(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("kind")
    parser.add_argument("--minutes", type=int)
    arguments = parser.parse_args()
    if arguments.kind == "long":
        convert_long_recording(arguments.folder, arguments.minutes)
    else:
        convert_on_ranks(arguments.folder, arguments.kind)
