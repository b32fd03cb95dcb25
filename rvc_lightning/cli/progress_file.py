"""Progress as a file, for the program that started the command.

The environment variable RVC_PROGRESS_FILE names the file (`conf/console.yaml`), which must not exist yet. It is a JSON
object with `stage`, `share` (0 to 1) and `seconds_left` of the current work, `output_folder`, and `finished` once the
command has succeeded. Unknown values are null.
"""

from __future__ import annotations

import contextlib
import json
import os
from contextvars import ContextVar
from pathlib import Path
from time import perf_counter
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

PROGRESS_VARIABLE = "RVC_PROGRESS_FILE"

_SECONDS_BETWEEN_WRITES = 1.0


class ProgressFile(Callback):
    """Hydra callback that writes the progress of the command."""

    def __init__(self, path: str | None) -> None:
        """Initialize the callback with the path of the file; None for no file."""
        self._path = None if path is None else Path(path)
        self._values: dict[str, Any] = {"stage": "", "share": None, "seconds_left": None, "finished": False}
        self._written_at = float("-inf")

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Receive the reports of this job, and write its output folder."""
        # Other ranks inherit the variable, and report nothing.
        if self._path is not None and not self._path.exists():
            self._values["output_folder"] = str(config.hydra.runtime.output_dir)
            self._write()
            _file.set(self)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Record a success. Interrupted and failed commands end without a call."""
        if _file.get() is self:
            _file.set(None)
            if job_return.status is JobStatus.COMPLETED:
                self._values |= {"finished": True, "share": 1.0, "seconds_left": 0.0}
            self._write()

    def report(self, stage: str, share: float | None, seconds_left: float | None) -> None:
        """Write the progress, at most once a second within a stage."""
        now = perf_counter()
        if stage != self._values["stage"] or now - self._written_at >= _SECONDS_BETWEEN_WRITES:
            self._written_at = now
            self._values |= {"stage": stage, "share": share, "seconds_left": seconds_left}
            self._write()

    def _write(self) -> None:
        assert self._path is not None
        # Not flushed to the disk, and a full disk must not end the command.
        with contextlib.suppress(OSError):
            temporary = self._path.with_suffix(".tmp")
            temporary.write_text(json.dumps(self._values), encoding="utf-8")
            os.replace(temporary, self._path)


_file: ContextVar[ProgressFile | None] = ContextVar("progress_file", default=None)


def report_progress(stage: str, share: float | None, seconds_left: float | None) -> None:
    """Write the progress of the running command to its progress file, if it has one.

    Args:
        stage: Name of the current work.
        share: Share of this work that is done, 0 to 1; None if its length is unknown.
        seconds_left: Estimated time to the end of this work; None if unknown.
    """
    if file := _file.get():
        file.report(stage, share, seconds_left)
