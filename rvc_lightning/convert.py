"""Converts a recording or a folder: `python -m rvc_lightning.convert voice=… input=… output=…`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from rvc_lightning.cli import resolvers
from rvc_lightning.cli.command import command
from rvc_lightning.config.values import optional, required, switch
from rvc_lightning.conversion.options import ConversionOptions, default_values

log = logging.getLogger(__name__)
resolvers.register()


@command("convert")
def main(config: DictConfig) -> None:
    """Reads voice and index, converts, writes."""
    voice_path = required(config, "voice", "the voice, a .pth file")
    source = required(config, "input", "a recording or a folder")
    output = required(config, "output", "the file or folder to write")
    options = options_of(config)
    # Imported here so that --help and a mistake need not wait for them.
    from rvc_lightning.config.values import plain
    from rvc_lightning.conversion.chunking import ChunkLengths
    from rvc_lightning.conversion.converter import VoiceConverter
    from rvc_lightning.conversion.folder import convert_files
    from rvc_lightning.conversion.prediction import Throughput
    from rvc_lightning.pitch import chosen_pitch
    from rvc_lightning.training.trainer import build_converting_trainer, set_up_torch
    from rvc_lightning.voice.voice import Voice

    set_up_torch(config)
    voice = Voice.load(voice_path)
    index = index_of(voice_path, optional(config, "index", "the voice's index, a file")) if options.index_rate else None
    pitch = chosen_pitch(config.pitch)
    converter = VoiceConverter(
        voice,
        index,
        content_path=optional(config, "content_path", "the folder of the content encoder"),
        pitch=pitch,
        trainer=build_converting_trainer(config),
        lengths=ChunkLengths(**plain(config.chunks)),
        throughput=Throughput(config.batch_seconds, config.num_workers),
    )
    convert_files(converter, source, output, options, redo=switch(config, "redo"))


def options_of(config: DictConfig) -> ConversionOptions:
    """The options in the configuration of a command. Raises ConfigurationError for those that make no sense."""
    return ConversionOptions.from_values({name: _plain(config[name]) for name in default_values()})


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def index_of(voice: str, index: str | None) -> Path | None:
    """The index to use: the one asked for, else the one beside the voice if there is any; says which."""
    from lightning.pytorch.utilities import rank_zero_only

    from rvc_lightning.retrieval.discovery import explain_no_index, find_index

    chosen = find_index(Path(voice)) if index is None else Path(index)
    rank_zero_only(log.info)("Index: %s", chosen or f"none; {explain_no_index(Path(voice))}")
    return chosen


if __name__ == "__main__":
    main()
