"""The voices of a folder by name; a name never leads to a file outside the folder."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from rvc_lightning.audio.discovery import display_name
from rvc_lightning.errors import ConfigurationError, UnknownVoiceError, VoiceError
from rvc_lightning.io.disk import explain
from rvc_lightning.io.kinds import VOICE_SUFFIXES
from rvc_lightning.retrieval.discovery import find_index
from rvc_lightning.voice.info import VoiceInfo, as_rows, read_voice_info
from rvc_lightning.voice.onnx_voice import open_voice

log = logging.getLogger(__name__)

_NEED_PITCH = ("transpose_semitones", "formant_semitones", "autotune", "proposed_pitch_hz", "f0_file", "protect")
_NEED_INDEX = ("index_rate", "protect")
_NEED_RANDOM_FEATURES = ("noise_scale",)
OPTIONS_OF_VOICES = tuple(dict.fromkeys((*_NEED_PITCH, *_NEED_INDEX, *_NEED_RANDOM_FEATURES)))
"""Options that some voices do not use."""


class Stamp(NamedTuple):
    """Size and time of the last change of a file."""

    size_bytes: int
    changed_ns: int

    @classmethod
    def of(cls, path: Path) -> Stamp:
        """Read the stamp of a file. Raises OSError if it does not exist."""
        status = path.stat()
        return cls(status.st_size, status.st_mtime_ns)


class VoiceCatalog:
    """The voices in a folder and its subfolders.

    Names are looked up in the list, and never joined to a path.
    """

    def __init__(self, folder: str | Path) -> None:
        """List the folder.

        Raises:
            ConfigurationError: The folder does not exist.
            OSError: The folder cannot be listed.
        """
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise ConfigurationError(f"voices={folder}: no such folder; create it, or choose one with voices (.pth)")
        os.listdir(folder)
        self._paths: dict[str, Path] = {}
        self._skipped: dict[str, str] = {}
        self._examined: dict[str, tuple[Stamp, VoiceInfo | str]] = {}
        # Visitors refresh and read the list at the same time.
        self._lock = Lock()
        self.refresh()

    def refresh(self) -> None:
        """List the folder again."""
        paths: dict[str, Path] = {}
        skipped: dict[str, str] = {}
        unlisted: list[OSError] = []
        for path in _entries(self.folder, unlisted.append):
            name = display_name(path.relative_to(self.folder))
            if reason := self._reason_to_skip(path):
                skipped[name] = reason
            elif not path.is_dir():
                paths[name] = path
        for error in unlisted:
            skipped[display_name(Path(error.filename).relative_to(self.folder))] = f"not accessible: {error.strerror}"
        self._paths, self._skipped = paths, skipped
        with self._lock:
            for name in self._examined.keys() - paths.keys():
                del self._examined[name]

    @property
    def names(self) -> list[str]:
        """Sorted names of the voices, without those found broken so far."""
        # Without suffixes, a voice precedes the one that it has replaced, NAME.previous.pth.
        return sorted(self._paths.keys() - self.unusable.keys(), key=lambda name: os.path.splitext(name)[0])

    @property
    def unusable(self) -> dict[str, str]:
        """Files and links that are not usable, as far as examined, with the reason, sorted by name."""
        with self._lock:
            broken = {name: result for name, (_, result) in self._examined.items() if isinstance(result, str)}
        return dict(sorted((broken | self._skipped).items()))

    def path(self, name: str) -> Path:
        """Return the file of a voice.

        Raises:
            UnknownVoiceError: The name is unknown, or its file was removed or replaced by a link out of the folder.
        """
        path = self._paths.get(name)
        if path is None or not path.is_file() or self._reason_to_skip(path):
            raise UnknownVoiceError(f"unknown voice '{name}'; choose another, or refresh the list")
        return path

    def index(self, name: str) -> Path | None:
        """Return the index beside a voice, None if there is none. Raises UnknownVoiceError as `path` does."""
        index = find_index(self.path(name))
        return None if index is None or not self._contains(index) else index

    def facts(self, name: str) -> VoiceInfo:
        """Return the facts about a voice; its file is read once, and again when it changes.

        Raises:
            VoiceError: As in `path`, or the file is not a voice or damaged.
        """
        path = self.path(name)
        stamp = Stamp.of(path)
        known, result = self._examined.get(name, (None, ""))
        if known != stamp:
            result = self._examine(name, path)
            self._remember(name, stamp, result)
        if isinstance(result, str):
            raise VoiceError(result)
        return result

    def unused_options(self, name: str) -> set[str]:
        """Return the options of a conversion that a voice does not use. Raises VoiceError if it cannot be read."""
        voice = open_voice(self.path(name))
        return {
            *(() if voice.pitch_guided else _NEED_PITCH),
            *(() if voice.config.variational else _NEED_RANDOM_FEATURES),
            *(() if self.index(name) else _NEED_INDEX),
        }

    def is_usable(self, name: str) -> bool:
        """Return whether a voice can be read."""
        try:
            self.facts(name)
        except (VoiceError, OSError):
            return False
        return True

    def examine(self) -> Iterator[str]:
        """Read every voice that was not read yet, to find the broken ones; yield each name before reading it."""
        for name, path in sorted(self._paths.items()):
            if name not in self._examined and path.is_file():
                yield name
                self._remember(name, Stamp.of(path), self._examine(name, path))

    def _remember(self, name: str, stamp: Stamp, result: VoiceInfo | str) -> None:
        with self._lock:
            self._examined[name] = stamp, result

    def _examine(self, name: str, path: Path) -> VoiceInfo | str:
        """Return the facts with names relative to the folder, or the reason why the file is not usable."""
        try:
            facts, index = read_voice_info(path), self.index(name)
            as_rows(facts)
        except (VoiceError, OSError) as error:
            return explain(error).replace(str(path), name)
        except Exception:
            # One malformed file must not hide the other voices.
            log.exception("Reading '%s' failed", path)
            return f"'{name}' cannot be read as a voice"
        if index is None:
            return replace(facts, file=name, index=None, index_rows=None, index_dim=None)
        return replace(facts, file=name, index=display_name(index.relative_to(self.folder)))

    def _reason_to_skip(self, path: Path) -> str | None:
        try:
            mode = path.stat().st_mode
        except OSError as error:
            return f"not accessible: {error.strerror}"
        if path.is_symlink() and (stat.S_ISDIR(mode) or not self._contains(path)):
            return "a link to a folder, or out of the folder of voices; such links are not followed"
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            return "not a regular file"
        return None

    def _contains(self, path: Path) -> bool:
        """Return whether a path, with links resolved, is in the folder."""
        return path.resolve().is_relative_to(self.folder.resolve())


def _entries(folder: Path, on_error: Callable[[OSError], None]) -> Iterator[Path]:
    """Return files that may be voices, and links to folders, without hidden ones; folders may not be listable."""
    for root, folders, files in os.walk(folder, onerror=on_error):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (path for name in folders if (path := Path(root, name)).is_symlink())
        yield from (
            path
            for name in files
            if not name.startswith(".") and (path := Path(root, name)).suffix.lower() in VOICE_SUFFIXES
        )
