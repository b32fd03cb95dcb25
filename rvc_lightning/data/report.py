"""The report of a preparation: how every file of the input is used, and statistics of each speaker."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rvc_lightning.audio.discovery import SkippedFile
from rvc_lightning.audio.levels import LOWEST_DB, Levels
from rvc_lightning.cli.columns import format_columns, pluralize
from rvc_lightning.data.pitch_histogram import PitchHistogram
from rvc_lightning.data.slicing import SkippedPart
from rvc_lightning.errors import DatasetError
from rvc_lightning.io.files import read_json

REPORT_NAME = "report.json"

_MAX_LINES = 20
_MIN_GROUP = 5
_EXAMPLES = 3


@dataclass(frozen=True)
class UsedRecording:
    """A recording with at least one slice in the dataset."""

    recording: str
    """Path relative to the audio folder."""
    speaker: int
    """Number of its speaker."""
    seconds: float
    slices: int
    slice_seconds: float
    """Length of all slices; overlaps count twice."""
    silence_seconds: float
    """Length of the silence that was dropped."""
    levels: Levels
    """Levels of the original recording."""
    left_out: list[SkippedPart]
    """Parts that are not used."""
    notes: list[str]
    """Remarks: truncated, clipped, or the same sound as another file."""


@dataclass(frozen=True)
class SpeakerSummary:
    """Statistics of a speaker."""

    name: str
    """Name of the speaker; its number is its index in the list."""
    recordings: int
    slices: int
    seconds: float
    """Length of the slices."""
    pitch: PitchHistogram
    """Pitch of the slices."""
    levels: Levels
    """Means over the recordings, weighted by length; loudness as mean power."""


@dataclass(frozen=True)
class PreparationReport:
    """The result of a preparation: each file of the input is in `used` or in `skipped`."""

    audio: str
    """Folder or file that was prepared."""
    output: str
    """Folder of the prepared dataset."""
    used: list[UsedRecording]
    skipped: list[SkippedFile]
    speakers: list[SpeakerSummary]
    """Statistics of the speakers, by number."""
    duplicates: list[tuple[str, str]]
    """Recordings that are used although they have the same sound as an earlier one: (recording, earlier one)."""
    notes: list[str]
    """Remarks on the whole folder."""
    speeds: dict[str, float]
    """Seconds of audio per second of each stage that had work: slicing by all processes together, pitch and content by
    one process or device."""

    @property
    def seconds(self) -> float:
        """Length of all recordings used."""
        return sum(recording.seconds for recording in self.used)

    @property
    def slices(self) -> int:
        """Number of slices."""
        return sum(recording.slices for recording in self.used)

    @property
    def slice_seconds(self) -> float:
        """Length of all slices."""
        return sum(recording.slice_seconds for recording in self.used)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "seconds": self.seconds,
            "slices": self.slices,
            "slice_seconds": self.slice_seconds,
            **asdict(self),
            "speakers": [{**asdict(speaker), "pitch": speaker.pitch.to_dict()} for speaker in self.speakers],
            "duplicates": [{"recording": name, "same_as": original} for name, original in self.duplicates],
        }

    def summary(self) -> str:
        """Return the report as text for the console; long lists are shortened and refer to the report file."""
        overlap = ", overlaps counted twice" if self.slice_seconds > self.seconds else ""
        verb = "is" if len(self.skipped) == 1 else "are"
        head = (
            f"{pluralize(len(self.used), 'recording')} ({format_duration(self.seconds)}) of '{self.audio}' yielded"
            f" {pluralize(self.slices, 'slice')} ({format_duration(self.slice_seconds)}{overlap});"
            f" {pluralize(len(self.skipped), 'file')} {verb} not used"
        )
        parts = [
            f"left out of {recording.recording}: {part.start_seconds:.1f} to"
            f" {part.start_seconds + part.seconds:.1f} s: {part.reason}"
            for recording in self.used
            for part in recording.left_out
        ]
        remarks = [f"{recording.recording}: {note}" for recording in self.used for note in recording.notes]
        lines = _speaker_table(self.speakers)
        for group in (skipped_lines(self.skipped), parts, remarks, self.notes):
            lines += group[:_MAX_LINES]
            if len(group) > _MAX_LINES:
                lines.append(f"... and {len(group) - _MAX_LINES} more: see {self.output}/{REPORT_NAME}")
        if self.speeds:
            speeds = ", ".join(f"{stage} {speed:.1f} s" for stage, speed in self.speeds.items())
            lines.append(f"audio processed per second: {speeds}")
        return "\n".join([head, *(f"  {line}" for line in lines)])


def summarize_speakers(
    names: Sequence[str], used: Iterable[UsedRecording], pitch: Mapping[int, PitchHistogram]
) -> list[SpeakerSummary]:
    """Return the statistics of each speaker; `pitch` is that of the slices by the number of the speaker."""
    groups: list[list[UsedRecording]] = [[] for _ in names]
    for recording in used:
        groups[recording.speaker].append(recording)
    return [
        SpeakerSummary(
            name=name,
            recordings=len(group),
            slices=sum(recording.slices for recording in group),
            seconds=sum(recording.slice_seconds for recording in group),
            pitch=pitch[number],
            levels=_mean_levels(group),
        )
        for number, (name, group) in enumerate(zip(names, groups, strict=True))
    ]


def read_report(dataset: Path) -> dict[str, Any]:
    """Read the report of a dataset. Raises DatasetError if it is missing or damaged."""
    try:
        return read_json(dataset / REPORT_NAME)
    except (OSError, ValueError) as error:
        raise DatasetError(f"'{dataset / REPORT_NAME}' cannot be read ({error}); prepare the dataset again") from error


def skipped_lines(files: Iterable[SkippedFile]) -> list[str]:
    """Return a line for each skipped file; files with the same reason share a line if there are many."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for file in files:
        by_reason[file.reason].append(file.path)
    lines = []
    for reason, paths in by_reason.items():
        if len(paths) < _MIN_GROUP:
            lines += [f"not used: {path}: {reason}" for path in paths]
        else:
            examples = f"{', '.join(paths[:_EXAMPLES])} and {len(paths) - _EXAMPLES} more"
            lines.append(f"not used: {len(paths)} files ({examples}): {reason}")
    return lines


def format_duration(seconds: float) -> str:
    """Return a duration in seconds, minutes or hours."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"


def _mean_levels(recordings: Sequence[UsedRecording]) -> Levels:
    if not recordings:
        return Levels(LOWEST_DB, 0.0, 0.0)
    seconds = np.array([recording.seconds for recording in recordings])
    levels = [recording.levels for recording in recordings]
    sounding = seconds * [1 - level.silent_share for level in levels]
    power = np.average([10 ** (level.level_db / 10) for level in levels], weights=np.maximum(sounding, 1e-9))
    return Levels(
        level_db=float(10 * np.log10(power)),
        clipped_share=float(np.average([level.clipped_share for level in levels], weights=seconds)),
        silent_share=float(np.average([level.silent_share for level in levels], weights=seconds)),
    )


def _speaker_table(speakers: Sequence[SpeakerSummary]) -> list[str]:
    head = ("speaker", "minutes", "recordings", "slices", "pitch Hz (5 to 95 %)", "voiced", "level dB", "clipped",
            "silent")  # fmt: skip
    rows = [_speaker_row(speaker) for speaker in speakers if speaker.recordings]
    more = len(rows) - _MAX_LINES
    table = format_columns([head, *rows[:_MAX_LINES]]) if rows else []
    return [*table, *([f"... and {more} more speakers"] if more > 0 else [])]


def _speaker_row(speaker: SpeakerSummary) -> tuple[str, ...]:
    low, median, high = speaker.pitch.range_hz
    return (
        speaker.name,
        f"{speaker.seconds / 60:.1f}",
        str(speaker.recordings),
        str(speaker.slices),
        f"{median:.0f} ({low:.0f} to {high:.0f})" if median else "none",
        f"{speaker.pitch.voiced_share:.0%}",
        f"{speaker.levels.level_db:.1f}",
        f"{speaker.levels.clipped_share:.2%}",
        f"{speaker.levels.silent_share:.0%}",
    )
