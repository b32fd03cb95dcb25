"""What the notebooks call: commands that show what they say, controls of the options, players and pictures.

Needs the extra `rvc_lightning[notebook]`. Nothing here is used by the rest of the package.
"""

from __future__ import annotations

import codecs
import os
import shutil
import signal
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
from rvc_lightning.config.options import OptionField, option_fields
from rvc_lightning.conversion.options import ConversionOptions
from rvc_lightning.errors import ConfigurationError, RVCError
from rvc_lightning.evaluation.compare import log_mel
from rvc_lightning.evaluation.pictures import draw, png
from rvc_lightning.pitch.swift_f0 import SwiftF0Extractor

Sounds = Mapping[str, tuple[np.ndarray, int]]
"""Mono audio [N] and its rate in Hz, by title."""

_READ_BYTES = 4096
_OF_FILES = ("write_f0", "output_format")
"""Options that decide what files are written: in a notebook there are none."""
_EVENTS = "events.out.tfevents.*"


def run(command: str, *words: str, **settings: Any) -> None:
    """Runs `python -m rvc_lightning.COMMAND` and shows what it says while it runs.

    Interrupting the cell interrupts the command, which then ends in its own time: training saves itself.

    Args:
        command: Such as train.
        words: Of its command line, such as "+experiment=quickstart".
        settings: More of them, in which any text is a value, blanks and all; None is left out.

    Raises:
        RVCError: It has not succeeded.
    """
    given = [f"{name}={_quoted(value)}" for name, value in settings.items() if value is not None]
    # A session of its own: it hears of an interruption once, from here.
    process = subprocess.Popen(
        [sys.executable, "-m", f"rvc_lightning.{command}", *words, *given],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        _relay(process)
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)
        _relay(process)
    if process.wait():
        raise RVCError(f"{command} has ended with exit status {process.returncode}; it says why above")


def _relay(process: subprocess.Popen[bytes]) -> None:
    """Shows what a process says until it says no more."""
    assert process.stdout is not None
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    while content := os.read(process.stdout.fileno(), _READ_BYTES):
        sys.stdout.write(decoder.decode(content))
        sys.stdout.flush()


def _quoted(value: Any) -> str:
    """A value as Hydra's grammar takes any text."""
    if not isinstance(value, str | Path):
        return str(value)
    text = str(value).replace("'", r"\'")
    return f"'{text}'"


def listen(sounds: Sounds) -> None:
    """Shows a player for each sound."""
    for title, (audio, sample_rate) in sounds.items():
        display(HTML(f"<b>{escape(title)}</b>"))
        # As loud as they are: normalized, a voice that is too soft could not be told.
        display(Audio(np.clip(audio, -1, 1), rate=sample_rate, normalize=False))


def look(sounds: Sounds) -> None:
    """Shows the mel spectra of sounds, and their pitch laid over each other."""
    heard = {title: resample(audio, sample_rate, SAMPLE_RATE) for title, (audio, sample_rate) in sounds.items()}
    extract = SwiftF0Extractor()
    mels = {title: log_mel(audio, SAMPLE_RATE) for title, audio in heard.items()}
    tracks_hz = {title: extract(audio) for title, audio in heard.items()}
    display(Image(png(draw(mels, tracks_hz, log_pitch=True))))


def tensorboard_program() -> str:
    """Path of TensorBoard, also where the environment that the notebook runs in is not on the search path."""
    return shutil.which("tensorboard") or str(Path(sys.executable).with_name("tensorboard"))


def plot_training(folder: str | Path, prefixes: Collection[str] = ("train/", "val/")) -> None:
    """Shows what TensorBoard would of the newest run below `folder`: its curves over the steps.

    Args:
        folder: A run folder, or one with several.
        prefixes: What the names of the curves begin with.

    Raises:
        ConfigurationError: There is no run in it.
    """
    events = max(Path(folder).rglob(_EVENTS), key=lambda path: path.stat().st_mtime, default=None)
    if events is None:
        raise ConfigurationError(f"there is no run in '{folder}', which TensorBoard could show")
    log = EventAccumulator(str(events.parent)).Reload()
    names = [name for name in log.Tags()["scalars"] if name.startswith(tuple(prefixes))]
    display(Image(png(_curves({name: [(e.step, e.value) for e in log.Scalars(name)] for name in names}))))


def _curves(curves: Mapping[str, list[tuple[int, float]]]) -> Figure:
    """A small plot of each curve of steps and values, three in a row."""
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
    """A control for each option of a conversion, made of what the options say of themselves.

    In a notebook, naming it as the last line of a cell shows it.
    """

    def __init__(self, leave_out: Collection[str] = _OF_FILES, **values: Any) -> None:
        """Makes the controls.

        Args:
            leave_out: Options that get none, and keep their defaults.
            values: What controls begin with, where that is not the default.

        Raises:
            ConfigurationError: There is no such option, or it does not take the value.
        """
        start = ConversionOptions.from_values(values)
        self._fields = [one for one in option_fields(ConversionOptions) if one.name not in leave_out]
        self.widgets = {one.name: _widget(one, values.get(one.name, getattr(start, one.name))) for one in self._fields}
        self.box = ipywidgets.VBox([_row(one, self.widgets[one.name]) for one in self._fields])

    def options(self) -> ConversionOptions:
        """What is chosen. Raises ConfigurationError where that is not allowed."""
        return ConversionOptions.from_values({one.name: self._value(one) for one in self._fields})

    def _value(self, one: OptionField) -> Any:
        widget = self.widgets[one.name]
        return _parsed(one, widget.value) if isinstance(widget, ipywidgets.Text) else widget.value

    def _ipython_display_(self) -> None:
        display(self.box)


def _widget(one: OptionField, value: Any) -> Any:
    """A box to tick, a list, a slider where both ends are known, else a line of text."""
    if one.kinds == (bool,):
        return ipywidgets.Checkbox(value=value, indent=False)
    if one.choices:
        return ipywidgets.Dropdown(options=[*([None] if one.optional else []), *one.choices], value=value)
    if one.min is None or one.max is None or one.optional or len(one.kinds) > 1 or one.kinds[0] not in (int, float):
        return ipywidgets.Text(
            value="" if value is None else _as_yaml(value), placeholder="off", continuous_update=False
        )
    if one.kinds[0] is int:
        return ipywidgets.IntSlider(value=value, min=int(one.min), max=int(one.max))
    step = 0.5 if one.max - one.min > 20 else 0.01
    return ipywidgets.FloatSlider(value=value, min=one.min, max=one.max, step=step, readout_format=".2f")


def _row(one: OptionField, widget: Any) -> Any:
    """A control with its name before it and its meaning behind it."""
    meaning = f"{one.help}{f' ({one.unit})' if one.unit else ''}"
    layout = ipywidgets.Layout(width="12em"), ipywidgets.Layout(width="40em")
    name, text = (
        ipywidgets.HTML(escape(of), layout=size) for of, size in zip((one.name, meaning), layout, strict=True)
    )
    widget.layout.width = "20em"
    return ipywidgets.HBox([name, widget, text])


def _as_yaml(value: Any) -> str:
    """A value as it is written on the command line; a list in brackets."""
    plain = list(value) if isinstance(value, tuple) else value
    return yaml.safe_dump(plain, default_flow_style=True).removesuffix("\n").removesuffix("\n...").strip()


def _parsed(one: OptionField, text: str) -> Any:
    """The value that a line of text stands for; an empty one for what is off, or the default."""
    if not text.strip():
        return None if one.optional else one.default
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{one.name}={text}: it cannot be read as a value") from error
    return tuple(value) if isinstance(value, list) else value
