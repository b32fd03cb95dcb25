"""Selection of the recordings of a folder, and their speakers.

    audio/anna/a.wav        speakers=folders: speaker "anna"      numbered: speaker "0"      one: speaker "0"
    audio/5/b.wav           speakers=folders: speaker "5"         numbered: speaker "5"      one: speaker "0"
    audio/c.wav             speakers=folders: not used            numbered: speaker "0"      one: speaker "0"

The speaker depends on the topmost subfolder only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from rvc_lightning.audio.discovery import Discovery, SkippedFile, display_name
from rvc_lightning.config.options import Settings, option

SPEAKER_RULES = ("numbered", "folders", "one")
FIRST_SPEAKER = "0"


@dataclass(frozen=True, kw_only=True)
class SelectionConfig(Settings):
    """Selection of the recordings of a folder, and their speakers.

    A pattern is a glob (`*` any text, `/` included; `?` one character; `[ab]` either). Without a slash it matches names
    of files and folders at any depth, with a slash the path below the audio folder. A folder that matches includes
    everything below it. Matching is case-sensitive.
    """

    speakers: str = option(
        help="numbered: subfolders named by a whole number are speakers, all other recordings belong to speaker 0, as "
        "in other RVC tools; folders: each subfolder is a speaker of that name; one: all recordings have one speaker",
        choices=SPEAKER_RULES,
    )
    include: list[str] = option([], help="Patterns, one of which a recording must match; empty includes all")
    exclude: list[str] = option([], help="Patterns, none of which a recording may match")

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> SelectionConfig:
        """Build the settings as `Settings.from_values`; a single pattern needs no list, and null is an empty list."""
        lists = {name: values.get(name) or [] for name in ("include", "exclude")}
        lists = {name: [patterns] if isinstance(patterns, str) else patterns for name, patterns in lists.items()}
        return super().from_values({**values, **lists})

    def apply(self, discovery: Discovery) -> Discovery:
        """Return the files found, with the recordings that are not selected moved to the skipped files."""
        reasons = {path: self._skip_reason(path) for path in discovery.recordings}
        skipped = [SkippedFile(display_name(path), reason) for path, reason in reasons.items() if reason]
        return Discovery(
            recordings=[path for path, reason in reasons.items() if reason is None],
            skipped=sorted([*discovery.skipped, *skipped], key=lambda file: file.path),
        )

    def speaker(self, relative: Path) -> str:
        """Return the name of a selected recording's speaker, given its path below the audio folder."""
        top = relative.parts[0] if len(relative.parts) > 1 else ""
        if self.speakers == "folders":
            return display_name(Path(top))
        if self.speakers == "numbered" and top.isdecimal():
            return str(int(top))
        return FIRST_SPEAKER

    def notes(self, discovery: Discovery) -> list[str]:
        """Return hints at possible mistakes: patterns without a match, and folders that are not speakers."""
        found = discovery.recordings
        notes = [
            f"{setting}: '{pattern}' matches no recording"
            for setting in ("include", "exclude")
            for pattern in getattr(self, setting)
            if not any(_matches(path, pattern) for path in found)
        ]
        folders = sorted({path.parts[0] for path in found if len(path.parts) > 1 and not path.parts[0].isdecimal()})
        if self.speakers == "numbered" and folders:
            names = ", ".join(display_name(Path(folder)) for folder in folders)
            notes.append(
                f"these subfolders belong to speaker 0, since their names are not whole numbers: {names}; "
                "speakers=folders makes each of them a speaker"
            )
        return notes

    def _skip_reason(self, path: Path) -> str | None:
        for pattern in self.exclude:
            if _matches(path, pattern):
                return f"excluded by exclude '{pattern}'"
        if self.include and not any(_matches(path, pattern) for pattern in self.include):
            return f"matches no pattern of include ({', '.join(self.include)})"
        if self.speakers == "folders" and len(path.parts) == 1:
            return "not in the folder of a speaker, as speakers=folders requires: move it into one, or set speakers=one"
        return None


def speaker_numbers(names: Iterable[str]) -> dict[str, int]:
    """Number the speakers from 0: whole numbers first, by value, then names in alphabetical order."""
    ordered = sorted(set(names), key=lambda name: (0, int(name), name) if name.isdecimal() else (1, 0, name))
    return {name: number for number, name in enumerate(ordered)}


def _matches(path: Path, pattern: str) -> bool:
    """Return whether a path, or one of its parent folders, matches a pattern."""
    parts = [path, *path.parents[:-1]]
    if "/" in pattern:
        return any(fnmatchcase(display_name(part), pattern.rstrip("/")) for part in parts)
    return any(fnmatchcase(display_name(Path(part.name)), pattern) for part in parts)
