"""Serves a web page that converts: `python -m rvc_lightning.app voices=voices`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from rvc_lightning.cli import resolvers
from rvc_lightning.cli.command import command
from rvc_lightning.config.values import optional, required
from rvc_lightning.errors import ConfigurationError

if TYPE_CHECKING:
    from rvc_lightning.conversion.converter import VoiceConverter

resolvers.register()


@command("app")
def main(config: DictConfig) -> None:
    """Lists the voices and serves the page until it is stopped."""
    if find_spec("gradio") is None:
        raise ConfigurationError('the page needs Gradio: pip install -e ".[app]" (gradio>=6.31,<7)')
    # Imported here so that --help and a mistake need not wait for them.
    from rvc_lightning.app.catalog import VoiceCatalog
    from rvc_lightning.app.server import serve
    from rvc_lightning.app.service import ConversionService, Limits
    from rvc_lightning.config.values import plain
    from rvc_lightning.conversion.converter import VoiceConverter
    from rvc_lightning.conversion.tasks import Throughput
    from rvc_lightning.pitch import chosen_pitch
    from rvc_lightning.training.trainer import build_converting_trainer, set_up_torch
    from rvc_lightning.voice.voice import Voice

    set_up_torch(config)
    trainer = build_converting_trainer(config)
    # Without processes of its own: those of a server would outlive what they work for.
    throughput = Throughput(config.batch_seconds, 0)
    pitch = chosen_pitch(config.get("pitch"))

    def make_converter(voice: Path, index: Path | None) -> VoiceConverter:
        return VoiceConverter(
            Voice.load(voice),
            index,
            content_path=content_path,
            pitch=pitch,
            trainer=trainer,
            throughput=throughput,
        )

    content_path = optional(config, "content_path", "the folder of the content encoder")
    limits = Limits(**plain(config.limits))
    serve(
        ConversionService(
            VoiceCatalog(required(config, "voices", "the folder with the voices")), make_converter, limits
        ),
        required(config, "host", "the address to listen on"),
        config.port,
    )


if __name__ == "__main__":
    main()
