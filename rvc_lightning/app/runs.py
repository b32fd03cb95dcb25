"""Trainings as the page shows them: curves and samples of a run, read from its TensorBoard events."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.directory_watcher import DirectoryDeletedError
from tensorboard.backend.event_processing.event_accumulator import AUDIO, SCALARS, EventAccumulator

from rvc_lightning.cli.resolvers import CHECKPOINT_FOLDER
from rvc_lightning.evaluation.pictures import png

CURVES = (
    *("val/mel", "loss/mel", "loss/content", "loss/speaker"),
    *("loss/features", "loss/adversarial", "loss/discriminator", "loss/kl"),
)
"""Tags of the curves, the most important first."""
SECONDS_PER_STEP, PEAK_MEMORY = "throughput/seconds_per_step", "throughput/peak_memory_gib"

_MAX_POINTS = 2000
_MAX_READERS = 4
_GREY = "#808890"
_LOGS = "tensorboard"


def list_runs(folder: str | Path) -> list[Path]:
    """Return the run folders NAME/TIME and NAME/sweep_TIME/NUMBER below a folder, the newest first."""
    found = [path for pattern in ("*/*", "*/sweep_*/*") for path in Path(folder).glob(pattern)]
    runs = [path for path in found if (path / _LOGS).is_dir() or (path / CHECKPOINT_FOLDER).is_dir()]
    return sorted(runs, key=lambda path: _time_of(path.relative_to(folder)), reverse=True)


def _time_of(run: Path) -> tuple[str, int]:
    """Return time and number of a run."""
    time, number = run.parts[1].removeprefix("sweep_"), run.name
    return time, int(number) if number.isdecimal() else 0


@dataclass(frozen=True)
class Sample:
    """A held-out clip of the latest validation."""

    title: str
    step: int
    recorded: bytes
    """WAV."""
    rebuilt: bytes
    """WAV."""


class RunReader:
    """The events of a run, read again as they grow."""

    def __init__(self, run: Path) -> None:
        """Describe the reader; `refresh` reads."""
        self._events = EventAccumulator(str(run / _LOGS), size_guidance={SCALARS: _MAX_POINTS, AUDIO: 1})

    def refresh(self) -> RunReader:
        """Read the new events."""
        # A training without a logger has none, and another visitor may delete the run.
        with contextlib.suppress(DirectoryDeletedError):
            self._events.Reload()
        return self

    @property
    def step(self) -> int:
        """The last step with a curve."""
        return max((points[-1].step for points in self._scalars().values()), default=0)

    def latest(self, tag: str) -> float | None:
        """Return the last value of a curve; None without one."""
        points = self._scalars().get(tag)
        return points[-1].value if points else None

    def best(self) -> float | None:
        """Return the lowest `val/mel`; None before the first validation."""
        points = self._scalars().get(CURVES[0])
        return min(point.value for point in points) if points else None

    def draw(self) -> bytes | None:
        """Draw the curves as PNG for any background; None without any."""
        known = {tag: points for tag, points in self._scalars().items() if tag in CURVES}
        if not known:
            return None
        tags = [tag for tag in CURVES if tag in known]
        figure = Figure(figsize=(9.0, 2.3 * -(-len(tags) // 3)), layout="constrained", facecolor="none")
        axes: list[Axes] = list(figure.subplots(-(-len(tags) // 3), 3, squeeze=False).flat)
        for axis, tag in zip(axes, tags, strict=False):
            steps = np.array([point.step for point in known[tag]])
            axis.plot(
                steps, [point.value for point in known[tag]], color="#0d9488", marker="." if len(steps) < 30 else ""
            )
            axis.set_title(tag, color=_GREY)
            axis.set_facecolor("none")
            axis.tick_params(colors=_GREY)
            for spine in axis.spines.values():
                spine.set_color(_GREY)
        for axis in axes[len(tags) :]:
            axis.remove()
        return png(figure)

    def samples(self) -> list[Sample]:
        """Return the clips of the latest validation."""
        tags = set(self._events.Tags()["audio"])
        found = []
        for number in range(len(tags)):
            names = [f"clip{number}/{kind}" for kind in ("recorded", "rebuilt")]
            if set(names) <= tags:
                recorded, rebuilt = (self._events.Audio(name)[-1] for name in names)
                wavs = recorded.encoded_audio_string, rebuilt.encoded_audio_string
                found.append(Sample(f"{number + 1}", rebuilt.step, *wavs))
        return found

    def _scalars(self) -> dict[str, list]:
        return {tag: self._events.Scalars(tag) for tag in self._events.Tags()["scalars"]}


class RunReaders:
    """Readers of the runs that were looked at last."""

    def __init__(self) -> None:
        self._readers: OrderedDict[Path, RunReader] = OrderedDict()
        self._lock = Lock()

    def read(self, run: Path) -> RunReader:
        """Return the reader of a run, with the newest events."""
        with self._lock:
            if run not in self._readers:
                self._readers[run] = RunReader(run)
            self._readers.move_to_end(run)
            if len(self._readers) > _MAX_READERS:
                self._readers.popitem(last=False)
            return self._readers[run].refresh()
