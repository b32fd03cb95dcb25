"""`python -m rvc_lightning.prepare audio=FOLDER`: prepare recordings as a dataset, for several runs or a sweep."""

from __future__ import annotations

from dataclasses import dataclass

from omegaconf import DictConfig

from rvc_lightning.cli import resolvers
from rvc_lightning.cli.command import command
from rvc_lightning.config.options import Settings, option

resolvers.register()


@dataclass(frozen=True, kw_only=True)
class PrepareSettings(Settings):
    """Settings of `conf/prepare.yaml` outside of its groups."""

    audio: str = option(help="a folder of recordings, or one recording")
    preview: bool


@command("prepare")
def main(config: DictConfig) -> None:
    """Prepare the recordings, or preview their preparation."""
    # Imported here, since --help must not wait seconds for torch.
    from rvc_lightning.training.dataset import prepare_dataset, preview_dataset

    if PrepareSettings.from_config(config).preview:
        preview_dataset(config)
    else:
        prepare_dataset(config)


if __name__ == "__main__":
    main()
