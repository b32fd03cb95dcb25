"""The process that runs the jobs of a folder: `python -m rvc_lightning.jobs.supervisor FOLDER`.

`JobStore.wake` starts it; it exits when no job is left. Commands run in sessions of their own and survive it: the next
supervisor watches them until they end.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from rvc_lightning.cli.progress_file import PROGRESS_VARIABLE
from rvc_lightning.errors import InUseError, OutOfSpaceError
from rvc_lightning.io.files import remove_leftovers
from rvc_lightning.io.locks import exclusive_lock
from rvc_lightning.io.processes import interrupt, kill, start_process_group
from rvc_lightning.jobs.job import LOG, PROGRESS, Job, ProcessState, State, read_progress
from rvc_lightning.jobs.store import JobStore

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.5
_LOCK_SECONDS = 5.0
_GRACE_SECONDS = 600.0
_LOST = "the machine or the process was stopped, so the exit status is unknown"
_ERROR = "Error: "


class Supervisor:
    """Runs the waiting jobs, one at a time for each device, and records how they end."""

    def __init__(self, store: JobStore, grace_seconds: float = _GRACE_SECONDS) -> None:
        """Take over the jobs of an earlier supervisor, including unrecorded ones, and remove its unfinished files.

        Args:
            store: Jobs to run; this process must hold the lock of its folder.
            grace_seconds: Time from the Ctrl-C of a stopped job to its kill.
        """
        self._store, self._grace_seconds = store, grace_seconds
        jobs = store.jobs()
        for job in jobs:
            remove_leftovers(job.folder)
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._unrecorded = _processes_of([job for job in jobs if job.started is None])
        self._interrupted: dict[str, float] = {}

    def run(self) -> None:
        """Run until no job is waiting or running, also while the disk is full."""
        is_running, warning = True, ""
        while is_running:
            try:
                is_running = self.step()
            except OutOfSpaceError as error:
                # Do not exit: another supervisor could not read the exit statuses of the children of this one.
                if str(error) != warning:
                    warning = str(error)
                    log.warning("%s", warning)
            time.sleep(_POLL_SECONDS)

    def step(self) -> bool:
        """Record ended jobs, stop jobs and start waiting ones; return whether any is running."""
        jobs = self._store.jobs()
        if unrecorded := [job for job in jobs if job.id in self._unrecorded]:
            for job in unrecorded:
                self._record(job)
            jobs = self._store.jobs()
        running = [job for job in jobs if job.state in (State.RUNNING, State.STOPPING) and self._watch(job)]
        busy = {job.device for job in running}
        for job in jobs:
            if job.state is State.WAITING and job.device not in busy and self._start(job):
                busy.add(job.device)
        return bool(busy)

    def _start(self, job: Job) -> bool:
        """Start a job; return whether it runs."""
        try:
            with (job.folder / LOG).open("ab") as output:
                child = start_process_group(
                    command_line(job),
                    {PROGRESS_VARIABLE: str(job.folder / PROGRESS)},
                    cwd=job.working_folder,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
        except OSError as error:
            ProcessState(time.time()).write(job.folder, ended=time.time(), error=str(error))
            return False
        self._children[job.id] = child
        self._unrecorded[job.id] = ProcessState(time.time(), child.pid, psutil.Process(child.pid).create_time())
        self._record(job)
        return True

    def _record(self, job: Job) -> None:
        """Write the process of a job; while the disk is full, each step tries again."""
        self._unrecorded[job.id].write(job.folder)
        del self._unrecorded[job.id]

    def _watch(self, job: Job) -> bool:
        """Stop a job if requested, or record its end; return whether it still runs."""
        state = ProcessState.read(job.folder)
        assert state is not None
        child = self._children.get(job.id)
        if child is None and not _is_alive(state):
            # Not a child of this process: its exit status is lost.
            _write_end(job, state, 0 if read_progress(job.folder).finished else None)
        elif child is not None and (status := child.poll()) is not None:
            _write_end(job, state, status)
            del self._children[job.id]
        else:
            if job.state is State.STOPPING:
                self._stop(job, state)
            return True
        return False

    def _stop(self, job: Job, state: ProcessState) -> None:
        """Send Ctrl-C once, and kill the job after the grace period."""
        assert state.pid is not None
        since = state.interrupted or self._interrupted.get(job.id)
        if since is None:
            self._interrupted[job.id] = time.time()
            try:
                state.write(job.folder, interrupted=self._interrupted[job.id])
            finally:
                # Also if the disk is full, perhaps because of this job.
                interrupt(state.pid)
        elif time.time() - since > self._grace_seconds:
            kill(state.pid)


def command_line(job: Job) -> list[str]:
    """Return the program and the arguments of a job."""
    return [sys.executable, "-m", f"rvc_lightning.{job.command}", *job.overrides]


def _processes_of(jobs: Sequence[Job]) -> dict[str, ProcessState]:
    """Return the processes, by job, that a supervisor started and did not record before it was killed."""
    ids = {str(job.folder / PROGRESS): job.id for job in jobs}
    found: dict[str, ProcessState] = {}
    for process in psutil.process_iter() if ids else ():
        with contextlib.suppress(psutil.Error):
            job_id, created = ids.get(process.environ().get(PROGRESS_VARIABLE, "")), process.create_time()
            # Its children, which are younger, inherit the variable.
            if job_id is not None and (job_id not in found or created < found[job_id].started):
                found[job_id] = ProcessState(created, process.pid, created)
    return found


def _is_alive(state: ProcessState) -> bool:
    """Return whether the process of a job is running, rather than another one with the same ID."""
    # A process of another user that reuses the ID may be inaccessible.
    with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        process = psutil.Process(state.pid)
        is_same = abs(process.create_time() - (state.pid_created or 0.0)) < 1.0
        return is_same and process.status() != psutil.STATUS_ZOMBIE
    return False


def _write_end(job: Job, state: ProcessState, exit_status: int | None) -> None:
    error = None if exit_status == 0 or job.state is State.STOPPING else _error(job, exit_status)
    state.write(job.folder, ended=time.time(), exit_status=exit_status, error=error)


def _error(job: Job, exit_status: int | None) -> str:
    """Return the one-line error of a command, or the last line of its traceback."""
    if exit_status is None:
        return _LOST
    lines = [line.strip() for line in (job.folder / LOG).read_text("utf-8", "replace").splitlines() if line.strip()]
    errors = [line.removeprefix(_ERROR) for line in lines if line.startswith(_ERROR)]
    if exit_status < 0:
        return f"killed by signal {_signal_name(-exit_status)}"
    return (errors or lines or [f"exit status {exit_status}"])[-1]


def _signal_name(number: int) -> str:
    """Return the name of a signal; most real-time signals have only a number."""
    return signal.Signals(number).name if number in set(signal.Signals) else str(number)


def main() -> None:
    """Run the jobs of a folder, unless another supervisor does."""
    parser = argparse.ArgumentParser(description="Run the jobs of a folder.")
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    # Ctrl-C may be ignored where the server was started in the background, and children would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    store, is_done = JobStore(folder), False
    while not is_done:
        try:
            with exclusive_lock(folder, _LOCK_SECONDS):
                Supervisor(store).run()
        except InUseError:
            return
        # A job may be submitted after the last step, but before the lock is released.
        is_done = all(job.state.is_final for job in store.jobs())


if __name__ == "__main__":
    main()
