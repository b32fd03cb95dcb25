"""The jobs of a folder: submit, list, stop, resume, remove."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from rvc_lightning.cli.overrides import format_command, format_override
from rvc_lightning.cli.resolvers import CHECKPOINT_FOLDER
from rvc_lightning.cli.resume import SEARCH_PATH
from rvc_lightning.errors import BusyError, InUseError, UnknownJobError
from rvc_lightning.io.files import TEMPORARY_PREFIX, make_folder
from rvc_lightning.io.locks import LOCK_NAME
from rvc_lightning.io.processes import start_process_group
from rvc_lightning.jobs.job import (
    DEFAULT_DEVICE,
    INPUT,
    JOB,
    LOG,
    STOP,
    Job,
    JobProgress,
    State,
    read_job,
    read_progress,
    write_job,
)

log = logging.getLogger(__name__)

_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{6}")
_SUPERVISOR_LOG = "supervisor.log"
_LOG_BYTES = 1 << 18
_MAX_UPLOAD_SECONDS = 3600.0
"""Age at which the files of a job that was never submitted are those of a killed server."""


class JobStore:
    """Jobs of one folder. Several processes may use the folder at the same time.

    The jobs run below a supervisor, a separate process that this class starts when needed
    (`rvc_lightning.jobs.supervisor`). Jobs continue when the process that submitted them ends.
    """

    def __init__(self, folder: Path | str) -> None:
        """Open the store. Raises NotWritableError if the folder cannot be created."""
        self.folder = Path(folder).absolute()
        make_folder(self.folder)
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._resuming = threading.Lock()
        self._damaged: set[Path] = set()

    def new_id(self) -> str:
        """Return an unused id; files of a job can be put into the folder of this name before it is submitted."""
        return f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"

    def submit(
        self,
        command: str,
        overrides: Sequence[str],
        title: str,
        device: str = DEFAULT_DEVICE,
        *,
        job_id: str | None = None,
        repeats: str | None = None,
    ) -> Job:
        """Add a job, which starts when the earlier jobs of its device have ended.

        Args:
            command: Command of the package, such as 'train'.
            overrides: Overrides of the command, see `rvc_lightning.cli.overrides.format_override`. No shell reads them.
            title: Description for people.
            device: Name of the device that the job waits for.
            job_id: Result of `new_id`; None for a new one.
            repeats: As in `Job`.

        Raises:
            OutOfSpaceError: The disk is full.
        """
        job_id = job_id or self.new_id()
        job = Job(
            id=job_id,
            command=command,
            overrides=tuple(overrides),
            title=title,
            device=device,
            working_folder=Path.cwd(),
            folder=self.folder / job_id,
            state=State.WAITING,
            created=time.time(),
            repeats=repeats,
        )
        write_job(job)
        self.wake()
        return job

    def jobs(self) -> list[Job]:
        """Return all jobs, oldest first."""
        found = []
        for folder in self.folder.iterdir():
            # Others may submit and remove jobs meanwhile.
            if _ID.fullmatch(folder.name) and (folder / JOB).is_file():
                with contextlib.suppress(OSError), self._damage_reported(folder):
                    found.append(read_job(folder))
        return sorted(found, key=lambda job: (job.created, job.id))

    @contextlib.contextmanager
    def _damage_reported(self, folder: Path) -> Iterator[None]:
        """Log once that a job is damaged, instead of raising ValueError."""
        try:
            yield
        except ValueError as error:
            if folder not in self._damaged:
                log.warning("Ignoring a damaged job, '%s' (%s): remove the folder", folder, error)
            self._damaged.add(folder)

    def job(self, job_id: str) -> Job:
        """Return a job. Raises UnknownJobError if there is none of this id, or it is damaged."""
        if _ID.fullmatch(job_id):
            with contextlib.suppress(FileNotFoundError, ValueError):
                return read_job(self.folder / job_id)
        raise _unknown(job_id)

    def check_waiting(self, limit: int) -> None:
        """Raise BusyError if `limit` jobs are waiting."""
        if sum(job.state is State.WAITING for job in self.jobs()) >= limit:
            raise BusyError(f"{limit} jobs are already waiting; cancel one, or try again later")

    def stop(self, job_id: str) -> Job:
        """Stop a job as Ctrl-C does, so that a training saves its state; a waiting job never starts.

        Raises:
            UnknownJobError: The job does not exist.
        """
        job = self.job(job_id)
        if not job.state.is_final:
            # Before the stop file, which makes a waiting job final: an unrecorded process of it may be running, see
            # `Supervisor`, and `wake` ignores final jobs.
            self.wake()
            (job.folder / STOP).touch()
        return self.job(job_id)

    def resume(self, job_id: str) -> Job:
        """Submit an ended job again; a training that has saved a checkpoint resumes from it.

        Returns:
            The new job, or the earlier one of the same work that has not ended, such as after a second click.

        Raises:
            UnknownJobError: The job does not exist.
            InUseError: The job has not ended.
        """
        job = self._ended(job_id)
        first = job.repeats or job.id
        with self._resuming:
            again = (other for other in self.jobs() if other.repeats == first and not other.state.is_final)
            return next(again, None) or self._submit_again(job, first)

    def _submit_again(self, job: Job, first: str) -> Job:
        """Submit an ended job again, as the same work as the job `first`."""
        run, overrides = read_progress(job.folder).output_folder, job.overrides
        if job.command == "train" and run is not None and any((run / CHECKPOINT_FOLDER).glob("*.ckpt")):
            # The saved settings of the run do not include where Hydra finds its experiment.
            search_path = (override for override in overrides if override.startswith(SEARCH_PATH))
            overrides = (*search_path, format_override("checkpoint", run))
        new_id = self.new_id()
        if (job.folder / INPUT).is_dir():
            # The job with the files may be removed before the new one starts.
            shutil.copytree(job.folder / INPUT, self.folder / new_id / INPUT)
            overrides = tuple(override.replace(job.id, new_id) for override in overrides)
        return self.submit(job.command, overrides, job.title, job.device, job_id=new_id, repeats=first)

    def remove(self, job_id: str) -> None:
        """Remove an ended job with its log; the files that the command wrote are kept.

        Raises:
            UnknownJobError: The job does not exist.
            InUseError: The job has not ended.
        """
        folder = self._ended(job_id).folder
        # Renamed first, since a partly removed folder, without the state file, would be a waiting job.
        try:
            removed = folder.rename(folder.with_name(f"{TEMPORARY_PREFIX}{job_id}"))
        except FileNotFoundError as error:
            raise _unknown(job_id) from error
        shutil.rmtree(removed)

    def sweep(self, keep_seconds: float) -> None:
        """Remove jobs with uploads that ended more than `keep_seconds` ago, and uploads that killed servers left."""
        now = time.time()
        self._remove_unsubmitted(now - max(keep_seconds, _MAX_UPLOAD_SECONDS))
        for job in self.jobs():
            if (job.folder / INPUT).is_dir() and job.ended is not None and job.ended < now - keep_seconds:
                self.remove(job.id)

    def _remove_unsubmitted(self, before: float) -> None:
        """Remove the files of jobs whose submission began before a time, in seconds since 1970, and never ended."""
        for folder in self.folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if _ID.fullmatch(folder.name) and not (folder / JOB).is_file() and folder.stat().st_mtime < before:
                    shutil.rmtree(folder)

    def log(self, job_id: str, max_bytes: int = _LOG_BYTES) -> str:
        """Return the last part of the output of a job. Raises UnknownJobError."""
        try:
            with (self.job(job_id).folder / LOG).open("rb") as stream:
                stream.seek(-min(max_bytes, stream.seek(0, os.SEEK_END)), os.SEEK_END)
                return stream.read().decode(errors="replace")
        except FileNotFoundError:
            return ""

    def progress(self, job_id: str) -> JobProgress:
        """Return the progress of a job. Raises UnknownJobError."""
        return read_progress(self.job(job_id).folder)

    def shell_command(self, job_id: str) -> str:
        """Return the command of a job, quoted for a shell of this system. Raises UnknownJobError."""
        job = self.job(job_id)
        return format_command(job.command, *job.overrides)

    def wake(self) -> None:
        """Start the supervisor if there are jobs to run or to watch, and it is not running.

        A server calls this at its start and at intervals, in case the supervisor was killed.
        """
        if self._supervisor is not None:
            # Collects the exit status, so that no zombie is left.
            self._supervisor.poll()
        if self._is_supervised() or all(job.state.is_final for job in self.jobs()):
            return
        command = [sys.executable, "-m", "rvc_lightning.jobs.supervisor", str(self.folder)]
        with (self.folder / _SUPERVISOR_LOG).open("ab") as log:
            self._supervisor = start_process_group(
                command, detached=True, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def _is_supervised(self) -> bool:
        try:
            with FileLock(self.folder / LOCK_NAME).acquire(blocking=False):
                return False
        except Timeout:
            return True

    def _ended(self, job_id: str) -> Job:
        job = self.job(job_id)
        if not job.state.is_final:
            remedy = "wait until it has stopped" if job.state is State.STOPPING else "stop it first"
            raise InUseError(f"job '{job_id}' is {job.state.value}; {remedy}")
        return job


def _unknown(job_id: str) -> UnknownJobError:
    return UnknownJobError(f"unknown job '{job_id}'; it may have been removed")
