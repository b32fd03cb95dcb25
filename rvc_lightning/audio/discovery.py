"""Find the recordings of a folder, and report all other files."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from rvc_lightning.audio.decode import AUDIO_EXTENSIONS

_DECEPTIVE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class SkippedFile:
    """A file or folder of the input that is not used.

    Attributes:
        path: Path relative to the input folder, with forward slashes.
        reason: Reason for the report.
    """

    path: str
    reason: str


@dataclass
class Discovery:
    """Content of a folder.

    Attributes:
        recordings: Paths relative to the folder, sorted.
        skipped: All other files, sorted by path.
    """

    recordings: list[Path] = field(default_factory=list)
    skipped: list[SkippedFile] = field(default_factory=list)


def discover_audio(folder: Path | str, exclude: Collection[Path] = ()) -> Discovery:
    """List the recordings below a folder.

    Links are followed, except to folders that are listed already. The order depends on the names only.

    Args:
        folder: Folder to list, or one recording.
        exclude: Folders to leave out without a report, such as the output.

    Returns:
        Recordings, by extension without reading the content, and all other files with the reason to skip them.
    """
    folder = Path(folder)
    if folder.is_file():
        return Discovery(recordings=[Path(folder.name)])
    discovery = Discovery()
    seen = {_identity(path) for path in exclude if path.is_dir()}
    _list_into(discovery, folder, folder, seen)
    discovery.recordings.sort(key=lambda path: path.as_posix())
    discovery.skipped.sort(key=lambda skipped: skipped.path)
    return discovery


def display_name(path: Path) -> str:
    """Return a path as one line of text, with forward slashes.

    Bytes that are not UTF-8, control characters and direction marks become U+FFFD, so that a name can neither add lines
    to a report nor look like another name.
    """
    return _DECEPTIVE.sub("\ufffd", os.fsencode(path.as_posix()).decode("utf-8", "replace"))


def _list_into(discovery: Discovery, folder: Path, root: Path, seen: set[tuple[int, int]]) -> None:
    """Add the entries of a folder and its subfolders to `discovery`; `seen` are the identities of listed folders."""

    def skip(path: Path, reason: str) -> None:
        discovery.skipped.append(SkippedFile(display_name(path.relative_to(root)), reason))

    seen.add(_identity(folder))
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        skip(folder, f"the folder cannot be listed: {error.strerror}")
        return
    for entry in entries:
        reason = _reason_to_skip(entry)
        if reason:
            skip(entry, reason)
        elif not entry.is_dir():
            discovery.recordings.append(entry.relative_to(root))
        elif _identity(entry) not in seen:
            _list_into(discovery, entry, root, seen)
        elif entry.is_symlink():
            skip(entry, "a link to a folder that is already listed or excluded")


def _reason_to_skip(path: Path) -> str | None:
    """Return the reason to skip an entry, without opening it; None for a recording or a folder to list."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        kind = "a broken or circular link" if path.is_symlink() else "inaccessible"
        return f"{kind}: {error.strerror}"
    if path.name.startswith("."):
        return "hidden folder" if stat.S_ISDIR(mode) else "hidden file"
    if stat.S_ISDIR(mode):
        return None
    if not stat.S_ISREG(mode):
        return "not a regular file"
    if path.suffix.lower() not in AUDIO_EXTENSIONS:
        return f"not audio by its extension '{path.suffix}'"
    if not os.access(path, os.R_OK):
        return "no permission to read it"
    return None


def _identity(folder: Path) -> tuple[int, int]:
    """Return device and inode, which are the same for all paths to a folder."""
    status = folder.stat()
    return status.st_dev, status.st_ino
