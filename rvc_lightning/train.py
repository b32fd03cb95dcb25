"""`python -m rvc_lightning.train audio=FOLDER`: train a voice from recordings."""

from __future__ import annotations

from omegaconf import DictConfig

from rvc_lightning.cli import resolvers
from rvc_lightning.cli.command import command

resolvers.register()


@command("train")
def main(config: DictConfig) -> float | None:
    """Train, and return the best `val/mel` to sweeps."""
    # Imported here, since --help must not wait seconds for torch.
    from rvc_lightning.cli.resume import with_saved_settings
    from rvc_lightning.training.run import train

    return train(with_saved_settings(config))


if __name__ == "__main__":
    main()
