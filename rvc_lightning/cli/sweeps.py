"""Sweeps, the jobs of `--multirun`: one that fails does not end the others, and a table tells how all fared."""

from __future__ import annotations

import contextlib
import csv
import logging
import math
import multiprocessing
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field, replace
from itertools import compress
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from rvc_lightning.cli.columns import format_columns
from rvc_lightning.cli.commands import handed_over
from rvc_lightning.errors import RVCError
from rvc_lightning.io.files import atomic_path, read_json, write_json

log = logging.getLogger(__name__)

TABLE_NAME = "jobs.csv"
"""The table, in the folder of the sweep."""

_RECORD = ".job-{}.json"
"""What a job leaves in the folder of the sweep until the table is written: it may run in another process."""


@dataclass(frozen=True)
class Job:
    """One run of a sweep.

    Attributes:
        number: As Hydra counts, from 0.
        folder: Where its files are.
        settings: What the sweep has set for this job, by names on the command line.
        figure: What it is judged by, lower is better; None where it has none.
        error: Why it has come to no result; None where it has.
    """

    number: int
    folder: str
    settings: dict[str, str] = field(default_factory=dict)
    figure: float | None = None
    error: str | None = None

    def __str__(self) -> str:
        """Number and settings."""
        settings = " ".join(f"{name}={value}" for name, value in self.settings.items())
        return f"job {self.number}" + f" ({settings})" * bool(settings)


class Sweep(Callback):
    """What Hydra tells of a sweep, and in the processes of its jobs of each of them; single runs are left alone."""

    def __init__(self, figure: str | None = None) -> None:
        """Prepares for a sweep, if there is to be one.

        Args:
            figure: Name of the number that the command gives, of which lower is better; None if it gives none.
        """
        self.figure = figure
        self.folder: Path | None = None
        self._typed: frozenset[str] = frozenset()

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Notes what all jobs share; they get a copy of this object, in whichever process they run."""
        # A folder that cannot be told is what the sweep itself stumbles over next, and says.
        with contextlib.suppress(OmegaConfBaseException):
            self.folder = Path(config.hydra.sweep.dir).absolute()
            self._typed = frozenset(config.hydra.overrides.task)
            self._remove_records()
            _begun.set(self)

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Records a job that may be killed."""
        if self.folder is not None:
            handed_over.set(True)
            # Processes of joblib would start others in its own way, which the loaders of torch are not made for.
            multiprocessing.set_start_method(None, force=True)
            self._record(replace(self._job(config), error="it did not end"))

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Records the result of a job, or tells its error and takes it from the sweeper, which would end the sweep."""
        if self.folder is None:
            return
        job, value = self._job(config), job_return._return_value
        if job_return.status == JobStatus.FAILED:
            job = replace(job, error=_told(job, value))
            # No number, so that no search takes it for a figure.
            job_return.status, job_return.return_value = JobStatus.COMPLETED, job.error
        elif isinstance(value, float) and math.isfinite(value):
            job = replace(job, figure=value)
        self._record(job)

    def tell(self) -> int:
        """Logs the table of the jobs and keeps it as a file; gives how many of them failed.

        Raises:
            OutOfSpaceError: There is no room for the file.
            NotWritableError: The folder of the sweep cannot be written to.
        """
        jobs = self._jobs()
        failed = sum(job.error is not None for job in jobs)
        if self.folder is None or not jobs:
            return failed
        rows = table(jobs, self.figure)
        path = self.folder / TABLE_NAME
        with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows(rows)
        self._remove_records()
        ended = f"{failed} of {len(jobs)} failed" if failed else f"all {len(jobs)} ended well"
        order = f"; lowest {self.figure} first" if self.figure in rows[0] else ""
        lines = "\n".join(format_columns(rows, numbers=False))
        log.info("Jobs: %s%s (%s)\n%s", ended, order, path, lines)
        return failed

    def _job(self, config: DictConfig) -> Job:
        own = (text for text in config.hydra.overrides.task if text not in self._typed)
        settings = {name: value for name, _, value in (_writable(text).partition("=") for text in own)}
        return Job(config.hydra.job.num, _writable(config.hydra.runtime.output_dir), settings)

    def _record(self, job: Job) -> None:
        # Imported by every training anyway, but not by all that only asks for help.
        from lightning.pytorch.utilities import rank_zero_only

        assert self.folder is not None
        rank_zero_only(write_json)(self.folder / _RECORD.format(job.number), asdict(job))

    def _records(self) -> list[Path]:
        return [] if self.folder is None else list(self.folder.glob(_RECORD.format("*")))

    def _jobs(self) -> list[Job]:
        return [Job(**read_json(path)) for path in self._records()]

    def _remove_records(self) -> None:
        for path in self._records():
            path.unlink(missing_ok=True)


_begun: ContextVar[Sweep | None] = ContextVar("_begun", default=None)
"""The sweep that this process has begun."""


@contextlib.contextmanager
def told_at_the_end() -> Iterator[None]:
    """Tells how the jobs fared if what is within is a sweep, however it ends; exit status 1 if some of them failed."""
    _begun.set(None)
    failed = 0
    try:
        yield
    finally:
        handed_over.set(False)
        if (sweep := _begun.get()) is not None:
            failed = sweep.tell()
    if failed:
        raise SystemExit(1)


def table(jobs: Sequence[Job], figure: str | None) -> list[list[str]]:
    """A row of names and one for each job: the lowest figure first, those without one, those that failed.

    Args:
        jobs: Of a sweep; settings that are the same for all of them are left out.
        figure: Name of the figure.
    """
    names = list(dict.fromkeys(name for job in jobs for name in job.settings))
    names = [name for name in names if len({job.settings.get(name) for job in jobs}) > 1]
    rows = [["job", figure or "", *names, "folder", "error"]]
    for job in sorted(jobs, key=_rank):
        shown = "" if job.figure is None else f"{job.figure:.4f}"
        settings = [job.settings.get(name, "") for name in names]
        rows.append([f"{job.number}", shown, *settings, job.folder, job.error or ""])
    # A column in which no job has anything is none.
    kept = [any(column) for column in zip(*rows[1:], strict=True)]
    return [list(compress(row, kept)) for row in rows]


def _rank(job: Job) -> tuple[bool, bool, float, int]:
    return job.error is not None, job.figure is None, job.figure or 0.0, job.number


def _told(job: Job, error: BaseException) -> str:
    """Logs why a job failed, a defect of ours with its traceback; gives the reason."""
    mended = isinstance(error, RVCError)
    reason = _writable(" ".join(f"{error}".split()) if mended else f"{type(error).__name__}: {error}")
    log.error("Error in %s: %s", job, reason, exc_info=None if mended else error)
    return reason


def _writable(text: str) -> str:
    """A text with bytes that are none, as names of files may have them, escaped."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
