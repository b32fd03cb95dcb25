"""`python -m rvc_lightning.prepare audio=FOLDER`: recordings to a prepared dataset, for many runs or a sweep."""

from __future__ import annotations

from omegaconf import DictConfig

from rvc_lightning.cli import resolvers
from rvc_lightning.cli.command_line import configured
from rvc_lightning.cli.commands import command, required, switch

resolvers.register()


@configured("prepare")
@command
def main(config: DictConfig) -> None:
    """Prepares and reports, or says what it would do."""
    from rvc_lightning.training.run import prepare_dataset, preview_dataset

    required(config, "audio", "a folder of recordings, or one recording")
    if switch(config, "preview"):
        preview_dataset(config)
    else:
        prepare_dataset(config)


if __name__ == "__main__":
    main()
