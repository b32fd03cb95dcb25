"""Convert a recording or a folder: `python -m rvc_lightning.convert voice=… input=… output=…`."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from rvc_lightning.cli import resolvers
from rvc_lightning.cli.command import command
from rvc_lightning.config.options import option
from rvc_lightning.conversion import options as conversion_options
from rvc_lightning.conversion.presets import options_with_preset
from rvc_lightning.conversion.voice_settings import VoiceSettings

log = logging.getLogger(__name__)
resolvers.register()
conversion_options.register()


@dataclass(frozen=True, kw_only=True)
class ConvertSettings(VoiceSettings):
    """Settings of `conf/convert.yaml` outside of its groups."""

    input: str = option(help="a recording or a folder")
    output: str = option(help="the file or folder to write")
    preset: str | None
    redo: bool


@command("convert")
def main(config: DictConfig) -> None:
    """Load the voice and its index, convert, and write the results."""
    settings = ConvertSettings.from_config(config)
    options = options_with_preset(config, Path(settings.voice), settings.preset)
    # Imported here to keep --help and error messages quick.
    from rvc_lightning.conversion.converter import VoiceConverter
    from rvc_lightning.conversion.folder import convert_files
    from rvc_lightning.conversion.lengths import ChunkLengths
    from rvc_lightning.conversion.tasks import Throughput
    from rvc_lightning.pitch import chosen_pitch
    from rvc_lightning.training.trainer import build_converting_trainer, set_up_torch
    from rvc_lightning.voice.voice import Voice

    set_up_torch(config)
    converter = VoiceConverter(
        Voice.load(settings.voice),
        settings.index_path() if options.index_rate else None,
        content_path=settings.content_path,
        pitch=chosen_pitch(config.get("pitch")),
        trainer=build_converting_trainer(config),
        lengths=ChunkLengths.from_values(config.chunks),
        throughput=Throughput.from_config(config),
    )
    convert_files(converter, settings.input, settings.output, options, redo=settings.redo)


if __name__ == "__main__":
    main()
