"""Sweeps, the jobs of `--multirun`: a failed job does not end the sweep, and a table lists the results of all jobs."""

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
from rvc_lightning.errors import RVCError
from rvc_lightning.io.files import atomic_path, read_json, write_json

log = logging.getLogger(__name__)

TABLE_NAME = "jobs.csv"
"""File name of the table in the folder of the sweep."""

_RECORD_NAME = ".job-{}.json"
"""Result of one job, in the folder of the sweep until the table is written; jobs may run in other processes."""

in_sweep: ContextVar[bool] = ContextVar("in_sweep", default=False)
"""Whether this process runs a job of a sweep, whose errors `Sweep` records."""


@dataclass(frozen=True)
class Job:
    """One run of a sweep.

    Attributes:
        number: Number of the job, from 0.
        folder: Output folder.
        settings: Overrides of this job, by name.
        score: Return value of the job, lower is better; None if it has none.
        error: Why the job failed; None if it succeeded.
    """

    number: int
    folder: str
    settings: dict[str, str] = field(default_factory=dict)
    score: float | None = None
    error: str | None = None

    def __str__(self) -> str:
        settings = " ".join(f"{name}={value}" for name, value in self.settings.items())
        return f"job {self.number} ({settings})" if settings else f"job {self.number}"


class Sweep(Callback):
    """Callback that records the result of each job of a sweep; single runs are not recorded."""

    def __init__(self, score: str | None = None) -> None:
        """Initialize the callback.

        Args:
            score: Name of the return value of the command, lower is better; None if it returns nothing.
        """
        self.score = score
        self.folder: Path | None = None
        self._common_overrides: frozenset[str] = frozenset()

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Store the settings that all jobs share. Each job gets a copy of this object, possibly in another process."""
        # An unresolvable folder raises again in the sweep itself, with Hydra's message.
        with contextlib.suppress(OmegaConfBaseException):
            self.folder = Path(config.hydra.sweep.dir).absolute()
            self._common_overrides = frozenset(config.hydra.overrides.task)
            self._remove_records()
            _current.set(self)

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Record the job as failed, in case it is killed."""
        if self.folder is not None:
            in_sweep.set(True)
            # PyTorch's data loaders do not support the start method that joblib sets.
            multiprocessing.set_start_method(None, force=True)
            self._record(replace(self._job(config), error="it did not finish"))

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Record the result, or log the error and hide it from the sweeper, which would end the sweep."""
        if self.folder is None:
            return
        job, value = self._job(config), job_return._return_value
        if job_return.status == JobStatus.FAILED:
            job = replace(job, error=_log_error(job, value))
            # Text, so that a search does not use it as a score.
            job_return.status, job_return.return_value = JobStatus.COMPLETED, job.error
        elif isinstance(value, float) and math.isfinite(value):
            job = replace(job, score=value)
        self._record(job)

    def report(self) -> int:
        """Log the table of jobs, write it as a file and return the number of failed jobs.

        Raises:
            OutOfSpaceError: The disk is full.
            NotWritableError: The folder of the sweep cannot be written to.
        """
        jobs = [Job(**read_json(path)) for path in self._records()]
        failed = sum(job.error is not None for job in jobs)
        if self.folder is None or not jobs:
            return failed
        rows = job_table(jobs, self.score)
        path = self.folder / TABLE_NAME
        with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows(rows)
        self._remove_records()
        summary = f"{failed} of {len(jobs)} failed" if failed else f"all {len(jobs)} succeeded"
        order = f"; lowest {self.score} first" if self.score in rows[0] else ""
        log.info("Jobs: %s%s (%s)\n%s", summary, order, path, "\n".join(format_columns(rows, numbers=False)))
        return failed

    def _job(self, config: DictConfig) -> Job:
        overrides = (text for text in config.hydra.overrides.task if text not in self._common_overrides)
        settings = {name: value for name, _, value in (_printable(text).partition("=") for text in overrides)}
        return Job(config.hydra.job.num, _printable(config.hydra.runtime.output_dir), settings)

    def _record(self, job: Job) -> None:
        # Imported lazily, since --help does not need it.
        from lightning.pytorch.utilities import rank_zero_only

        assert self.folder is not None
        rank_zero_only(write_json)(self.folder / _RECORD_NAME.format(job.number), asdict(job))

    def _records(self) -> list[Path]:
        return [] if self.folder is None else list(self.folder.glob(_RECORD_NAME.format("*")))

    def _remove_records(self) -> None:
        for path in self._records():
            path.unlink(missing_ok=True)


_current: ContextVar[Sweep | None] = ContextVar("_current", default=None)
"""The sweep that this process has started."""


@contextlib.contextmanager
def report_sweep() -> Iterator[None]:
    """Report the jobs if the block runs a sweep, even after an error; exit with status 1 if a job failed."""
    _current.set(None)
    failed = 0
    try:
        yield
    finally:
        in_sweep.set(False)
        if (sweep := _current.get()) is not None:
            failed = sweep.report()
    if failed:
        raise SystemExit(1)


def job_table(jobs: Sequence[Job], score: str | None) -> list[list[str]]:
    """Return a header and one row per job: lowest score first, then jobs without a score, then failed jobs.

    Args:
        jobs: Jobs of a sweep; settings with the same value in all jobs are left out.
        score: Name of the score.
    """
    names = list(dict.fromkeys(name for job in jobs for name in job.settings))
    names = [name for name in names if len({job.settings.get(name) for job in jobs}) > 1]
    rows = [["job", score or "", *names, "folder", "error"]]
    for job in sorted(jobs, key=lambda job: (job.error is not None, job.score is None, job.score or 0.0, job.number)):
        shown = "" if job.score is None else f"{job.score:.4f}"
        settings = [job.settings.get(name, "") for name in names]
        rows.append([f"{job.number}", shown, *settings, job.folder, job.error or ""])
    not_empty = [any(column) for column in zip(*rows[1:], strict=True)]
    return [list(compress(row, not_empty)) for row in rows]


def _log_error(job: Job, error: BaseException) -> str:
    """Log the reason why a job failed, with a traceback for a defect, and return it."""
    expected = isinstance(error, RVCError)
    reason = _printable(" ".join(f"{error}".split()) if expected else f"{type(error).__name__}: {error}")
    log.error("Error in %s: %s", job, reason, exc_info=None if expected else error)
    return reason


def _printable(text: str) -> str:
    """Escape bytes of file names that are not UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
