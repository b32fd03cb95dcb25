"""Journal of a folder conversion, from which an interrupted run resumes.

All ranks of all runs append lines to one file beside the results. An entry is valid only if the recording and the
result still have its digests and the run has the same voice and settings. A recording with a damaged or outdated entry
is converted again.
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
    """Outcome of the conversion of one recording."""

    run: str
    """Identifier of the run."""
    source: str
    """Recording, as named in messages."""
    target: str
    """Output file."""
    failure: str | None = None
    """Reason of a failure; None on success."""
    settings_digest: str = ""
    """Digest of the voice and the settings."""
    source_digest: str = ""
    """Digest of the recording."""
    target_digest: str = ""
    """Digest of the output file."""

    def is_current(self, source: Path, target: Path, settings_digest: str) -> bool:
        """Return whether the output file exists and converting again would produce the same file."""
        return (
            self.failure is None
            and self.settings_digest == settings_digest
            and target.is_file()
            and digest(target) == self.target_digest
            and digest(source) == self.source_digest
        )


class Journal:
    """File with one entry per line."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, entry: Entry) -> None:
        """Append an entry in one write, so that lines of several processes do not mix."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab", buffering=0) as file:
            file.write((json.dumps(asdict(entry)) + "\n").encode())

    def entries(self) -> Iterator[Entry]:
        """Yield all entries in the order in which they were added, except damaged ones."""
        if not self.path.is_file():
            return
        for line in self.path.read_bytes().splitlines():
            try:
                yield Entry(**json.loads(line))
            except (ValueError, TypeError):
                log.warning("Ignored a damaged line of '%s'", self.path)

    def rewrite(self, entries: Iterable[Entry]) -> None:
        """Replace the content with these entries, atomically; remove the file if the list is empty."""
        if lines := [json.dumps(asdict(entry)) + "\n" for entry in entries]:
            with atomic_path(self.path) as temporary:
                temporary.write_text("".join(lines), encoding="utf-8")
        else:
            self.path.unlink(missing_ok=True)
