"""What became of every file of an audio folder, and what the result is like."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from rvc_lightning.audio.discovery import SkippedFile
from rvc_lightning.audio.levels import LOWEST_DB, Levels
from rvc_lightning.cli.columns import format_columns, pluralize
from rvc_lightning.data.pitch_histogram import PitchHistogram
from rvc_lightning.data.slicing import LeftOut

REPORT_NAME = "report.json"
_LONGEST_LIST = 20
_FOLDED_FROM = 5
_EXAMPLES = 3
_REMARKABLE_CLIPPING = 1e-3


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
        levels: loudness, clipping and silence of the recording as it was found.
        left_out: stretches that would be slices but for their reason.
        notes: what is worth knowing (truncated, clipped, the same sound as another file).
    """

    recording: str
    speaker: int
    seconds: float
    slices: int
    slice_seconds: float
    silence_seconds: float
    levels: Levels
    left_out: list[LeftOut] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class SpeakerSummary:
    """What there is of a speaker.

    Attributes:
        name: of the speaker; its number is its place in the list.
        recordings: how many are used.
        slices: how many they gave.
        seconds: length of the slices.
        pitch: of the slices.
        levels: means over the recordings, by their lengths; loudness as the mean of its power.
    """

    name: str
    recordings: int
    slices: int
    seconds: float
    pitch: PitchHistogram
    levels: Levels

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values; pitch as its range and as seconds by semitone."""
        return {**asdict(self), "pitch": self.pitch.to_dict()}


@dataclass(frozen=True)
class PreparationReport:
    """The outcome of a preparation: each file of the input is in `used` or in `skipped`.

    Attributes:
        audio: the folder or file that was prepared.
        output: the folder of the prepared dataset.
        used: recordings, sorted.
        skipped: all other files with their reasons, sorted.
        speakers: by their numbers.
        duplicates: recordings that are used although they sound the same as an earlier one: (recording, earlier one).
        notes: what is worth knowing about the whole.
        speeds: seconds of audio a second of each stage that had something to do: slicing by all processes together,
            pitch and content by one process or device.
    """

    audio: str
    output: str
    used: list[UsedRecording]
    skipped: list[SkippedFile]
    speakers: list[SpeakerSummary] = field(default_factory=list)
    duplicates: list[tuple[str, str]] = field(default_factory=list)
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
        parts = {name: getattr(self, name) for name in ("audio", "output", "notes", "speeds")}
        return {
            **totals,
            **parts,
            "speakers": [speaker.to_dict() for speaker in self.speakers],
            "duplicates": [{"recording": name, "same_as": twin} for name, twin in self.duplicates],
            "used": [asdict(recording) for recording in self.used],
            "skipped": [asdict(file) for file in self.skipped],
        }

    def summary(self) -> str:
        """The report in words for the console; long lists fold and point to the report file."""
        twice = ": what neighbours share counts twice" if self.slice_seconds > self.seconds else ""
        head = (
            f"{pluralize(len(self.used), 'recording')} ({duration(self.seconds)}) of '{self.audio}' gave"
            f" {pluralize(self.slices, 'slice')} ({duration(self.slice_seconds)}{twice});"
            f" {pluralize(len(self.skipped), 'file')} {'is' if len(self.skipped) == 1 else 'are'} not used"
        )
        parts = [
            f"left out of {recording.recording}: {part.start_seconds:.1f} to"
            f" {part.start_seconds + part.seconds:.1f} s: {part.reason}"
            for recording in self.used
            for part in recording.left_out
        ]
        remarks = [f"{recording.recording}: {note}" for recording in self.used for note in recording.notes]
        groups = (not_used(self.skipped), parts, remarks, self.notes)
        lines = [*_speaker_table(self.speakers), *(line for group in groups for line in self._folded(group))]
        if self.speeds:
            lines.append("audio per second of work: " + ", ".join(f"{k} {v:.1f} s" for k, v in self.speeds.items()))
        return "\n".join([head, *(f"  {line}" for line in lines)])

    def _folded(self, lines: Sequence[str]) -> list[str]:
        if len(lines) <= _LONGEST_LIST:
            return list(lines)
        return [*lines[:_LONGEST_LIST], f"... and {len(lines) - _LONGEST_LIST} more: see {self.output}/{REPORT_NAME}"]


def summarize_speakers(
    names: Sequence[str], used: Iterable[UsedRecording], pitch: Mapping[int, PitchHistogram]
) -> list[SpeakerSummary]:
    """A line for each speaker.

    Args:
        names: of the speakers, by their numbers.
        used: all recordings.
        pitch: by the speaker's number.
    """
    by_speaker: dict[int, list[UsedRecording]] = defaultdict(list)
    for recording in used:
        by_speaker[recording.speaker].append(recording)
    return [
        SpeakerSummary(
            name=name,
            recordings=len(by_speaker[number]),
            slices=sum(recording.slices for recording in by_speaker[number]),
            seconds=sum(recording.slice_seconds for recording in by_speaker[number]),
            pitch=pitch[number],
            levels=_mean_levels(by_speaker[number]),
        )
        for number, name in enumerate(names)
    ]


def remarks_on(levels: Levels) -> list[str]:
    """What is wrong with a recording by its figures."""
    if levels.clipped_share < _REMARKABLE_CLIPPING:
        return []
    return [f"clipped: {levels.clipped_share:.2%} of its samples are at full scale; record it at a lower level"]


def not_used(files: Iterable[SkippedFile]) -> list[str]:
    """A line for each skipped file; many with the same reason share one, which names the first of them."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for file in files:
        by_reason[file.reason].append(file.path)
    lines = []
    for reason, paths in by_reason.items():
        if len(paths) < _FOLDED_FROM:
            lines += [f"not used: {path}: {reason}" for path in paths]
        else:
            more = f"{', '.join(paths[:_EXAMPLES])} and {len(paths) - _EXAMPLES} more"
            lines.append(f"not used: {len(paths)} files ({more}): {reason}")
    return lines


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
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
    if not speakers:
        return []
    head = ("speaker", "minutes", "recordings", "slices", "pitch Hz (5 to 95 %)", "voiced", "level dB", "clipped",
            "silent")  # fmt: skip
    rows = [_speaker_row(speaker) for speaker in speakers[:_LONGEST_LIST]]
    more = len(speakers) - len(rows)
    return [*format_columns([head, *rows]), *([f"... and {more} more speakers"] if more else [])]


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
