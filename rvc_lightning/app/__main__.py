"""Serve a web page that converts: `python -m rvc_lightning.app voices=voices`."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from rvc_lightning.cli import resolvers
from rvc_lightning.cli.command import command
from rvc_lightning.config.options import Settings, option
from rvc_lightning.config.values import plain
from rvc_lightning.errors import ConfigurationError

if TYPE_CHECKING:
    from rvc_lightning.conversion.converter import VoiceConverter

resolvers.register()


@dataclass(frozen=True, kw_only=True)
class AppSettings(Settings):
    """Settings of `conf/app.yaml` outside of its groups."""

    voices: str = option(help="the folder of the voices")
    host: str = option(help="the address to listen on")
    port: int = option(min=0, max=65535)
    content_path: str | None


@command("app")
def main(config: DictConfig) -> None:
    """List the voices and serve the page until Ctrl-C."""
    if find_spec("gradio") is None:
        raise ConfigurationError('the page requires Gradio: pip install "rvc-lightning[app]"')
    # Imported here to keep --help and error messages fast.
    from rvc_lightning.app.catalog import VoiceCatalog
    from rvc_lightning.app.server import serve
    from rvc_lightning.app.service import ConversionService, Limits
    from rvc_lightning.conversion.converter import VoiceConverter
    from rvc_lightning.conversion.prediction import Throughput
    from rvc_lightning.pitch import chosen_pitch
    from rvc_lightning.training.trainer import build_converting_trainer, set_up_torch
    from rvc_lightning.voice.voice import Voice

    set_up_torch(config)
    settings, limits = AppSettings.from_config(config), Limits.from_values(config.limits)
    pitch, trainer = chosen_pitch(config.get("pitch")), build_converting_trainer(config)
    # Without worker processes, which could outlive the server.
    throughput = Throughput.from_values({"batch_seconds": config.batch_seconds})

    def make_converter(voice: Path, index: Path | None) -> VoiceConverter:
        return VoiceConverter(
            Voice.load(voice),
            index,
            content_path=settings.content_path,
            pitch=pitch,
            trainer=trainer,
            throughput=throughput,
        )

    service = ConversionService(VoiceCatalog(settings.voices), make_converter, limits)
    serve(service, settings.host, settings.port, plain(config))


if __name__ == "__main__":
    main()
