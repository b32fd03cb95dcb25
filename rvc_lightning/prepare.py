"""`python -m rvc_lightning.prepare audio=FOLDER`: recordings to a prepared dataset, for many runs or a sweep."""

from __future__ import annotations

import hydra
from omegaconf import DictConfig

from rvc_lightning import resolvers
from rvc_lightning.commands import command, readable_choices, required

resolvers.register()


@readable_choices
@hydra.main(version_base="1.3", config_path="pkg://rvc_lightning.conf", config_name="prepare")
@command
def main(config: DictConfig) -> None:
    """Prepares and reports, or says what it would do."""
    from rvc_lightning.workflow import prepare_dataset, preview_dataset

    required(config, "audio", "a folder of recordings, or one recording")
    if config.preview:
        preview_dataset(config)
    else:
        prepare_dataset(config)


if __name__ == "__main__":
    main()
