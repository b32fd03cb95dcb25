"""`python -m rvc_lightning.train audio=FOLDER`: recordings in, a voice out."""

from __future__ import annotations

import sys

from omegaconf import DictConfig

from rvc_lightning.cli import resolvers
from rvc_lightning.cli.command_line import configured
from rvc_lightning.cli.commands import command
from rvc_lightning.cli.resume import with_settings_of_run

resolvers.register()


@configured("train")
@command
def train(config: DictConfig) -> float | None:
    """Composes, builds and trains; gives the best `val/mel` to sweeps."""
    # torch takes seconds to import, and --help should not.
    from rvc_lightning.training import run as workflow

    return workflow.train(config)


def main() -> None:
    """Trains as is typed; a run that goes on has the settings that it was started with."""
    # Hydra, and the processes of other ranks, read it from there.
    sys.argv[1:] = with_settings_of_run(sys.argv[1:])  # noqa: TID251
    train()


if __name__ == "__main__":
    main()
