"""`python -m rvc_lightning.train audio=FOLDER`: recordings in, a voice out."""

from __future__ import annotations

import hydra
from omegaconf import DictConfig

from rvc_lightning import resolvers
from rvc_lightning.commands import command, readable_choices

resolvers.register()


@readable_choices
@hydra.main(version_base="1.3", config_path="pkg://rvc_lightning.conf", config_name="train")
@command
def main(config: DictConfig) -> float | None:
    """Composes, builds and trains; gives the best `val/mel` to sweeps."""
    # torch takes seconds to import, and --help should not.
    from rvc_lightning.workflow import train

    return train(config)


if __name__ == "__main__":
    main()
