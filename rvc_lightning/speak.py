"""Synthesize a text with a voice: `python -m rvc_lightning.speak text=… voice=… output=…`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from rvc_lightning.cli import resolvers
from rvc_lightning.cli.command import command
from rvc_lightning.config.options import option
from rvc_lightning.config.values import plain
from rvc_lightning.conversion import options as conversion_options
from rvc_lightning.conversion.presets import options_with_preset
from rvc_lightning.conversion.voice_settings import VoiceSettings

resolvers.register()
conversion_options.register()


@dataclass(frozen=True, kw_only=True)
class SpeakSettings(VoiceSettings):
    """Settings of `conf/speak.yaml` outside of its groups."""

    text: str = option(help="the text, or a text file (.txt)")
    lines: bool
    output: str = option(help="the file to write, or a folder for lines")
    preset: str | None


@command("speak")
def main(config: DictConfig) -> None:
    """Synthesize the text with the engine, and convert the recordings."""
    settings = SpeakSettings.from_config(config)
    options = options_with_preset(config, Path(settings.voice), settings.preset)
    # Imported here to keep --help and error messages quick.
    from rvc_lightning.conversion.folder import convert_files
    from rvc_lightning.io.scratch import scratch_folder
    from rvc_lightning.training.converting import build_converter
    from rvc_lightning.tts import build_speech_engine
    from rvc_lightning.tts.text import read_text, record_text

    text = read_text(settings.text)
    engine = build_speech_engine(**plain(config.tts))
    converter = build_converter(config, settings, options)
    converter.check(options)
    with scratch_folder(None) as scratch:
        source = record_text(engine, text, scratch, lines=settings.lines)
        convert_files(converter, source, settings.output, options)


if __name__ == "__main__":
    main()
