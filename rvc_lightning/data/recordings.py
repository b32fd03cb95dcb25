"""The recordings of a folder, identified by their content: a changed file is a new recording.

Digests are cached, so that later runs do not read hours of audio again. A cached digest is valid while size,
modification time, status change time and inode of the file are the same. The status change time cannot be set by a
program, so restoring the modification time after an edit does not hide it, except on Windows, which lacks that time.
Files that were changed within the last minute, or in the future, are not cached, since they could change again within
one tick of the clock.

    fingerprints.jsonl    one line per file: ["path", "size and times", "digest"]
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.pool import ThreadPool
from pathlib import Path

from rvc_lightning.audio.discovery import SkippedFile, discover_audio, display_name
from rvc_lightning.cli.progress import Progress
from rvc_lightning.data.layout import folder_name
from rvc_lightning.data.selection import SelectionConfig
from rvc_lightning.errors import AudioError, ConfigurationError, DatasetError
from rvc_lightning.io.files import atomic_path, digest

FINGERPRINTS_NAME = "fingerprints.jsonl"

_SETTLED_SECONDS = 60.0
_MAX_STEM = 40

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording of the input."""

    root: Path
    """Folder of the input."""
    relative: str
    """Path below it, with forward slashes."""
    speaker: str
    """Name of the speaker."""
    folder: str = ""
    """Name of its folders in the dataset; empty if the content was not read."""
    size_bytes: int = 0
    digest: str = ""
    """Digest of its content; empty if the content was not read."""
    speaker_id: int | None = None
    """Number of the speaker in the name of its folder."""
    repeats: int = 1
    """Times that each slice is used in an epoch."""

    @property
    def path(self) -> Path:
        """Path of the file."""
        return self.root / self.relative

    @property
    def name(self) -> str:
        """Path below the input as printable text."""
        return display_name(Path(self.relative))

    def skipped(self, error: AudioError) -> SkippedFile:
        """Return the entry of a report for a recording that cannot be decoded."""
        return SkippedFile(self.name, str(error).removeprefix(f"'{self.path}' "))


@dataclass
class RecordingList:
    """The recordings of a folder."""

    recordings: list[Recording]
    """Those to use, sorted by path."""
    skipped: list[SkippedFile]
    """All other files with the reason."""
    notes: list[str] = field(default_factory=list)
    """Hints at possible mistakes in the settings."""


def list_recordings(audio: Path, output: Path, selection: SelectionConfig) -> RecordingList:
    """List the selected recordings without reading them; `output` is not searched.

    Raises:
        DatasetError: `audio` does not exist, or numbers of speakers contradict each other.
        ConfigurationError: Both folders are the same.
    """
    if not audio.exists():
        raise DatasetError(f"'{audio}' does not exist; choose a folder of recordings, or one recording")
    if output.exists() and output.samefile(audio):
        raise ConfigurationError(f"'{output}' contains the recordings: choose another folder for the dataset")
    found = discover_audio(audio, exclude=(output,))
    selected = selection.apply(found)
    root = audio if audio.is_dir() else audio.parent
    recordings = []
    for path in selected.recordings:
        recording = Recording(root, path.as_posix(), selection.speaker(path))
        if folder := selection.speaker_folder(path):
            recording = replace(recording, speaker_id=folder.id, repeats=folder.repeats)
        recordings.append(recording)
    return RecordingList(recordings, selected.skipped, selection.notes(found))


def add_fingerprints(recordings: Sequence[Recording], output: Path, update_cache: bool = True) -> RecordingList:
    """Return the recordings with their folder, size and digest, in the same order, and those that cannot be read.

    Args:
        recordings: From `list_recordings`.
        output: Folder of the dataset, which contains the cached digests.
        update_cache: Whether to write the cache.
    """
    cache = _read_cache(output / FINGERPRINTS_NAME)
    identified: list[Recording] = []
    skipped: list[SkippedFile] = []
    lines: list[str] = []
    # Threads are enough: hashing releases the interpreter lock.
    with ThreadPool() as threads, Progress("reading recordings", len(recordings), "files") as progress:
        results = threads.imap(lambda recording: _fingerprint(recording, cache), recordings)
        for recording, result in zip(recordings, results, strict=True):
            progress.update(1)
            if isinstance(result, OSError):
                skipped.append(SkippedFile(recording.name, f"cannot be read: {result.strerror}"))
                continue
            content, status, is_cacheable = result
            name = re.sub(r"[^\w-]+", "_", Path(recording.name).stem)[:_MAX_STEM]
            folder = folder_name(name, content, recording.relative)
            identified.append(replace(recording, folder=folder, size_bytes=status.st_size, digest=content))
            if is_cacheable:
                lines.append(json.dumps([recording.relative, _state(status), content]) + "\n")
    if update_cache:
        with atomic_path(output / FINGERPRINTS_NAME) as temporary:
            temporary.write_text("".join(lines), encoding="ascii")
    return RecordingList(identified, skipped)


def _fingerprint(
    recording: Recording, cache: Mapping[tuple[str, str], str]
) -> tuple[str, os.stat_result, bool] | OSError:
    """Return the digest of a file, cached if the file is unchanged, its status, and whether to cache the digest."""
    try:
        status = recording.path.stat()
        if cached := cache.get((recording.relative, _state(status))):
            return cached, status, True
        content = digest(recording.path)
        is_settled = max(status.st_mtime, status.st_ctime) < time.time() - _SETTLED_SECONDS
        return content, status, is_settled and _state(recording.path.stat()) == _state(status)
    except OSError as error:
        return error


def _state(status: os.stat_result) -> str:
    """Return the parts of a file's status that change with its content."""
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"


def _read_cache(path: Path) -> dict[tuple[str, str], str]:
    """Return digests by path and state of the files; an empty dict if the cache is missing or damaged."""
    try:
        with path.open(encoding="ascii") as stream:
            return {(str(name), str(state)): str(content) for name, state, content in map(json.loads, stream)}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError) as error:
        logger.warning("'%s' is damaged (%s): recordings are read again", path, error)
        return {}
