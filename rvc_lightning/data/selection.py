"""Selection of the recordings of a folder, and their speakers.

    audio/anna/a.wav        speakers=folders: speaker "anna"      numbered: speaker "0"      one: speaker "0"
    audio/5/b.wav           speakers=folders: speaker "5"         numbered: speaker "5"      one: speaker "0"
    audio/c.wav             speakers=folders: not used            numbered: speaker "0"      one: speaker "0"
    audio/ben_3_2/d.wav     speakers=name_id_repeat: speaker "ben", numbered by the 3, twice in each epoch

The speaker depends on the topmost subfolder only.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from rvc_lightning.audio.discovery import Discovery, SkippedFile, display_name
from rvc_lightning.config.options import Settings, option
from rvc_lightning.errors import DatasetError

SPEAKER_RULES = ("numbered", "folders", "name_id_repeat", "one")
FIRST_SPEAKER = "0"

_NAME_ID_REPEAT = re.compile(r"(?P<name>.+)_(?P<id>[0-9]{1,6})_(?P<repeats>[0-9]{1,4})")


class SpeakerFolder(NamedTuple):
    """A folder `NAME_ID_REPEAT` of the WebUI (SPECIFICATION.md, section 14.2)."""

    name: str
    id: int
    repeats: int
    """Times that each slice is used in an epoch."""


@dataclass(frozen=True, kw_only=True)
class SelectionConfig(Settings):
    """Selection of the recordings of a folder, and their speakers.

    A pattern is a glob (`*` any text, `/` included; `?` one character; `[ab]` either). Without a slash it matches names
    of files and folders at any depth, with a slash the path below the audio folder. A folder that matches includes
    everything below it. Matching is case-sensitive.
    """

    speakers: str = option(
        help="numbered: subfolders named by a whole number are speakers, all other recordings belong to speaker 0, as "
        "in other RVC tools; folders: each subfolder is a speaker of that name; name_id_repeat: subfolders are named "
        "NAME_ID_REPEAT, as in the WebUI; one: all recordings have one speaker",
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
        """Return the files found, with the recordings that are not selected moved to the skipped files.

        Raises:
            DatasetError: Two speakers of name_id_repeat have the same number, or one has two.
        """
        reasons = {path: self._skip_reason(path) for path in discovery.recordings}
        skipped = [SkippedFile(display_name(path), reason) for path, reason in reasons.items() if reason]
        self._check_ids(path for path, reason in reasons.items() if reason is None)
        return Discovery(
            recordings=[path for path, reason in reasons.items() if reason is None],
            skipped=sorted([*discovery.skipped, *skipped], key=lambda file: file.path),
        )

    def speaker(self, relative: Path) -> str:
        """Return the name of a selected recording's speaker, given its path below the audio folder."""
        top = relative.parts[0] if len(relative.parts) > 1 else ""
        if folder := self.speaker_folder(relative):
            return folder.name
        if self.speakers == "folders":
            return display_name(Path(top))
        if self.speakers == "numbered" and top.isdecimal():
            return str(int(top))
        return FIRST_SPEAKER

    def speaker_folder(self, relative: Path) -> SpeakerFolder | None:
        """Return name, number and repeats of a recording's folder; None unless speakers=name_id_repeat reads it."""
        match = _NAME_ID_REPEAT.fullmatch(display_name(Path(relative.parts[0])))
        if self.speakers != "name_id_repeat" or match is None or len(relative.parts) < 2 or not int(match["repeats"]):
            return None
        return SpeakerFolder(match["name"].strip(), int(match["id"]), int(match["repeats"]))

    def _check_ids(self, recordings: Iterable[Path]) -> None:
        """Raise DatasetError unless names and numbers of name_id_repeat belong to each other."""
        folders = {folder for path in recordings if (folder := self.speaker_folder(path))}
        pairs = {(folder.name, folder.id) for folder in folders}
        for part in (0, 1):
            counts = Counter(pair[part] for pair in pairs)
            if doubled := [pair for pair in sorted(pairs) if counts[pair[part]] > 1]:
                names = " and ".join(f"{name}_{id}" for name, id in doubled[:2])
                raise DatasetError(
                    f"speakers=name_id_repeat: {names} contradict each other; each name needs one number"
                )

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
                + (
                    ", speakers=name_id_repeat if they are NAME_ID_REPEAT"
                    * all(map(_NAME_ID_REPEAT.fullmatch, folders))
                )
            )
        repeated = sorted({folder for path in found if (folder := self.speaker_folder(path)) and folder.repeats > 1})
        notes += [f"speaker {folder.name}: slices are used {folder.repeats} times in an epoch" for folder in repeated]
        return notes

    def _skip_reason(self, path: Path) -> str | None:
        for pattern in self.exclude:
            if _matches(path, pattern):
                return f"excluded by exclude '{pattern}'"
        if self.include and not any(_matches(path, pattern) for pattern in self.include):
            return f"matches no pattern of include ({', '.join(self.include)})"
        if self.speakers == "folders" and len(path.parts) == 1:
            return "not in the folder of a speaker, as speakers=folders requires: move it into one, or set speakers=one"
        if self.speakers == "name_id_repeat" and self.speaker_folder(path) is None:
            return "not in a folder NAME_ID_REPEAT such as anna_0_1, as speakers=name_id_repeat requires"
        return None


def speaker_numbers(names: Iterable[str], ids: Mapping[str, int] | None = None) -> dict[str, int]:
    """Number the speakers from 0: by `ids`, then whole numbers by value, then names in alphabetical order."""
    known = ids or {}

    def order(name: str) -> tuple[int, int, str]:
        if name in known:
            return 0, known[name], name
        return (1, int(name), name) if name.isdecimal() else (2, 0, name)

    ordered = sorted(set(names), key=order)
    return {name: number for number, name in enumerate(ordered)}


def _matches(path: Path, pattern: str) -> bool:
    """Return whether a path, or one of its parent folders, matches a pattern."""
    parts = [path, *path.parents[:-1]]
    if "/" in pattern:
        return any(fnmatchcase(display_name(part), pattern.rstrip("/")) for part in parts)
    return any(fnmatchcase(display_name(Path(part.name)), pattern) for part in parts)
