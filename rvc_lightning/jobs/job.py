"""A job, and the files that describe it.

FOLDER/ID/job.json        written once by `JobStore.submit`
FOLDER/ID/stop            created by `JobStore.stop`
FOLDER/ID/state.json      process, times and exit status, written by the supervisor
FOLDER/ID/log.txt         output of the command
FOLDER/ID/progress.json   written by the command, see `rvc_lightning.cli.progress_file`
FOLDER/ID/input/          files that the job was submitted with, such as uploads; only some jobs have any
FOLDER/ID/output/         results of such jobs
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

from rvc_lightning.io.files import read_json, write_json

JOB, STATE, STOP, LOG, PROGRESS = "job.json", "state.json", "stop", "log.txt", "progress.json"
INPUT, OUTPUT = "input", "output"

DEFAULT_DEVICE = "default"
"""Name of the queue of jobs that name no device."""


class State(str, Enum):
    """State of a job."""

    WAITING = "waiting"
    RUNNING = "running"
    STOPPING = "stopping"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"

    @property
    def is_final(self) -> bool:
        """Whether the job has ended."""
        return self in (State.DONE, State.FAILED, State.STOPPED)


@dataclass(frozen=True)
class Job:
    """One command, from its submission to its end. Times are seconds since 1970.

    Attributes:
        id: Name of the job, unique in its store; later jobs sort later.
        command: Command of the package, such as 'train'.
        overrides: Overrides of the command.
        title: Description for people.
        device: Jobs of the same device run one after another.
        working_folder: Folder that the command runs in.
        folder: Folder of the job's files.
        state: State of the job.
        created: Time of the submission.
        repeats: Id of the job that was first submitted, if this one is the same work again; None otherwise.
        started: Time of the start; None before.
        ended: Time of the end; None before.
        exit_status: Exit status of the command, negative for a signal; None if it has not ended or is unknown.
        error: Why the job failed, in one line; None if it did not.
    """

    id: str
    command: str
    overrides: tuple[str, ...]
    title: str
    device: str
    working_folder: Path
    folder: Path
    state: State
    created: float
    repeats: str | None = None
    started: float | None = None
    ended: float | None = None
    exit_status: int | None = None
    error: str | None = None


@dataclass(frozen=True)
class JobProgress:
    """Position of a running command.

    Attributes:
        stage: Name of the current work, such as 'slicing'; empty before the first.
        share: Share of this work that is done, 0 to 1; None if its length is unknown.
        seconds_left: Estimated time to the end of this work; None if unknown.
        output_folder: Output folder of the command: the run folder of a training; None before the command starts.
        finished: Whether the command has succeeded.
    """

    stage: str = ""
    share: float | None = None
    seconds_left: float | None = None
    output_folder: Path | None = None
    finished: bool = False


@dataclass(frozen=True)
class ProcessState:
    """Content of `state.json`.

    Attributes:
        started: Time of the start.
        pid: Process ID of the command, which leads a process group; None if it could not be started.
        pid_created: Creation time of that process, which distinguishes it from a later one with the same ID.
        interrupted: Time at which Ctrl-C was sent; None if it was not.
        ended: Time of the end; None before.
        exit_status: As in `Job`.
        error: As in `Job`.
    """

    started: float
    pid: int | None = None
    pid_created: float | None = None
    interrupted: float | None = None
    ended: float | None = None
    exit_status: int | None = None
    error: str | None = None

    @classmethod
    def read(cls, folder: Path) -> ProcessState | None:
        """Read the state of the job in `folder`; None if it has not started."""
        try:
            return cls(**read_json(folder / STATE))
        except FileNotFoundError:
            return None

    def write(self, folder: Path, **changes: Any) -> ProcessState:
        """Write the state with changes, atomically, and return it."""
        changed = replace(self, **changes)
        write_json(folder / STATE, asdict(changed))
        return changed


def write_job(job: Job) -> None:
    """Write the part of a job that never changes."""
    values = {name: getattr(job, name) for name in ("command", "overrides", "title", "device", "created", "repeats")}
    write_json(job.folder / JOB, values | {"working_folder": str(job.working_folder)})


def read_job(folder: Path) -> Job:
    """Read a job. Raises OSError if `folder` contains none, and ValueError if it is damaged."""
    values, is_stopped = read_json(folder / JOB), (folder / STOP).exists()
    try:
        values |= {"overrides": tuple(values["overrides"]), "working_folder": Path(values["working_folder"])}
        state = ProcessState.read(folder)
        job = Job(id=folder.name, folder=folder, state=_state(state, is_stopped), **values)
    except (TypeError, KeyError) as error:
        raise ValueError(f"it has unknown or missing entries: {error}") from error
    if state is None:
        return job
    begun = replace(job, started=state.started)
    return replace(begun, ended=state.ended, exit_status=state.exit_status, error=state.error)


def read_progress(folder: Path) -> JobProgress:
    """Read the progress of a job."""
    try:
        values = read_json(folder / PROGRESS)
        return JobProgress(**values | {"output_folder": Path(values["output_folder"])})
    except (OSError, ValueError, TypeError, KeyError):
        return JobProgress()


def _state(state: ProcessState | None, is_stopped: bool) -> State:
    if state is None:
        return State.STOPPED if is_stopped else State.WAITING
    if state.ended is None:
        return State.STOPPING if is_stopped else State.RUNNING
    if state.exit_status == 0:
        return State.DONE
    return State.STOPPED if is_stopped else State.FAILED
