"""The voices of a folder, by names: whatever name is asked for, nothing outside that folder is a voice."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from rvc_lightning.audio.discovery import display_name
from rvc_lightning.errors import ConfigurationError, VoiceError
from rvc_lightning.retrieval.discovery import find_index
from rvc_lightning.voice.info import VoiceInfo, read_voice_info

_SUFFIX = ".pth"


class Stamp(NamedTuple):
    """What changes when a file does."""

    size_bytes: int
    changed_ns: int

    @classmethod
    def of(cls, path: Path) -> Stamp:
        """Raises OSError where there is no such file."""
        status = path.stat()
        return cls(status.st_size, status.st_mtime_ns)


class VoiceCatalog:
    """The voices below a folder.

    A voice is asked for by a name of the list; names are looked up there and never joined to a path.
    """

    def __init__(self, folder: str | Path) -> None:
        """Lists the folder.

        Raises:
            ConfigurationError: There is no such folder.
        """
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise ConfigurationError(
                f"voices={folder}: there is no such folder; name the one that holds your voices (.pth)"
            )
        self._paths: dict[str, Path] = {}
        self._unfollowed: dict[str, str] = {}
        self._examined: dict[str, tuple[Stamp, VoiceInfo | str]] = {}
        self.refresh()

    def refresh(self) -> None:
        """Lists the folder again."""
        paths: dict[str, Path] = {}
        unfollowed: dict[str, str] = {}
        for path in _entries(self.folder):
            name = display_name(path.relative_to(self.folder))
            if reason := self._reason_to_skip(path):
                unfollowed[name] = reason
            elif not path.is_dir():
                paths[name] = path
        self._paths, self._unfollowed = paths, unfollowed
        self._examined = {name: known for name, known in self._examined.items() if name in paths}

    @property
    def names(self) -> list[str]:
        """Of the voices, as far as they are not known to be broken, in order."""
        return [name for name in sorted(self._paths) if name not in self.unusable]

    @property
    def unusable(self) -> dict[str, str]:
        """Files and links that are no voices, and why, as far as they were examined, in order of their names."""
        broken = {name: known for name, (_, known) in self._examined.items() if isinstance(known, str)}
        return dict(sorted((broken | self._unfollowed).items()))

    def path(self, name: str) -> Path:
        """The file of a voice of the list.

        Raises:
            VoiceError: There is no such name, or its file has gone, or leads out of the folder by now.
        """
        if name not in self._paths:
            raise VoiceError(f"there is no voice named '{name}' in the list; choose one of it")
        path = self._paths[name]
        if not path.is_file() or self._reason_to_skip(path):
            raise VoiceError(f"the voice '{name}' is not in its place any more; choose another, or refresh the list")
        return path

    def index(self, name: str) -> Path | None:
        """The index beside a voice, if there is one in the folder. Raises VoiceError as `path` does."""
        index = find_index(self.path(name))
        return None if index is None or not self._holds(index) else index

    def facts(self, name: str) -> VoiceInfo:
        """What is known of a voice; it is read once, and again when its file changes.

        Raises:
            VoiceError: As `path`, or it is no voice, or damaged.
        """
        path = self.path(name)
        stamp = Stamp.of(path)
        if name not in self._examined or self._examined[name][0] != stamp:
            self._examined[name] = stamp, self._examine(name, path)
        known = self._examined[name][1]
        if isinstance(known, str):
            raise VoiceError(known)
        return known

    def is_usable(self, name: str) -> bool:
        """Whether a voice can be read."""
        try:
            self.facts(name)
        except (VoiceError, OSError):
            return False
        return True

    def examine(self) -> Iterator[str]:
        """Reads every voice that was not read yet, and gives its name before: what is broken is known afterwards."""
        for name, path in sorted(self._paths.items()):
            if name not in self._examined and path.is_file():
                yield name
                self._examined[name] = Stamp.of(path), self._examine(name, path)

    def _examine(self, name: str, path: Path) -> VoiceInfo | str:
        """Facts under names that may be shown, or why there are none."""
        try:
            facts, index = read_voice_info(path), self.index(name)
        except (VoiceError, OSError) as error:
            return str(error).replace(f"'{path}'", f"'{name}'")
        if index is None:
            return replace(facts, file=name, index=None, index_rows=None, index_dim=None)
        return replace(facts, file=name, index=display_name(index.relative_to(self.folder)))

    def _reason_to_skip(self, path: Path) -> str | None:
        try:
            mode = path.stat().st_mode
        except OSError as error:
            return f"it cannot be looked at: {error.strerror}"
        if path.is_symlink() and (stat.S_ISDIR(mode) or not self._holds(path)):
            return "a link out of the folder, or to a folder: such links are not followed"
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            return "it is no regular file"
        return None

    def _holds(self, path: Path) -> bool:
        """Whether a path, its links followed, lies in the folder."""
        return path.resolve().is_relative_to(self.folder.resolve())


def _entries(folder: Path) -> Iterator[Path]:
    """Files that may be voices, and links to folders; what is hidden is left out."""
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (path for name in folders if (path := Path(root, name)).is_symlink())
        yield from (
            path for name in files if not name.startswith(".") and (path := Path(root, name)).suffix.lower() == _SUFFIX
        )
