"""Cover a song: `python -m rvc_lightning.cover song=… voice=… output=…`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from rvc_lightning.cli import resolvers
from rvc_lightning.cli.command import command
from rvc_lightning.config.options import option
from rvc_lightning.config.values import plain
from rvc_lightning.conversion import options as conversion_options
from rvc_lightning.conversion.presets import options_with_preset
from rvc_lightning.conversion.voice_settings import VoiceSettings

if TYPE_CHECKING:
    from rvc_lightning.covers.settings import SongSettings
    from rvc_lightning.covers.song import Song

resolvers.register()
conversion_options.register()


@dataclass(frozen=True, kw_only=True)
class CoverSettings(VoiceSettings):
    """Files of `conf/cover.yaml`."""

    output: str = option(help="the file to write")
    preset: str | None
    keep_stems: bool


@command("cover")
def main(config: DictConfig) -> None:
    """Separate the song, convert its voice, mix it with the music, and write the cover."""
    settings = CoverSettings.from_config(config)
    options = options_with_preset(config, Path(settings.voice), settings.preset)
    # Imported here to keep --help and error messages quick.
    from rvc_lightning.covers.mix import check_cover, make_cover, write_cover
    from rvc_lightning.covers.settings import MixSettings, SongSettings
    from rvc_lightning.training.converting import build_converter

    source, mix, output = SongSettings.from_config(config), MixSettings.from_config(config), Path(settings.output)
    converter = build_converter(config, settings, options)
    check_cover(converter, options, mix, output, source.files())
    song = read_song(config, source)
    write_cover(make_cover(converter, song, options, mix), song, output, keep_stems=settings.keep_stems)


def read_song(config: DictConfig, source: SongSettings) -> Song:
    """Separate the song, or read its stems."""
    from rvc_lightning.covers.song import join_stems, separate_song
    from rvc_lightning.separation import build_separator
    from rvc_lightning.separation.store import PartStore
    from rvc_lightning.training.trainer import build_separating_fabric

    if source.song is None:
        instrumental, vocals, *backing = source.files()
        return join_stems(vocals, instrumental, *backing)
    separator = build_separator(build_separating_fabric(config), **plain(config.separator))
    return separate_song(Path(source.song), source.separation, PartStore(separator, Path(config.paths.stems)))


if __name__ == "__main__":
    main()
