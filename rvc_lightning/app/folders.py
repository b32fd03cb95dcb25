"""The folders of the server; a name from outside never leads out of its folder."""

from __future__ import annotations

import contextlib
import filecmp
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from rvc_lightning.audio.discovery import display_name
from rvc_lightning.cli.overrides import format_override
from rvc_lightning.config.options import Settings, option
from rvc_lightning.data.manifest import MANIFEST_NAME
from rvc_lightning.errors import ConfigurationError
from rvc_lightning.io.files import atomic_path, explain_write_errors
from rvc_lightning.io.locks import LOCK_NAME
from rvc_lightning.io.names import numbered_names, plain_name

_SHARED = ("voices", "datasets", "runs")
"""Folders that commands find as `paths.NAME`."""
_MAX_NAMES = 20
"""Folders that an error lists."""


@dataclass(frozen=True, kw_only=True)
class Folders(Settings):
    """Folders of `conf/app.yaml`."""

    voices: str = option(help="the folder of the voices")
    recordings: str = option(help="the folder of the recordings to train on")
    datasets: str = option(help="the folder of the prepared datasets")
    runs: str = option(help="the folder of the training runs")
    jobs: str = option(help="the folder of the jobs")

    def overrides(self) -> list[str]:
        """Return the overrides of a command for the folders that it would not use by itself."""
        return [
            format_override(f"paths.{name}", Path(getattr(self, name)).absolute())
            for name in _SHARED
            if Path(getattr(self, name)).absolute() != Path(name).absolute()
        ]


def child(folder: str | Path, name: str) -> Path:
    """Return the file or folder `name` below `folder`.

    Raises:
        ConfigurationError: It does not exist, or lies outside, also by way of a link.
    """
    path = Path(folder, name)
    try:
        is_inside = path.exists() and path.resolve().is_relative_to(Path(folder).resolve())
    except (OSError, ValueError):
        is_inside = False
    if not is_inside:
        names = ", ".join(islice(subfolders(folder), _MAX_NAMES))
        choices = f"choose one of {names}" if names else "it has no folders"
        raise ConfigurationError(f"'{name}' not found in the folder of {Path(folder).name}; {choices}")
    return path


def subfolders(folder: str | Path) -> Iterator[str]:
    """Yield the names of the folders in `folder`, sorted, without hidden ones and links; none if it does not exist."""
    if Path(folder).is_dir():
        for path in sorted(Path(folder).iterdir()):
            if path.is_dir() and not path.is_symlink() and not path.name.startswith("."):
                yield display_name(Path(path.name))


def prepared_datasets(folder: str | Path) -> list[str]:
    """Return the names of the prepared datasets in a folder."""
    return [name for name in subfolders(folder) if Path(folder, name, MANIFEST_NAME).exists()]


def unfinished_datasets(folder: str | Path) -> list[str]:
    """Return the names of the datasets in a folder whose preparation runs, or was stopped, before the manifest."""
    names = [name for name in subfolders(folder) if Path(folder, name, LOCK_NAME).exists()]
    return [name for name in names if not Path(folder, name, MANIFEST_NAME).exists()]


def format_size(folder: Path) -> str:
    """Return the size of the files of a folder in MB or GB."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            # A training replaces its checkpoints meanwhile.
            with contextlib.suppress(FileNotFoundError):
                total += Path(root, name).lstat().st_size
    return f"{total / 1e9:.1f} GB" if total >= 1e9 else f"{total / 1e6:.1f} MB"


def store_uploads(files: Sequence[str], folder: Path) -> None:
    """Copy uploads to a new folder, all of them or none. Raises OutOfSpaceError if the disk is full."""
    with explain_write_errors(folder), contextlib.ExitStack() as undo:
        folder.mkdir(parents=True)
        undo.callback(shutil.rmtree, folder, ignore_errors=True)
        for file, name in zip(files, numbered_names(_plain_names(files)), strict=True):
            shutil.copyfile(file, folder / name)
        undo.pop_all()


def add_uploads(files: Sequence[str], folder: Path) -> list[Path]:
    """Copy the uploads that a folder does not contain yet, all of them or none; return the copies.

    Raises:
        OutOfSpaceError: The disk is full.
    """
    stored = [path for path in folder.iterdir() if path.is_file()]
    new = [file for file in files if not any(filecmp.cmp(file, path, shallow=False) for path in stored)]
    names = numbered_names([*stored, *_plain_names(new)])[len(stored) :]
    copies = [folder / name for name in names]
    with contextlib.ExitStack() as undo:
        for file, copy in zip(new, copies, strict=True):
            with atomic_path(copy) as temporary:
                shutil.copyfile(file, temporary)
            undo.callback(copy.unlink)
        undo.pop_all()
    return copies


def have_same_files(first: Path, second: Path) -> bool:
    """Return whether two folders contain the same files, with the same names below them."""
    names, others = (
        sorted(path.relative_to(root) for path in root.rglob("*") if path.is_file()) for root in (first, second)
    )
    return names == others and all(filecmp.cmp(first / name, second / name, shallow=False) for name in names)


def _plain_names(files: Sequence[str]) -> list[Path]:
    return [Path(plain_name(Path(file).name, "recording")) for file in files]
