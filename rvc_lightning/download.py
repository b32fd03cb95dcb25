"""`python -m rvc_lightning.download`: lists the pretrained files of public hubs; with files=, fetches them."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig, ListConfig

from rvc_lightning.commands import reported

log = logging.getLogger(__name__)


@hydra.main(version_base="1.3", config_path="pkg://rvc_lightning.conf", config_name="download")
@reported
def main(config: DictConfig) -> None:
    """Shows the table, or fetches what is asked for."""
    from rvc_lightning.hub import choose, fetch_all, known_files, table

    folder = Path(config.folder).expanduser() if config.folder else None
    if config.files is None:
        sys.stdout.write(table(known_files(), folder) + "\n")
        log.info("Fetch some or all of them: files=[contentvec,rmvpe], files=pretrained, files=all")
        return
    words = config.files if isinstance(config.files, ListConfig) else [config.files]
    fetch_all(choose(map(str, words)), folder)


if __name__ == "__main__":
    main()
