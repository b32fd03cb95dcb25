"""`python -m rvc_lightning.download`: list the pretrained files of public hubs, or download some of them."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from rvc_lightning.cli import resolvers
from rvc_lightning.cli.columns import format_columns
from rvc_lightning.cli.command import command
from rvc_lightning.config.options import Settings
from rvc_lightning.io.names import home_path

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rvc_lightning.io.hub import HubFile

log = logging.getLogger(__name__)

resolvers.register()


@dataclass(frozen=True, kw_only=True)
class DownloadSettings(Settings):
    """Settings of `conf/download.yaml`."""

    files: Any
    """Names, one or a list; None lists all files."""
    folder: str | None


@command("download", imports_torch=False)
def main(config: DictConfig) -> None:
    """Print the table of files, or download those that `files` selects."""
    # Slow to import, and --help does not need it.
    from rvc_lightning.io.hub import fetch_all, known_files, select_files

    settings = DownloadSettings.from_config(config)
    folder = home_path(settings.folder) if settings.folder else None
    if settings.files is None:
        sys.stdout.write(format_files(known_files(), folder) + "\n")
        log.info("To download some or all of them: files=[contentvec,rmvpe], files=pretrained, files=all")
        return
    names = settings.files if isinstance(settings.files, list) else [settings.files]
    fetch_all(select_files(map(str, names)), folder)


def format_files(files: Mapping[str, HubFile], folder: Path | None = None) -> str:
    """Return a table of files, a line each, with whether they are on this machine."""
    from rvc_lightning.io.hub import find_file

    rows = [("name", "local", "size", "licence", "repository", "file")]
    for name, file in files.items():
        is_local = "no" if find_file(file, folder) is None else "yes"
        rows.append((name, is_local, file.size, file.licence or "not stated", file.repository, file.path))
    return "\n".join(format_columns(rows, numbers=False))


if __name__ == "__main__":
    main()
