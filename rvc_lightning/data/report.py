"""What became of every file of an audio folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rvc_lightning.audio.discovery import SkippedFile
from rvc_lightning.data.slicing import LeftOut

REPORT_NAME = "report.json"
_LONGEST_LIST = 20


@dataclass(frozen=True)
class UsedRecording:
    """A recording of which at least one slice is used.

    Attributes:
        recording: path relative to the audio folder.
        speaker: number of its speaker.
        seconds: length of the recording.
        slices: how many slices it gave.
        slice_seconds: their lengths together; overlaps count twice.
        silence_seconds: silence that was dropped.
        left_out: stretches that would be slices but for their reason.
        notes: what is worth knowing (truncated, the same content as another file).
    """

    recording: str
    speaker: int
    seconds: float
    slices: int
    slice_seconds: float
    silence_seconds: float
    left_out: list[LeftOut] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class PreparationReport:
    """The outcome of a preparation: each file of the input is in `used` or in `skipped`.

    Attributes:
        audio: the folder or file that was prepared.
        output: the folder of the prepared dataset.
        used: recordings, sorted.
        skipped: all other files with their reasons, sorted.
        notes: what is worth knowing about the whole.
        speeds: seconds of audio a second of each stage that had something to do: slicing by all processes together,
            pitch and content by one process or device.
    """

    audio: str
    output: str
    used: list[UsedRecording]
    skipped: list[SkippedFile]
    notes: list[str] = field(default_factory=list)
    speeds: dict[str, float] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Length of all recordings used."""
        return sum(recording.seconds for recording in self.used)

    @property
    def slices(self) -> int:
        """Number of slices to train on."""
        return sum(recording.slices for recording in self.used)

    @property
    def slice_seconds(self) -> float:
        """Length of all slices."""
        return sum(recording.slice_seconds for recording in self.used)

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values, for JSON."""
        totals = {"seconds": self.seconds, "slices": self.slices, "slice_seconds": self.slice_seconds}
        return {**totals, **asdict(self)}

    def summary(self) -> str:
        """The report in words for the console; long lists fold and point to the report file."""
        head = (
            f"{len(self.used)} recordings ({_duration(self.seconds)}) of '{self.audio}' gave {self.slices} slices"
            f" ({_duration(self.slice_seconds)}); {len(self.skipped)} files are not used"
        )
        skipped = [f"not used: {file.path}: {file.reason}" for file in self.skipped]
        parts = [
            f"left out of {recording.recording}: {part.start_seconds:.1f} to"
            f" {part.start_seconds + part.seconds:.1f} s: {part.reason}"
            for recording in self.used
            for part in recording.left_out
        ]
        remarks = [f"{recording.recording}: {note}" for recording in self.used for note in recording.notes]
        lines = [line for group in (skipped, parts, remarks, self.notes) for line in self._folded(group)]
        if self.speeds:
            lines.append("audio per second of work: " + ", ".join(f"{k} {v:.1f} s" for k, v in self.speeds.items()))
        return "\n".join([head, *(f"  {line}" for line in lines)])

    def _folded(self, lines: Sequence[str]) -> list[str]:
        if len(lines) <= _LONGEST_LIST:
            return list(lines)
        return [*lines[:_LONGEST_LIST], f"... and {len(lines) - _LONGEST_LIST} more: see {self.output}/{REPORT_NAME}"]


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"
