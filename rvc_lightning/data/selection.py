"""Which recordings of a folder are used, and who speaks in them.

    audio/anna/a.wav        speakers=folders: speaker "anna"      numbered: speaker "0"      one: speaker "0"
    audio/5/b.wav           speakers=folders: speaker "5"         numbered: speaker "5"      one: speaker "0"
    audio/c.wav             speakers=folders: not used            numbered: speaker "0"      one: speaker "0"

Only the topmost sub-folder counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePath

from rvc_lightning.audio.discovery import Discovery, SkippedFile, display_name
from rvc_lightning.config.validation import check_types
from rvc_lightning.errors import ConfigurationError, unknown_choice

SPEAKER_RULES = ("numbered", "folders", "one")
FIRST_SPEAKER = "0"


@dataclass(frozen=True)
class SelectionConfig:
    """What is taken of an audio folder.

    A pattern is a glob (`*` any text, `/` included; `?` one character; `[ab]` either): one without a slash means the
    name of a file or of a folder at any depth, one with a slash the path below the audio folder. A folder that matches
    stands for all that it holds. Upper and lower case differ.

    Attributes:
        speakers: "numbered" takes sub-folders named by a whole number for speakers, all else belongs to speaker 0, as
            the other RVC tools have it; "folders" takes every sub-folder for a speaker of its name; "one" takes all
            recordings for the same speaker's.
        include: patterns, one of which a recording has to match; none lets all pass.
        exclude: patterns of which a recording must match none.

    Raises:
        ConfigurationError: there is no such rule, or a pattern is no text.
    """

    speakers: str = "numbered"
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()

    def __post_init__(self) -> None:
        check_types(self)
        if self.speakers not in SPEAKER_RULES:
            raise unknown_choice("speakers", self.speakers, SPEAKER_RULES)
        for setting in ("include", "exclude"):
            given = getattr(self, setting)
            patterns = (given,) if isinstance(given, str) else given if isinstance(given, list | tuple) else (given,)
            if given is not None and not all(isinstance(pattern, str) and pattern for pattern in patterns):
                raise ConfigurationError(f"{setting}={given}: expected patterns such as '*.mp3' or [anna/*,take-*]")
            object.__setattr__(self, setting, () if given is None else tuple(patterns))

    def apply(self, discovery: Discovery) -> Discovery:
        """What was found, without the recordings that are not wanted: those are skipped with the reason."""
        reasons = {path: self._reason_to_skip(path) for path in discovery.recordings}
        skipped = [SkippedFile(display_name(path), reason) for path, reason in reasons.items() if reason]
        return Discovery(
            recordings=[path for path, reason in reasons.items() if reason is None],
            skipped=sorted([*discovery.skipped, *skipped], key=lambda file: file.path),
        )

    def speaker(self, relative: Path) -> str:
        """Name of who speaks in a recording, by its path below the audio folder; one that `apply` has let pass."""
        top = relative.parts[0] if len(relative.parts) > 1 else ""
        if self.speakers == "folders":
            return display_name(Path(top))
        if self.speakers == "numbered" and top.isdecimal():
            return str(int(top))
        return FIRST_SPEAKER

    def notes(self, discovery: Discovery) -> list[str]:
        """What may have been meant otherwise: patterns that match nothing, folders that are no speakers."""
        found = discovery.recordings
        idle = [
            f"{setting}: '{pattern}' matches no recording"
            for setting in ("include", "exclude")
            for pattern in getattr(self, setting)
            if not any(_matches(path, pattern) for path in found)
        ]
        folders = sorted({path.parts[0] for path in found if len(path.parts) > 1 and not path.parts[0].isdecimal()})
        if self.speakers != "numbered" or not folders:
            return idle
        names = ", ".join(display_name(Path(folder)) for folder in folders)
        what = "sub-folders belong to speaker 0 unless their name is a whole number"
        return [*idle, f"{what}; with speakers=folders each would be a speaker. These belong to 0: {names}"]

    def _reason_to_skip(self, path: Path) -> str | None:
        for pattern in self.exclude:
            if _matches(path, pattern):
                return f"left out by exclude '{pattern}'"
        if self.include and not any(_matches(path, pattern) for pattern in self.include):
            return f"matches no pattern of include ({', '.join(self.include)})"
        if self.speakers == "folders" and len(path.parts) == 1:
            return "in no speaker's folder, which speakers=folders needs: move it into one, or set speakers=one"
        return None


def speaker_numbers(names: Iterable[str]) -> dict[str, int]:
    """Speakers by name: 0 .. n - 1, whole numbers first and by value, then names by the alphabet."""
    ordered = sorted(set(names), key=lambda name: (0, int(name), name) if name.isdecimal() else (1, 0, name))
    return {name: number for number, name in enumerate(ordered)}


def _matches(path: PurePath, pattern: str) -> bool:
    """Whether a path, or a folder on it, matches a pattern."""
    on_the_way = [path, *path.parents[:-1]]
    if "/" in pattern:
        return any(fnmatchcase(display_name(Path(part)), pattern.rstrip("/")) for part in on_the_way)
    return any(fnmatchcase(display_name(Path(part.name)), pattern) for part in on_the_way)
