"""Serve web page and HTTP API: `python -m rvc_lightning.app voices=voices`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from rvc_lightning.app.texts import LANGUAGES
from rvc_lightning.cli import resolvers
from rvc_lightning.cli.command import command
from rvc_lightning.config.options import Settings, option
from rvc_lightning.config.values import plain
from rvc_lightning.errors import ConfigurationError
from rvc_lightning.io.files import make_folder
from rvc_lightning.io.packages import require_extra

if TYPE_CHECKING:
    from rvc_lightning.conversion.converter import VoiceConverter

resolvers.register()

_OWN_VOICES = "voices"
"""Default folder of voices, created at the first start; any other folder must exist."""


@dataclass(frozen=True, kw_only=True)
class AppSettings(Settings):
    """Settings of `conf/app.yaml` outside of its groups."""

    host: str = option(help="the address to listen on")
    port: int = option(min=0, max=65535)
    host_names: list[str]
    token: str | None
    ssl_certfile: str | None
    ssl_keyfile: str | None
    content_path: str | None
    language: str = option(choices=LANGUAGES)
    links: bool
    config_dir: str | None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ssl_keyfile and not self.ssl_certfile:
            raise ConfigurationError(f"ssl_keyfile={self.ssl_keyfile}: name its certificate as well, ssl_certfile=FILE")
        if self.config_dir is not None and not Path(self.config_dir, "experiment").is_dir():
            raise ConfigurationError(
                f"config_dir={self.config_dir}: it has no folder 'experiment'; choose the folder that contains it, or "
                "null"
            )


@command("app")
def main(config: DictConfig) -> None:
    """List the voices and serve the page until Ctrl-C."""
    require_extra(["gradio"], "app", "the page")
    # Imported here to keep --help and error messages fast.
    from rvc_lightning.app.catalog import VoiceCatalog
    from rvc_lightning.app.folders import Folders
    from rvc_lightning.app.server import Certificate, Site, serve
    from rvc_lightning.app.service import ConversionService, Limits
    from rvc_lightning.jobs.store import JobStore
    from rvc_lightning.training.trainer import set_up_torch

    set_up_torch(config)
    settings, limits = AppSettings.from_config(config), Limits.from_values(config.limits)
    folders = Folders.from_config(config)
    make_converter = _converter_factory(config, settings)
    if folders.voices == _OWN_VOICES:
        make_folder(Path(folders.voices))
    service = ConversionService(VoiceCatalog(folders.voices), make_converter, limits)
    jobs = JobStore(folders.jobs)
    # A folder that cannot be used ends the command here.
    jobs.wake()
    site = Site(
        service,
        jobs,
        folders,
        plain(config),
        token=settings.token,
        host_names=tuple(settings.host_names),
        language=settings.language,
        links=settings.links,
        config_dir=settings.config_dir,
    )
    certificate = Certificate(settings.ssl_certfile, settings.ssl_keyfile) if settings.ssl_certfile else None
    serve(site, settings.host, settings.port, certificate)


def _converter_factory(config: DictConfig, settings: AppSettings) -> Callable[[Path, Path | None], VoiceConverter]:
    """Return a function that builds the converter of a voice and its index."""
    from rvc_lightning.conversion.converter import VoiceConverter
    from rvc_lightning.conversion.prediction import Throughput
    from rvc_lightning.pitch import chosen_pitch
    from rvc_lightning.training.export import load_voice
    from rvc_lightning.training.trainer import build_converting_trainer

    pitch, trainer = chosen_pitch(config.get("pitch")), build_converting_trainer(config)
    # Without worker processes, which could outlive the server.
    throughput = Throughput.from_values({"batch_seconds": config.batch_seconds})

    def build(voice: Path, index: Path | None) -> VoiceConverter:
        return VoiceConverter(
            load_voice(voice),
            index,
            content_path=settings.content_path,
            pitch=pitch,
            trainer=trainer,
            throughput=throughput,
        )

    return build


if __name__ == "__main__":
    main()
