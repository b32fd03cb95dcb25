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
    from rvc_lightning.conversion.folder import convert_files
    from rvc_lightning.training.converting import build_converter

    converter = build_converter(config, settings, options)
    convert_files(converter, settings.input, settings.output, options, redo=settings.redo)


if __name__ == "__main__":
    main()
