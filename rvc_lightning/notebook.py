"""Functions for the notebooks: run commands, choose options by widgets, play and plot audio.

Requires the extra `rvc_lightning[notebook]`.
"""

from __future__ import annotations

import codecs
import os
import shutil
import subprocess
import sys
from collections.abc import Collection, Mapping
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets
import numpy as np
import yaml
from IPython.display import HTML, Audio, Image, display
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rvc_lightning.audio.decode import resample
from rvc_lightning.audio.frames import SAMPLE_RATE
from rvc_lightning.cli.overrides import format_override
from rvc_lightning.config.options import OptionField, option_fields
from rvc_lightning.conversion.options import ConversionOptions
from rvc_lightning.conversion.presets import chosen
from rvc_lightning.errors import ConfigurationError, RVCError
from rvc_lightning.evaluation.compare import log_mel
from rvc_lightning.evaluation.pictures import draw, png
from rvc_lightning.io.processes import interrupt, start_process_group
from rvc_lightning.pitch.swift_f0 import SwiftF0Extractor

Sounds = Mapping[str, tuple[np.ndarray, int]]
"""Mono audio [N] and its sampling rate in Hz, by title."""

_READ_BYTES = 4096
_FILE_OPTIONS = ("write_f0", "output_format")
"""Options of written files, which `VoiceConverter.convert` ignores."""
_EVENTS = "events.out.tfevents.*"


def run(command: str, *arguments: str, **settings: Any) -> None:
    """Run `python -m rvc_lightning.COMMAND` and show its output.

    Interrupting the cell interrupts the command and waits for its end, so that training saves a checkpoint.

    Args:
        command: Name of the command, such as train.
        arguments: Arguments, such as "+experiment=quickstart".
        settings: Settings whose values may be any text; None omits a setting.

    Raises:
        RVCError: The command failed.
    """
    overrides = [format_override(name, value) for name, value in settings.items() if value is not None]
    # In its own process group, so that only this function interrupts it.
    process = start_process_group(
        [sys.executable, "-m", f"rvc_lightning.{command}", *arguments, *overrides],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        _relay(process)
    except KeyboardInterrupt:
        interrupt(process.pid)
        _relay(process)
    if process.wait():
        raise RVCError(f"{command} failed with exit status {process.returncode}; see its output above")


def _relay(process: subprocess.Popen[bytes]) -> None:
    """Show the output of a process until it ends."""
    assert process.stdout is not None
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    while content := os.read(process.stdout.fileno(), _READ_BYTES):
        sys.stdout.write(decoder.decode(content))
        sys.stdout.flush()


def listen(sounds: Sounds) -> None:
    """Show a player for each sound."""
    for title, (audio, sample_rate) in sounds.items():
        display(HTML(f"<b>{escape(title)}</b>"))
        # Without normalization, so that levels can be compared.
        display(Audio(np.clip(audio, -1, 1), rate=sample_rate, normalize=False))


def look(sounds: Sounds) -> None:
    """Plot the mel spectra of sounds, and their pitch in one plot."""
    wav16k = {title: resample(audio, sample_rate, SAMPLE_RATE) for title, (audio, sample_rate) in sounds.items()}
    extract = SwiftF0Extractor()
    mels = {title: log_mel(audio, SAMPLE_RATE) for title, audio in wav16k.items()}
    tracks_hz = {title: extract(audio) for title, audio in wav16k.items()}
    display(Image(png(draw(mels, tracks_hz, log_pitch=True))))


def tensorboard_program() -> str:
    """Return the path of TensorBoard, including environments that are not on the search path."""
    return shutil.which("tensorboard") or str(Path(sys.executable).with_name("tensorboard"))


def plot_training(folder: str | Path, prefixes: Collection[str] = ("loss/", "val/")) -> None:
    """Plot the curves that TensorBoard shows of the newest run below `folder`.

    Args:
        folder: A run folder, or a folder with several.
        prefixes: Prefixes of the names of the curves.

    Raises:
        ConfigurationError: `folder` contains no run.
    """
    events = max(Path(folder).rglob(_EVENTS), key=lambda path: path.stat().st_mtime, default=None)
    if events is None:
        raise ConfigurationError(f"no run found in '{folder}'")
    log = EventAccumulator(str(events.parent)).Reload()
    names = [name for name in log.Tags()["scalars"] if name.startswith(tuple(prefixes))]
    display(Image(png(_curves({name: [(e.step, e.value) for e in log.Scalars(name)] for name in names}))))


def _curves(curves: Mapping[str, list[tuple[int, float]]]) -> Figure:
    """Plot curves of steps and values, three in a row."""
    rows = -(-len(curves) // 3)
    figure = Figure(figsize=(10, 2.2 * max(rows, 1)), layout="constrained")
    axes = figure.subplots(max(rows, 1), 3, squeeze=False).ravel()
    for axis, (name, points) in zip(axes, curves.items(), strict=False):
        axis.plot(*zip(*points, strict=True), marker="." if len(points) < 2 else None)
        axis.set_title(name, fontsize=9)
    for axis in axes[len(curves) :]:
        axis.set_axis_off()
    return figure


class OptionControls:
    """Widgets for the options of a conversion, from their descriptions.

    As the last line of a cell it shows the widgets.
    """

    def __init__(self, exclude: Collection[str] = _FILE_OPTIONS, **values: Any) -> None:
        """Build the widgets.

        Args:
            exclude: Options without a widget, which keep their defaults.
            values: Initial values other than the defaults.

        Raises:
            ConfigurationError: An option is unknown or its value is not allowed.
        """
        start = ConversionOptions.from_values(values)
        self._fields = [field for field in option_fields(ConversionOptions) if field.name not in exclude]
        self.widgets = {
            field.name: _widget(field, values.get(field.name, getattr(start, field.name))) for field in self._fields
        }
        self.box = ipywidgets.VBox([_row(field, self.widgets[field.name]) for field in self._fields])

    def options(self) -> ConversionOptions:
        """Return the chosen options. Raises ConfigurationError if a value is not allowed."""
        return ConversionOptions.from_values({field.name: self._value(field) for field in self._fields})

    def overrides(self) -> list[str]:
        """Return the options that differ from their defaults as overrides of a command; errors as in `options`."""
        return [format_override(name, value) for name, value in chosen(self.options()).items()]

    def _value(self, field: OptionField) -> Any:
        widget = self.widgets[field.name]
        return _parsed(field, widget.value) if isinstance(widget, ipywidgets.Text) else widget.value

    def _ipython_display_(self) -> None:
        display(self.box)


def _widget(field: OptionField, value: Any) -> Any:
    """Return a checkbox, a list, a slider if there are bounds, else a text field."""
    if field.kinds == (bool,):
        return ipywidgets.Checkbox(value=value, indent=False)
    if field.choices:
        return ipywidgets.Dropdown(options=[*([None] if field.optional else []), *field.choices], value=value)
    if (
        field.min is None
        or field.max is None
        or field.optional
        or len(field.kinds) > 1
        or field.kinds[0] not in (int, float)
    ):
        return ipywidgets.Text(
            value="" if value is None else _as_yaml(value), placeholder="off", continuous_update=False
        )
    if field.kinds[0] is int:
        return ipywidgets.IntSlider(value=value, min=int(field.min), max=int(field.max))
    step = 0.5 if field.max - field.min > 20 else 0.01
    return ipywidgets.FloatSlider(value=value, min=field.min, max=field.max, step=step, readout_format=".2f")


def _row(field: OptionField, widget: Any) -> Any:
    """Return a widget between the name and the meaning of its option."""
    meaning = f"{field.help}{f' ({field.unit})' if field.unit else ''}"
    layout = ipywidgets.Layout(width="12em"), ipywidgets.Layout(width="40em")
    name, text = (
        ipywidgets.HTML(escape(label), layout=size) for label, size in zip((field.name, meaning), layout, strict=True)
    )
    widget.layout.width = "20em"
    return ipywidgets.HBox([name, widget, text])


def _as_yaml(value: Any) -> str:
    """Return a value as on the command line, with lists in brackets."""
    plain = list(value) if isinstance(value, tuple) else value
    return yaml.safe_dump(plain, default_flow_style=True).removesuffix("\n").removesuffix("\n...").strip()


def _parsed(field: OptionField, text: str) -> Any:
    """Return the value of a text field; an empty one is None, or the default."""
    if not text.strip():
        return None if field.optional else field.default
    if str in field.kinds:
        return text.strip()
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{field.name}={text}: not a valid value") from error
    return tuple(value) if isinstance(value, list) else value
