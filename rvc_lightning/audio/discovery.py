"""Finding the recordings of a folder, and naming everything else that lies there."""

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
        path: relative to the input folder, with forward slashes.
        reason: why, in words.
    """

    path: str
    reason: str


@dataclass
class Discovery:
    """What a folder holds.

    Attributes:
        recordings: paths relative to the folder, sorted.
        skipped: everything else, sorted by path.
    """

    recordings: list[Path] = field(default_factory=list)
    skipped: list[SkippedFile] = field(default_factory=list)


def discover_audio(folder: Path | str, exclude: Collection[Path] = ()) -> Discovery:
    """List the recordings below a folder.

    Links are followed, and a link back to a folder already seen ends there. The order depends on the names
    alone.

    Args:
        folder: the folder to list; an audio file stands for itself.
        exclude: folders to pass over without naming what they hold, such as the output.

    Returns:
        Recordings by extension (the content is not looked at) and all else with its reason.
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
    """A path with forward slashes as text of one line.

    Bytes of a name that are not UTF-8 become U+FFFD, and so do control characters and marks of direction: by these a
    name could make up lines of its own, or look like another.
    """
    return _DECEPTIVE.sub("\ufffd", os.fsencode(path.as_posix()).decode("utf-8", "replace"))


def _list_into(discovery: Discovery, folder: Path, root: Path, seen: set[tuple[int, int]]) -> None:
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
            skip(entry, "a link to a folder that is listed already, or that is left out")


def _reason_to_skip(path: Path) -> str | None:
    """Why an entry of a folder is no recording and no folder to descend into, judged without opening it."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        kind = "a broken or circular link" if path.is_symlink() else "it cannot be looked at"
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
    """Device and inode: the same for every path that leads to a folder."""
    status = folder.stat()
    return status.st_dev, status.st_ino
