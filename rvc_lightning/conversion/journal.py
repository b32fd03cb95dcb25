"""What has become of each recording of a folder, kept beside the results, so that a run can go on where one ended.

Every rank of every run adds lines to one file. A line is trusted only where recording and result are still those that
it tells of, byte for byte, and voice and settings are those of this run: a line that is cut short, or out of date,
makes that recording be converted again, and nothing else.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from rvc_lightning.io.files import atomic_path, digest

log = logging.getLogger(__name__)

JOURNAL_NAME = ".converted.jsonl"


@dataclass(frozen=True)
class Entry:
    """What has become of a recording."""

    run: str
    """A name of the run."""
    source: str
    """The recording, as it is called in messages."""
    target: str
    """The file that was to be written."""
    failure: str | None = None
    """Why it was not; None where it was."""
    made_by: str = ""
    """Digest of voice and settings."""
    source_digest: str = ""
    """Of the recording."""
    target_digest: str = ""
    """Of what was written."""

    def holds(self, source: Path, target: Path, made_by: str) -> bool:
        """Whether the result of the entry is there, and would be made again the same."""
        return (
            self.failure is None
            and self.made_by == made_by
            and target.is_file()
            and digest(target) == self.target_digest
            and digest(source) == self.source_digest
        )


class Journal:
    """The file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, entry: Entry) -> None:
        """Adds an entry, in one go: lines of several processes do not mix."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab", buffering=0) as file:
            file.write((json.dumps(asdict(entry)) + "\n").encode())

    def entries(self) -> Iterator[Entry]:
        """All entries in the order in which they were added; damaged ones are left out."""
        if not self.path.is_file():
            return
        for line in self.path.read_bytes().splitlines():
            try:
                yield Entry(**json.loads(line))
            except (ValueError, TypeError):
                log.warning("A line of '%s' is damaged and left out", self.path)

    def keep(self, entries: Iterable[Entry]) -> None:
        """Leaves only these entries, whole or as it was; without any, no file."""
        lines = [json.dumps(asdict(entry)) + "\n" for entry in entries]
        if not lines:
            self.path.unlink(missing_ok=True)
            return
        with atomic_path(self.path) as temporary:
            temporary.write_text("".join(lines), encoding="utf-8")
