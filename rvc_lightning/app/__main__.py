"""Serve a web page that converts: `python -m rvc_lightning.app voices=voices`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from rvc_lightning.cli import resolvers
from rvc_lightning.cli.command import command
from rvc_lightning.config.values import optional, plain, required
from rvc_lightning.errors import ConfigurationError

if TYPE_CHECKING:
    from rvc_lightning.conversion.converter import VoiceConverter

resolvers.register()


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
    limits = Limits.from_values(plain(config.limits))
    content_path = optional(config, "content_path", "the folder of the content encoder")
    pitch, trainer = chosen_pitch(config.get("pitch")), build_converting_trainer(config)
    # Without worker processes, which could outlive the server.
    throughput = Throughput(config.batch_seconds, 0)

    def make_converter(voice: Path, index: Path | None) -> VoiceConverter:
        return VoiceConverter(
            Voice.load(voice), index, content_path=content_path, pitch=pitch, trainer=trainer, throughput=throughput
        )

    catalog = VoiceCatalog(required(config, "voices", "the folder of the voices"))
    serve(
        ConversionService(catalog, make_converter, limits),
        required(config, "host", "the address to listen on"),
        config.port,
    )


if __name__ == "__main__":
    main()
