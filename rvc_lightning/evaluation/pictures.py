"""Plots of spectra and pitch.

Legend: M mel bands, F frames of 10 ms.
"""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rvc_lightning.audio.frames import FRAMES_PER_SECOND

_INCHES_WIDE, _INCHES_EACH = 9.0, 2.3


def draw(mels: Mapping[str, np.ndarray], tracks_hz: Mapping[str, np.ndarray], *, log_pitch: bool = False) -> Figure:
    """Plot mel spectra in rows on a common scale, and pitch tracks in a last row.

    Args:
        mels: Log-mel spectra [M, F] by title.
        tracks_hz: Pitch in Hz [F] by title, 0 where unvoiced; the first has a thick line, below the others.
        log_pitch: Whether the pitch axis is logarithmic.
    """
    rows = len(mels) + 1
    figure = Figure(figsize=(_INCHES_WIDE, _INCHES_EACH * rows), layout="constrained")
    axes: list[Axes] = list(figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0])
    low, high = min(float(mel.min()) for mel in mels.values()), max(float(mel.max()) for mel in mels.values())
    for axis, (title, mel) in zip(axes, mels.items(), strict=False):
        extent = (0.0, mel.shape[1] / FRAMES_PER_SECOND, 0.0, float(mel.shape[0]))
        axis.imshow(mel, origin="lower", aspect="auto", vmin=low, vmax=high, extent=extent)
        axis.set(title=title, ylabel="mel band")
    for number, (title, f0_hz) in enumerate(tracks_hz.items()):
        voiced_hz = np.where(f0_hz > 0, f0_hz, np.nan)
        width = 1.0 if number else 3.0
        axes[-1].plot(np.arange(len(voiced_hz)) / FRAMES_PER_SECOND, voiced_hz, label=title, linewidth=width)
    axes[-1].set(ylabel="pitch / Hz", xlabel="seconds", yscale="log" if log_pitch else "linear")
    if log_pitch:
        # Plain numbers, not powers of ten.
        axes[-1].yaxis.set_major_formatter("{x:.0f}")
        axes[-1].yaxis.set_minor_formatter("{x:.0f}")
    axes[-1].legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(tracks_hz), frameon=False)
    return figure


def png(figure: Figure, dots_per_inch: int = 100) -> bytes:
    """Render a figure as PNG."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=dots_per_inch)
    return stream.getvalue()
