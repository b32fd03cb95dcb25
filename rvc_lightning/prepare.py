"""`python -m rvc_lightning.prepare audio=FOLDER`: prepare recordings as a dataset, for several runs or a sweep."""

from __future__ import annotations

from omegaconf import DictConfig

from rvc_lightning.cli import resolvers
from rvc_lightning.cli.command import command
from rvc_lightning.config.values import required, switch

resolvers.register()


@command("prepare")
def main(config: DictConfig) -> None:
    """Prepare the recordings, or preview their preparation."""
    # Imported here, since --help must not wait seconds for torch.
    from rvc_lightning.training.dataset import prepare_dataset, preview_dataset

    required(config, "audio", "a folder of recordings, or one recording")
    if switch(config, "preview"):
        preview_dataset(config)
    else:
        prepare_dataset(config)


if __name__ == "__main__":
    main()
