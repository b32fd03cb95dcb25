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
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from rvc_lightning.audio.discovery import SkippedFile, display_name
from rvc_lightning.cli.progress import Progress
from rvc_lightning.data.layout import folder_name
from rvc_lightning.data.selection import SelectionConfig
from rvc_lightning.io.files import atomic_path, digest

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
        speaker: name of the speaker.
        folder: name of its folders in the dataset.
        size_bytes: of the file.
        digest: of its content; '' where nobody has looked.
    """

    root: Path
    relative: str
    speaker: str
    folder: str
    size_bytes: int
    digest: str = ""

    @property
    def path(self) -> Path:
        """Where it is."""
        return self.root / self.relative

    @property
    def name(self) -> str:
        """Its path in the input as text."""
        return display_name(Path(self.relative))


def fingerprint_recordings(
    root: Path, recordings: Sequence[Path], selection: SelectionConfig, output: Path, remember: bool = True
) -> tuple[list[Source], list[SkippedFile]]:
    """Digest every recording.

    Args:
        root: of the input.
        recordings: paths relative to it.
        selection: says who speaks in them.
        output: folder of the dataset, where the digests are that earlier runs have found.
        remember: whether to write down there what was found; otherwise nothing is written.

    Returns:
        The recordings, in the order given, and those that cannot be read with the reason.
    """
    known = dict(_remembered(output / FINGERPRINTS_NAME))
    sources: list[Source] = []
    skipped: list[SkippedFile] = []

    def one(relative: Path) -> _Digested | SkippedFile:
        return _digested(root, relative, known.get(relative.as_posix()))

    # Threads suffice: hashing leaves the interpreter free.
    with (
        ThreadPoolExecutor() as threads,
        Progress("reading recordings", len(recordings), "files", enabled=remember) as progress,
        _writer(output / FINGERPRINTS_NAME if remember else None) as write,
    ):
        for first in range(0, len(recordings), _AT_ONCE):
            group = recordings[first : first + _AT_ONCE]
            for relative, result in zip(group, threads.map(one, group), strict=True):
                progress.update(1)
                if isinstance(result, SkippedFile):
                    skipped.append(result)
                    continue
                name = relative.as_posix()
                stem = re.sub(r"[^\w-]+", "_", Path(display_name(relative)).stem)[:_STEM_LENGTH]
                folder = folder_name(stem, result.digest, name)
                sources.append(
                    Source(root, name, selection.speaker(relative), folder, result.size_bytes, result.digest)
                )
                if result.state is not None:
                    write(json.dumps([name, result.state, result.digest]) + "\n")
    return sources, skipped


@contextmanager
def _writer(path: Path | None) -> Iterator[Callable[[str], object]]:
    """What appends to a new file at `path`, or to nothing."""
    if path is None:
        yield lambda line: None
        return
    with atomic_path(path) as temporary, temporary.open("w", encoding="ascii") as stream:
        yield stream.write


class _Digested(NamedTuple):
    """Digest and size of a file, and what the digest can be remembered by; None if it cannot."""

    digest: str
    size_bytes: int
    state: str | None


def _digested(root: Path, relative: Path, known: tuple[str, str] | None) -> _Digested | SkippedFile:
    path = root / relative
    try:
        status = path.stat()
        state = _state(status)
        if known is not None and known[0] == state:
            return _Digested(known[1], status.st_size, state)
        content = digest(path)
        is_certain = _is_settled(status) and _state(path.stat()) == state
    except OSError as error:
        return SkippedFile(display_name(relative), f"it cannot be read: {error.strerror}")
    return _Digested(content, status.st_size, state if is_certain else None)


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
