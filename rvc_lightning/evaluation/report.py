"""What an evaluation found: figures by name, of every clip and on average, as a table and as JSON."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeAlias

import numpy as np

from rvc_lightning.audio.discovery import SkippedFile
from rvc_lightning.cli.columns import format_columns
from rvc_lightning.version import __version__

Figures: TypeAlias = Mapping[str, float | None]
"""By the keys of `MEASURES`; None, or absent, where a figure cannot be had."""

MEAN_ROW, SOURCE_ROW = "mean", "mean of the sources"


@dataclass(frozen=True)
class Measure:
    """A figure: how it is shown and what it means."""

    title: str
    """Head of its column."""
    shown: str
    """Format of its values."""
    meaning: str


MEASURES = {
    "mel_distance_db": Measure(
        "mel dB", ".1f", "distance of the mel spectra to the recording at the same loudness, frame by frame, in dB; "
        "0 is the same",
    ),
    "level_db": Measure("level dB", "+.1f", "how much louder it is than the source, in dB"),
    "pitch_correlation": Measure(
        "pitch corr.", ".3f", "correlation of log pitch with the source's, where both are voiced; 1 is the same melody"
    ),
    "pitch_error_cents": Measure(
        "pitch cents", ".0f", "median difference to the pitch that was asked for (the source's, transposed), in cents"
    ),
    "gross_pitch_error": Measure(
        "off pitch", ".3f", "share of the frames voiced in both whose pitch is 50 cents or more off"
    ),
    "voicing_error": Measure("voicing err.", ".3f", "share of frames voiced in the source or here, but not in both"),
    "phone_error": Measure(
        "phone errors", ".2f", "phones that a recognizer hears otherwise than in the source, by their number there and "
        "1 at most: what is added beyond that does not count; it is for English and errs by itself: 0.3 is good",
    ),
    "speaker_similarity": Measure(
        "similarity", ".3f", "cosine of the speaker embedding with the mean of the target's reference clips; 1 is the "
        "same"
    ),
    "speaker_gain": Measure(
        "speaker gain", ".2f", "way from the source's similarity to that of the target's own clips: 0 no conversion, "
        "1 a clip of the target"
    ),
    "mos_overall": Measure("MOS", ".2f", "listeners' opinion of the whole as DNSMOS estimates it, 1 to 5"),
    "mos_signal": Measure("MOS speech", ".2f", "the same of the speech"),
    "mos_background": Measure("MOS silence", ".2f", "the same of what is behind the speech"),
    "counterpart_mel_distance_db": Measure(
        "mel dB to target", ".1f", "distance of the mel spectra to the target saying the same words, at the same "
        "loudness, frames paired by warping, in dB"
    ),
}  # fmt: skip
"""Of all tasks, in the order of the columns."""


@dataclass(frozen=True)
class ClipReport:
    """What was found of one recording."""

    name: str
    """Path below the folder, as valid text."""
    seconds: float
    """Of it that were judged."""
    transpose_semitones: float
    """By which the pitch was moved."""
    converted: Figures
    """Of the conversion."""
    source: Figures
    """Of the recording itself, unconverted."""
    remarks: tuple[str, ...] = ()
    """What is unusual, in words."""


@dataclass(frozen=True)
class ClipSample:
    """A clip that can be listened to and looked at."""

    name: str
    players: Mapping[str, bytes]
    """MP3 files by title."""
    picture: bytes
    """Spectra and pitch, a PNG file."""


@dataclass
class Report:
    """The whole evaluation."""

    task: str
    voice: Mapping[str, Any]
    """What is known of the voice."""
    settings: Mapping[str, Any]
    clips: list[ClipReport] = field(default_factory=list)
    skipped: list[SkippedFile] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    """Figures that are missing, why, and the remedy."""
    own_similarity: float | None = None
    """What true clips of the target score; None without reference clips."""
    exhibits: list[ClipSample] = field(default_factory=list)

    @property
    def means(self) -> dict[str, float | None]:
        """Of the conversions, over the clips that have the figure."""
        return mean_figures(clip.converted for clip in self.clips)

    @property
    def source_means(self) -> dict[str, float | None]:
        """Of the recordings, unconverted."""
        return mean_figures(clip.source for clip in self.clips)

    def columns(self) -> list[str]:
        """Keys of the measures that at least one clip has."""
        return [key for key, value in self.means.items() if value is not None]

    def rows(self) -> list[tuple[str, list[str]]]:
        """Name and shown figures of every clip."""
        return [self._row(clip.name, clip.converted) for clip in self.clips]

    def mean_rows(self) -> list[tuple[str, list[str]]]:
        """The same of the means; that of the sources only where one of its figures is shown."""
        sources = self.source_means
        has_sources = any(sources[key] is not None for key in self.columns())
        return [self._row(MEAN_ROW, self.means), *([self._row(SOURCE_ROW, sources)] if has_sources else [])]

    def _row(self, name: str, figures: Figures) -> tuple[str, list[str]]:
        return name, [shown(key, figures.get(key)) for key in self.columns()]

    def notes(self) -> list[str]:
        """Sentences below the table: what true clips score, what is left out, skipped, or unusual."""
        own = (
            [] if self.own_similarity is None else [f"similarity of the target's own clips: {self.own_similarity:.3f}"]
        )
        return [
            *own,
            *(f"left out: {text}" for text in self.left_out),
            *(f"skipped: {other.path}: {other.reason}" for other in self.skipped),
            *(f"{clip.name}: {remark}" for clip in self.clips for remark in clip.remarks),
        ]

    def text(self) -> str:
        """The table, what its columns mean, and its notes, for the console."""
        measures = [MEASURES[key] for key in self.columns()]
        head = ["", *(measure.title for measure in measures)]
        named = [*self.rows(), *self.mean_rows()]
        table = format_columns([head, *([printable(name), *cells] for name, cells in named)])
        legend = format_columns([(measure.title, measure.meaning) for measure in measures], numbers=False)
        return "\n".join([*table, "", *legend, "", *(printable(note) for note in self.notes())]).rstrip()

    def to_dict(self) -> dict[str, Any]:
        """Everything but sounds and pictures, as JSON takes it."""
        return {
            "task": self.task,
            "voice": dict(self.voice),
            "mean": self.means,
            "mean_of_sources": self.source_means,
            "own_similarity": self.own_similarity,
            "clips": [asdict(clip) for clip in self.clips],
            "skipped": [asdict(other) for other in self.skipped],
            "left_out": self.left_out,
            "meaning": {key: measure.meaning for key, measure in MEASURES.items()},
            "settings": dict(self.settings),
            "versions": versions(),
        }


def mean_figures(figures: Iterable[Figures]) -> dict[str, float | None]:
    """The mean of each measure over those that have it; None where none has."""
    rows = list(figures)
    values = {key: [value for row in rows if (value := row.get(key)) is not None] for key in MEASURES}
    return {key: float(np.mean(of)) if of else None for key, of in values.items()}


def shown(key: str, value: float | None) -> str:
    """A figure as the tables show it."""
    return "-" if value is None else format(value, MEASURES[key].shown)


def printable(text: str) -> str:
    """`text` without what could move a terminal's cursor: names of files come from strangers."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def versions() -> dict[str, str | None]:
    """Of this package and of what the figures depend on; None for what is not installed."""
    packages = (
        "torch",
        "numpy",
        "librosa",
        "soxr",
        "swift-f0",
        "resemblyzer",
        "speechmos",
        "onnxruntime",
        "pocketsphinx",
    )
    found: dict[str, str | None] = {"python": platform.python_version(), "rvc_lightning": __version__}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found
