"""`python -m rvc_lightning.download`: list the pretrained files of public hubs, or download some of them."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, ListConfig

from rvc_lightning.cli import resolvers
from rvc_lightning.cli.columns import format_columns
from rvc_lightning.cli.command import command
from rvc_lightning.config.values import optional

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rvc_lightning.io.hub import HubFile

log = logging.getLogger(__name__)

resolvers.register()


@command("download")
def main(config: DictConfig) -> None:
    """Print the table of files, or download those that `files` selects."""
    # Slow to import, and --help does not need it.
    from rvc_lightning.io.hub import fetch_all, known_files, select_files

    path = optional(config, "folder", "the folder to download to")
    folder = Path(path).expanduser() if path else None
    if config.files is None:
        sys.stdout.write(format_files(known_files(), folder) + "\n")
        log.info("To download some or all of them: files=[contentvec,rmvpe], files=pretrained, files=all")
        return
    words = config.files if isinstance(config.files, ListConfig) else [config.files]
    fetch_all(select_files(map(str, words)), folder)


def format_files(files: Mapping[str, HubFile], folder: Path | None = None) -> str:
    """Return a table of files, a line each, with whether they are on this machine."""
    from rvc_lightning.io.hub import find_file

    rows = [("name", "here", "size", "licence", "repository", "file")]
    for name, file in files.items():
        here = "no" if find_file(file, folder) is None else "yes"
        rows.append((name, here, file.size, file.licence or "not stated", file.repository, file.path))
    return "\n".join(format_columns(rows, numbers=False))


if __name__ == "__main__":
    main()
