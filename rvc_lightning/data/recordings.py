"""The recordings of a folder, identified by their content: a changed file is a new recording.

Digests are cached, so that a second run does not read hours of audio again. A cached digest is valid while size,
modification time, status change time and inode of the file are the same. The status change time cannot be set by a
program, so restoring the modification time after an edit does not hide it. Files that were changed within the last
minute, or in the future, are not cached, since they could change again within one tick of the clock.

    fingerprints.jsonl    one line a file: ["path", "size and times", "digest"]
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import NamedTuple

from rvc_lightning.audio.discovery import SkippedFile, discover_audio, display_name
from rvc_lightning.cli.progress import Progress
from rvc_lightning.data.layout import folder_name
from rvc_lightning.data.selection import SelectionConfig
from rvc_lightning.errors import ConfigurationError, DatasetError
from rvc_lightning.io.files import atomic_path, digest

FINGERPRINTS_NAME = "fingerprints.jsonl"

_SETTLED_SECONDS = 60.0
_MAX_STEM = 40

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording of the input.

    Attributes:
        root: Folder of the input.
        relative: Path below it, with forward slashes.
        speaker: Name of the speaker.
        folder: Name of its folders in the dataset; empty if the content was not read.
        size_bytes: Size of the file.
        digest: Digest of its content; empty if the content was not read.
    """

    root: Path
    relative: str
    speaker: str
    folder: str = ""
    size_bytes: int = 0
    digest: str = ""

    @property
    def path(self) -> Path:
        """Path of the file."""
        return self.root / self.relative

    @property
    def name(self) -> str:
        """Path below the input as printable text."""
        return display_name(Path(self.relative))


@dataclass
class RecordingList:
    """The recordings of a folder.

    Attributes:
        recordings: Those to use, sorted by path.
        skipped: All other files with the reason.
        notes: Hints at possible mistakes in the settings.
    """

    recordings: list[Recording]
    skipped: list[SkippedFile]
    notes: list[str] = field(default_factory=list)


def list_recordings(audio: Path, output: Path, selection: SelectionConfig) -> RecordingList:
    """List the selected recordings without reading them.

    Args:
        audio: A folder of recordings, or one recording.
        output: Folder of the dataset, which is not searched.
        selection: Which recordings are used, and their speakers.

    Raises:
        DatasetError: `audio` does not exist.
        ConfigurationError: Both folders are the same.
    """
    if not audio.exists():
        raise DatasetError(f"'{audio}' does not exist; choose a folder of recordings, or one recording")
    if output.exists() and output.samefile(audio):
        raise ConfigurationError(f"'{output}' contains the recordings: choose another folder for the dataset")
    found = discover_audio(audio, exclude=(output,))
    selected = selection.apply(found)
    root = audio if audio.is_dir() else audio.parent
    recordings = [Recording(root, path.as_posix(), selection.speaker(path)) for path in selected.recordings]
    return RecordingList(recordings, selected.skipped, selection.notes(found))


def add_fingerprints(recordings: Sequence[Recording], output: Path, update_cache: bool = True) -> RecordingList:
    """Identify recordings by their content.

    Args:
        recordings: From `list_recordings`.
        output: Folder of the dataset, which contains the cached digests.
        update_cache: Whether to write the cache.

    Returns:
        The recordings with their folder, size and digest, in the same order, and those that cannot be read.
    """
    cache = _read_cache(output / FINGERPRINTS_NAME)
    identified: list[Recording] = []
    skipped: list[SkippedFile] = []
    cached_lines: list[str] = []
    # Threads are enough: hashing releases the interpreter lock.
    with ThreadPool() as threads, Progress("reading recordings", len(recordings), "files") as progress:
        results = threads.imap(lambda one: _fingerprint(one.path, cache.get(one.relative)), recordings)
        for recording, result in zip(recordings, results, strict=True):
            progress.update(1)
            if isinstance(result, OSError):
                skipped.append(SkippedFile(recording.name, f"cannot be read: {result.strerror}"))
                continue
            name = re.sub(r"[^\w-]+", "_", Path(recording.name).stem)[:_MAX_STEM]
            folder = folder_name(name, result.digest, recording.relative)
            identified.append(
                Recording(
                    recording.root, recording.relative, recording.speaker, folder, result.size_bytes, result.digest
                )
            )
            if result.state is not None:
                cached_lines.append(json.dumps([recording.relative, result.state, result.digest]) + "\n")
    if update_cache:
        with atomic_path(output / FINGERPRINTS_NAME) as temporary:
            temporary.write_text("".join(cached_lines), encoding="ascii")
    return RecordingList(identified, skipped)


class _Fingerprint(NamedTuple):
    """Digest and size of a file, and the state to cache the digest with; None if it must not be cached."""

    digest: str
    size_bytes: int
    state: str | None


def _fingerprint(path: Path, cached: tuple[str, str] | None) -> _Fingerprint | OSError:
    """Digest a file, or return the cached digest if the file is unchanged."""
    try:
        status = path.stat()
        state = _state(status)
        if cached is not None and cached[0] == state:
            return _Fingerprint(cached[1], status.st_size, state)
        content = digest(path)
        is_settled = max(status.st_mtime, status.st_ctime) < time.time() - _SETTLED_SECONDS
        is_cacheable = is_settled and _state(path.stat()) == state
    except OSError as error:
        return error
    return _Fingerprint(content, status.st_size, state if is_cacheable else None)


def _state(status: os.stat_result) -> str:
    """Return the parts of a file's status that change with its content."""
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"


def _read_cache(path: Path) -> dict[str, tuple[str, str]]:
    """Return state and digest of files by path; nothing if the cache is missing or damaged."""
    try:
        with path.open(encoding="ascii") as stream:
            return {str(name): (str(state), str(content)) for name, state, content in map(json.loads, stream)}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError) as error:
        logger.warning("'%s' is damaged (%s): recordings are read again", path, error)
        return {}
