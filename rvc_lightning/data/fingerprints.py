"""What the recordings of a folder are, by their content: a changed file is a new recording.

Digests are remembered with what the file system says of a file, so that a second run does not read hours of audio. A
remembered digest counts only while size, time of content, time of status and inode are the same to the nanosecond.
No clock is trusted with it: who sets a file's time of content, or copies one over it, changes the time of its status,
which nobody can set; and a file whose times lie in the future, or less than a minute back, is not remembered, since it
may change again within one tick of that clock. So a wrong clock costs reading files again, never a stale slice.

    fingerprints.jsonl    ["path", "what the file system says", "digest"] a line
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rvc_lightning.audio.discovery import SkippedFile, display_name
from rvc_lightning.data.layout import folder_name
from rvc_lightning.data.progress import Progress
from rvc_lightning.files import atomic_path, digest

FINGERPRINTS_NAME = "fingerprints.jsonl"

_SETTLED_SECONDS = 60.0
_STEM_LENGTH = 40
_AT_ONCE = 1024

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Source:
    """A recording of the input.

    Attributes:
        root: of the input.
        relative: its path in it, with forward slashes.
        speaker_id: number of the speaker as the folders name it.
        digest: of its content.
        folder: name of its folders in the dataset.
        size_bytes: of the file.
    """

    root: Path
    relative: str
    speaker_id: int
    digest: str
    folder: str
    size_bytes: int

    @property
    def path(self) -> Path:
        """Where it is."""
        return self.root / self.relative

    @property
    def name(self) -> str:
        """Its path in the input as text."""
        return display_name(Path(self.relative))


def fingerprint_recordings(
    root: Path, recordings: Sequence[Path], memory: Path
) -> tuple[list[Source], list[SkippedFile]]:
    """Digest every recording.

    Args:
        root: of the input.
        recordings: paths relative to it.
        memory: file of the digests that are known, which is replaced.

    Returns:
        The recordings, in the order given, and those that cannot be read with the reason.
    """
    known = dict(_remembered(memory))
    sources: list[Source] = []
    skipped: list[SkippedFile] = []

    def one(relative: Path) -> tuple[Source, str | None] | SkippedFile:
        return _fingerprint(root, relative, known.get(relative.as_posix()))

    # Threads suffice: hashing leaves the interpreter free.
    with (
        ThreadPoolExecutor() as threads,
        Progress("reading recordings", len(recordings), "files") as progress,
        atomic_path(memory) as temporary,
        temporary.open("w", encoding="ascii") as stream,
    ):
        for first in range(0, len(recordings), _AT_ONCE):
            for result in threads.map(one, recordings[first : first + _AT_ONCE]):
                progress.update(1)
                if isinstance(result, SkippedFile):
                    skipped.append(result)
                    continue
                source, state = result
                sources.append(source)
                if state is not None:
                    stream.write(json.dumps([source.relative, state, source.digest]) + "\n")
    return sources, skipped


def _fingerprint(root: Path, relative: Path, known: tuple[str, str] | None) -> tuple[Source, str | None] | SkippedFile:
    """A recording, and what its digest can be remembered by; None if it cannot."""
    path = root / relative
    try:
        status = path.stat()
        state: str | None = _state(status)
        if known is not None and known[0] == state:
            content = known[1]
        else:
            content = digest(path)
            state = state if _is_settled(status) and _state(path.stat()) == state else None
    except OSError as error:
        return SkippedFile(display_name(relative), f"it cannot be read: {error.strerror}")
    stem = re.sub(r"[^\w-]+", "_", Path(display_name(relative)).stem)[:_STEM_LENGTH]
    folder = folder_name(stem, content, relative.as_posix())
    return Source(root, relative.as_posix(), _speaker_id(relative), content, folder, status.st_size), state


def _state(status: os.stat_result) -> str:
    """What the file system says of a file, which changes whenever its content does."""
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"


def _is_settled(status: os.stat_result) -> bool:
    """Whether a later change of the file is sure to change its times."""
    return max(status.st_mtime, status.st_ctime) < time.time() - _SETTLED_SECONDS


def _remembered(memory: Path) -> Iterator[tuple[str, tuple[str, str]]]:
    """Path, state and digest of what earlier runs have read; nothing of a damaged file."""
    try:
        with memory.open(encoding="ascii") as stream:
            for line in stream:
                path, state, content = json.loads(line)
                yield str(path), (str(state), str(content))
    except FileNotFoundError:
        return
    except (OSError, ValueError, TypeError) as error:
        logger.warning("'%s' is damaged (%s): recordings are read again", memory, error)


def _speaker_id(relative: Path) -> int:
    """The number of the speaker: the name of the topmost sub-folder if that is a whole number, else 0."""
    top = relative.parts[0] if len(relative.parts) > 1 else ""
    return int(top) if top.isdecimal() else 0
