"""`python -m rvc_lightning.download`: lists the pretrained files of public hubs; with files=, fetches them."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from omegaconf import DictConfig, ListConfig

from rvc_lightning.cli import resolvers
from rvc_lightning.cli.command_line import configured
from rvc_lightning.cli.commands import optional, reported

log = logging.getLogger(__name__)

resolvers.register()


@configured("download")
@reported
def main(config: DictConfig) -> None:
    """Shows the table, or fetches what is asked for."""
    from rvc_lightning.io.hub import choose, fetch_all, known_files, table

    place = optional(config, "folder", "the folder to put the files into")
    folder = Path(place).expanduser() if place else None
    if config.files is None:
        sys.stdout.write(table(known_files(), folder) + "\n")
        log.info("Fetch some or all of them: files=[contentvec,rmvpe], files=pretrained, files=all")
        return
    words = config.files if isinstance(config.files, ListConfig) else [config.files]
    fetch_all(choose(map(str, words)), folder)


if __name__ == "__main__":
    main()
