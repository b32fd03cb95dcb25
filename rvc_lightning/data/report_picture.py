"""The report of a preparation as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from rvc_lightning.audio.levels import Levels
from rvc_lightning.data.report import PreparationReport, SpeakerSummary, duration
from rvc_lightning.io.files import atomic_path

PICTURE_NAME = "report.png"
_MOST_SPEAKERS = 12
_DPI = 100


def write_picture(report: PreparationReport, path: Path) -> None:
    """Draw a report to a PNG file, atomically."""
    with atomic_path(path) as temporary:
        draw_report(report).savefig(temporary, dpi=_DPI)


def draw_report(report: PreparationReport) -> Figure:
    """Minutes and pitch of each speaker; loudness, clipping and silence of the recordings.

    Args:
        report: with at least one recording used.
    """
    # Margins by hand: matplotlib's own layout draws everything twice.
    figure = Figure(figsize=(11, 7))
    figure.subplots_adjust(left=0.12, right=0.97, top=0.89, bottom=0.08, wspace=0.2, hspace=0.35)
    title = f"{len(report.used)} recordings, {duration(report.slice_seconds)} in {report.slices} slices"
    more = len(report.speakers) - _MOST_SPEAKERS
    figure.suptitle(f"{title}; the first {_MOST_SPEAKERS} of {len(report.speakers)} speakers" if more > 0 else title)
    speakers, axes = report.speakers[:_MOST_SPEAKERS], figure.subplots(2, 2)
    _draw_minutes(axes[0, 0], speakers)
    _draw_pitch(axes[0, 1], speakers)
    levels = [recording.levels for recording in report.used]
    _draw_loudness(axes[1, 0], levels)
    _draw_shares(axes[1, 1], levels)
    return figure


def _draw_minutes(axes: Axes, speakers: Sequence[SpeakerSummary]) -> None:
    axes.barh([_plain(speaker.name) for speaker in speakers], [speaker.seconds / 60 for speaker in speakers])
    axes.invert_yaxis()
    axes.set(title="used", xlabel="minutes", ylabel="speaker")


def _draw_pitch(axes: Axes, speakers: Sequence[SpeakerSummary]) -> None:
    for speaker in speakers:
        axes.step(speaker.pitch.centres_hz, speaker.pitch.seconds, where="mid", label=_plain(speaker.name))
    axes.set(title="pitch", xlabel="Hz", ylabel="seconds a semitone", xscale="log")
    axes.set_xticks([50, 100, 200, 400, 800])
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set_xticks([], minor=True)
    axes.legend(loc="upper right", fontsize="small")


def _draw_loudness(axes: Axes, levels: Sequence[Levels]) -> None:
    level_db = np.array([level.level_db for level in levels])
    axes.hist(level_db, range(int(np.floor(level_db.min())) - 2, int(np.ceil(level_db.max())) + 3))
    axes.set(title="loudness", xlabel="level without silence / dB of full scale", ylabel="recordings")


def _draw_shares(axes: Axes, levels: Sequence[Levels]) -> None:
    shares = {
        "silent": [100 * level.silent_share for level in levels],
        "clipped": [100 * level.clipped_share for level in levels],
    }
    for label, values in shares.items():
        axes.hist(values, range(0, 105, 5), histtype="step", linewidth=2, label=label)
    axes.set(title="silence and clipping", xlabel="share of the recording / %", ylabel="recordings")
    axes.legend(loc="upper right", fontsize="small")


def _plain(name: str) -> str:
    """A name that matplotlib does not take for mathematics or leave out of a legend."""
    return (" " + name if name.startswith("_") else name).replace("$", r"\$")
