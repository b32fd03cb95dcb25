"""The report of a preparation as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from rvc_lightning.audio.levels import Levels
from rvc_lightning.data.report import PreparationReport, SpeakerSummary, format_duration
from rvc_lightning.io.files import atomic_path

PICTURE_NAME = "report.png"
_MAX_SPEAKERS = 12
_DPI = 100


def write_picture(report: PreparationReport, path: Path) -> None:
    """Plot a report to a PNG file, atomically."""
    with atomic_path(path) as temporary:
        draw_report(report).savefig(temporary, dpi=_DPI)


def draw_report(report: PreparationReport) -> Figure:
    """Plot length and pitch of each speaker, and loudness, clipping and silence of the recordings.

    Args:
        report: A report with at least one recording used.
    """
    # Fixed margins: the layout engines of matplotlib draw everything twice.
    figure = Figure(figsize=(11, 7))
    figure.subplots_adjust(left=0.12, right=0.97, top=0.89, bottom=0.08, wspace=0.2, hspace=0.35)
    used = [speaker for speaker in report.speakers if speaker.recordings]
    title = f"{len(report.used)} recordings, {format_duration(report.slice_seconds)} in {report.slices} slices"
    if len(used) > _MAX_SPEAKERS:
        title += f"; the first {_MAX_SPEAKERS} of {len(used)} speakers"
    figure.suptitle(title)
    speakers, axes = used[:_MAX_SPEAKERS], figure.subplots(2, 2)
    _plot_minutes(axes[0, 0], speakers)
    _plot_pitch(axes[0, 1], speakers)
    levels = [recording.levels for recording in report.used]
    _plot_loudness(axes[1, 0], levels)
    _plot_shares(axes[1, 1], levels)
    return figure


def _plot_minutes(axes: Axes, speakers: Sequence[SpeakerSummary]) -> None:
    axes.barh([_label(speaker.name) for speaker in speakers], [speaker.seconds / 60 for speaker in speakers])
    axes.invert_yaxis()
    axes.set(title="used", xlabel="minutes", ylabel="speaker")


def _plot_pitch(axes: Axes, speakers: Sequence[SpeakerSummary]) -> None:
    for speaker in speakers:
        axes.step(speaker.pitch.centers_hz, speaker.pitch.seconds, where="mid", label=_label(speaker.name))
    axes.set(title="pitch", xlabel="Hz", ylabel="seconds per semitone", xscale="log")
    axes.set_xticks([50, 100, 200, 400, 800])
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set_xticks([], minor=True)
    axes.legend(loc="upper right", fontsize="small")


def _plot_loudness(axes: Axes, levels: Sequence[Levels]) -> None:
    level_db = np.array([level.level_db for level in levels])
    axes.hist(level_db, range(int(np.floor(level_db.min())) - 2, int(np.ceil(level_db.max())) + 3))
    axes.set(title="loudness", xlabel="level without silence / dBFS", ylabel="recordings")


def _plot_shares(axes: Axes, levels: Sequence[Levels]) -> None:
    shares = {
        "silent": [100 * level.silent_share for level in levels],
        "clipped": [100 * level.clipped_share for level in levels],
    }
    for label, values in shares.items():
        axes.hist(values, range(0, 105, 5), histtype="step", linewidth=2, label=label)
    axes.set(title="silence and clipping", xlabel="share of the recording / %", ylabel="recordings")
    axes.legend(loc="upper right", fontsize="small")


def _label(name: str) -> str:
    """Escape a name that matplotlib would read as mathematics or hide from a legend."""
    return (" " + name if name.startswith("_") else name).replace("$", r"\$")
