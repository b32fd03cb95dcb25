"""`python -m rvc_lightning.train audio=FOLDER`: recordings in, a voice out."""

from __future__ import annotations

from omegaconf import DictConfig

from rvc_lightning import resolvers
from rvc_lightning.command_line import configured
from rvc_lightning.commands import command

resolvers.register()


@configured("train")
@command
def main(config: DictConfig) -> float | None:
    """Composes, builds and trains; gives the best `val/mel` to sweeps."""
    # torch takes seconds to import, and --help should not.
    from rvc_lightning.workflow import train

    return train(config)


if __name__ == "__main__":
    main()
