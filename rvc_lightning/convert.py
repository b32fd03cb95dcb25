"""Convert a recording or a folder: `python -m rvc_lightning.convert voice=… input=… output=…`."""

from __future__ import annotations

import logging
from pathlib import Path

from omegaconf import DictConfig

from rvc_lightning.cli import resolvers
from rvc_lightning.cli.command import command
from rvc_lightning.config.values import optional, required, switch
from rvc_lightning.conversion import options as conversion_options

log = logging.getLogger(__name__)
resolvers.register()
conversion_options.register()


@command("convert")
def main(config: DictConfig) -> None:
    """Load the voice and its index, convert, and write the results."""
    voice_path = required(config, "voice", "the voice, a .pth file")
    source = required(config, "input", "a recording or a folder")
    output = required(config, "output", "the file or folder to write")
    options = conversion_options.options_from(config)
    # Imported here to keep --help and error messages quick.
    from rvc_lightning.conversion.chunking import ChunkLengths
    from rvc_lightning.conversion.converter import VoiceConverter
    from rvc_lightning.conversion.folder import convert_files
    from rvc_lightning.conversion.tasks import Throughput
    from rvc_lightning.pitch import chosen_pitch
    from rvc_lightning.training.trainer import build_converting_trainer, set_up_torch
    from rvc_lightning.voice.voice import Voice

    set_up_torch(config)
    voice = Voice.load(voice_path)
    index = (
        index_for(voice_path, optional(config, "index", "the voice's index, a file")) if options.index_rate else None
    )
    converter = VoiceConverter(
        voice,
        index,
        content_path=optional(config, "content_path", "the folder of the content encoder"),
        pitch=chosen_pitch(config.get("pitch")),
        trainer=build_converting_trainer(config),
        lengths=ChunkLengths.from_values(config.chunks),
        throughput=Throughput.from_values({key: config[key] for key in ("batch_seconds", "num_workers")}),
    )
    convert_files(converter, source, output, options, redo=switch(config, "redo"))


def index_for(voice: str, index: str | None) -> Path | None:
    """Return and log the index to use: `index`, else the one beside the voice, if any."""
    from lightning.pytorch.utilities import rank_zero_only

    from rvc_lightning.retrieval.discovery import explain_no_index, find_index

    chosen = find_index(Path(voice)) if index is None else Path(index)
    rank_zero_only(log.info)("Index: %s", chosen or f"none; {explain_no_index(Path(voice))}")
    return chosen


if __name__ == "__main__":
    main()
