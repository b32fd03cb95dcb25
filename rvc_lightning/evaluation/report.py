"""Results of an evaluation: scores of each clip and their means, as a table and as JSON."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeAlias

import numpy as np

from rvc_lightning.audio.discovery import SkippedFile
from rvc_lightning.cli.columns import format_columns
from rvc_lightning.errors import printable
from rvc_lightning.version import __version__

Scores: TypeAlias = Mapping[str, float | None]
"""Values by the keys of `METRICS`; None or absent if undefined."""

MEAN_ROW, SOURCE_ROW = "mean", "mean of the sources"
_PACKAGES = (
    *("torch", "numpy", "librosa", "soxr", "swift-f0"),
    *("resemblyzer", "speechmos", "onnxruntime", "pocketsphinx"),
)


@dataclass(frozen=True)
class Metric:
    """Presentation of a metric."""

    title: str
    """Column header."""
    format: str
    """Format specification of its values."""
    description: str
    """Meaning and range, for readers of the report."""


METRICS = {
    "mel_distance_db": Metric(
        "mel dB", ".1f", "distance of the mel spectra to the recording, at the same loudness and frame by frame, in "
        "dB; 0 is identical",
    ),
    "level_db": Metric("level dB", "+.1f", "level relative to the source, in dB"),
    "pitch_correlation": Metric(
        "pitch corr.", ".3f", "correlation of log pitch with the source, where both are voiced; 1 is the same melody"
    ),
    "pitch_error_cents": Metric(
        "pitch cents", ".0f", "median difference to the requested pitch (the transposed source), in cents"
    ),
    "gross_pitch_error": Metric(
        "off pitch", ".3f", "share of the frames voiced in both whose pitch is 50 cents or more off"
    ),
    "voicing_error": Metric(
        "voicing err.", ".3f", "share of the frames voiced in the source or in the conversion, but not in both"
    ),
    "phone_error": Metric(
        "phone errors", ".2f", "phone error rate of a recognizer against its transcript of the source, at most 1; the "
        "recognizer is for English and imperfect: 0.3 is good",
    ),
    "speaker_similarity": Metric(
        "similarity", ".3f", "cosine of the speaker embedding and the mean of the target's reference clips; 1 is "
        "identical"
    ),
    "speaker_gain": Metric(
        "speaker gain", ".2f", "change in similarity relative to the target's own clips: 0 for no change, 1 for a "
        "clip of the target"
    ),
    "mos_overall": Metric("MOS", ".2f", "mean opinion score of the whole signal, estimated by DNSMOS, 1 to 5"),
    "mos_signal": Metric("MOS speech", ".2f", "the same of the speech"),
    "mos_background": Metric("MOS background", ".2f", "the same of the background"),
    "counterpart_mel_distance_db": Metric(
        "mel dB to target", ".1f", "distance of the mel spectra to the same words by the target, at the same loudness "
        "and aligned by warping, in dB"
    ),
}  # fmt: skip
"""Metrics of all tasks, in the order of the columns."""


@dataclass(frozen=True)
class ClipReport:
    """Results for one recording."""

    name: str
    """Path relative to the folder, as valid text."""
    seconds: float
    """Evaluated length."""
    transpose_semitones: float
    """Pitch shift of the conversion."""
    converted: Scores
    """Scores of the conversion."""
    source: Scores
    """Scores of the unconverted recording."""
    remarks: tuple[str, ...] = ()
    """Limitations, for readers."""


@dataclass(frozen=True)
class ClipSample:
    """Audio and picture of one clip."""

    name: str
    players: Mapping[str, bytes]
    """MP3 files by title."""
    picture: bytes
    """Spectra and pitch, a PNG file."""


@dataclass
class Report:
    """Results of an evaluation."""

    task: str
    voice: Mapping[str, Any]
    """Description of the voice."""
    settings: Mapping[str, Any]
    clips: list[ClipReport] = field(default_factory=list)
    skipped: list[SkippedFile] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """Metrics that are missing: reason and remedy."""
    reference_similarity: float | None = None
    """Mean similarity of the target's clips to each other; None without reference clips."""
    samples: list[ClipSample] = field(default_factory=list)

    @property
    def means(self) -> dict[str, float | None]:
        """Mean scores of the conversions, over the clips that have them."""
        return mean_scores(clip.converted for clip in self.clips)

    @property
    def source_means(self) -> dict[str, float | None]:
        """Mean scores of the unconverted recordings."""
        return mean_scores(clip.source for clip in self.clips)

    def columns(self) -> list[str]:
        """Return the keys of the metrics that at least one clip has."""
        return [key for key, value in self.means.items() if value is not None]

    def rows(self) -> list[tuple[str, list[str]]]:
        """Return name and formatted scores of every clip."""
        return [self._row(clip.name, clip.converted) for clip in self.clips]

    def mean_rows(self) -> list[tuple[str, list[str]]]:
        """Return the rows of the means; that of the sources only if it has a value in a column."""
        sources = self.source_means
        has_sources = any(sources[key] is not None for key in self.columns())
        return [self._row(MEAN_ROW, self.means), *([self._row(SOURCE_ROW, sources)] if has_sources else [])]

    def _row(self, name: str, scores: Scores) -> tuple[str, list[str]]:
        return name, [format_score(key, scores.get(key)) for key in self.columns()]

    def notes(self) -> list[str]:
        """Return the notes below the table: reference similarity, missing metrics, skipped files and remarks."""
        similarity = self.reference_similarity
        return [
            *([] if similarity is None else [f"similarity of the target's own clips: {similarity:.3f}"]),
            *(f"missing: {text}" for text in self.missing),
            *(f"skipped: {file.path}: {file.reason}" for file in self.skipped),
            *(f"{clip.name}: {remark}" for clip in self.clips for remark in clip.remarks),
        ]

    def text(self) -> str:
        """Return table, legend and notes for the console."""
        metrics = [METRICS[key] for key in self.columns()]
        rows = [("", [metric.title for metric in metrics]), *self.rows(), *self.mean_rows()]
        table = format_columns([[printable(name), *cells] for name, cells in rows])
        legend = format_columns([(metric.title, metric.description) for metric in metrics], numbers=False)
        return "\n".join([*table, "", *legend, "", *(printable(note) for note in self.notes())]).rstrip()

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values, without samples."""
        return {
            "task": self.task,
            "voice": dict(self.voice),
            "mean": self.means,
            "mean_of_sources": self.source_means,
            "reference_similarity": self.reference_similarity,
            "clips": [asdict(clip) for clip in self.clips],
            "skipped": [asdict(file) for file in self.skipped],
            "missing": self.missing,
            "metrics": {key: metric.description for key, metric in METRICS.items()},
            "settings": dict(self.settings),
            "versions": versions(),
        }


def mean_scores(scores: Iterable[Scores]) -> dict[str, float | None]:
    """Return the mean of each metric over the clips that have it; None if none has."""
    rows = list(scores)
    values = {key: [value for row in rows if (value := row.get(key)) is not None] for key in METRICS}
    return {key: float(np.mean(clip_values)) if clip_values else None for key, clip_values in values.items()}


def format_score(key: str, value: float | None) -> str:
    """Format a score for tables."""
    return "-" if value is None else format(value, METRICS[key].format)


def versions() -> dict[str, str | None]:
    """Return the versions of this package and of those that affect scores; None if not installed."""
    installed: dict[str, str | None] = {"python": platform.python_version(), "rvc_lightning": __version__}
    for package in _PACKAGES:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            installed[package] = None
    return installed
