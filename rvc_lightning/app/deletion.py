"""Deletion of prepared datasets and training runs that nothing uses."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from omegaconf import OmegaConf

from rvc_lightning.app.commands import composed
from rvc_lightning.app.folders import Folders, prepared_datasets, unfinished_datasets
from rvc_lightning.app.runs import list_runs
from rvc_lightning.cli.overrides import parse_overrides
from rvc_lightning.cli.resume import CONFIGURATION
from rvc_lightning.errors import ConfigurationError, InUseError, UnknownDatasetError
from rvc_lightning.io.locks import delete_folder, is_locked
from rvc_lightning.jobs.job import Job
from rvc_lightning.jobs.store import JobStore


def delete_dataset(name: str, folders: Folders, jobs: JobStore) -> None:
    """Delete a dataset, prepared or not completely. The recordings that it was prepared from are kept.

    Raises:
        UnknownDatasetError: It does not exist.
        InUseError: A process or a waiting job uses it.
        NotWritableError: It cannot be deleted.
    """
    delete_folder(unused_dataset(name, folders, jobs), Path(folders.datasets))


def unused_dataset(name: str, folders: Folders, jobs: JobStore) -> Path:
    """Return the folder of a dataset that can be deleted; errors as in `delete_dataset`."""
    if name not in [*prepared_datasets(folders.datasets), *unfinished_datasets(folders.datasets)]:
        raise UnknownDatasetError(f"unknown dataset '{name}'; it may have been deleted")
    folder = Path(folders.datasets, name)
    for user, used in _used_datasets(folders, jobs):
        if used.resolve() == folder.resolve():
            raise _in_use(name, user)
    if is_locked(folder):
        raise InUseError(f"'{name}' is being prepared: stop that first, or wait until it has ended")
    return folder


def delete_run(name: str, folders: Folders, jobs: JobStore) -> None:
    """Delete a training: its checkpoints, curves and settings. Exported voices are kept.

    Args:
        name: Path of the run folder below the folder of the runs.
        folders: Folders of the server.
        jobs: Jobs of the server.

    Raises:
        ConfigurationError: It does not exist, or is a link.
        InUseError: The training is running, or a job that has not ended resumes or exports it.
        NotWritableError: It cannot be deleted.
    """
    run = unused_run(name, folders, jobs)
    delete_folder(run, Path(folders.runs))
    with contextlib.suppress(OSError):
        # Other runs of the voice may be in it.
        run.parent.rmdir()


def unused_run(name: str, folders: Folders, jobs: JobStore) -> Path:
    """Return the folder of a training that can be deleted; errors as in `delete_run`."""
    root = Path(folders.runs)
    run = root / name
    if run not in list_runs(root) or run.resolve() != root.resolve() / name:
        raise ConfigurationError(f"unknown training '{name}'; it may have been deleted")
    for job in _unfinished(jobs):
        if (used := _run_of(job)) is not None and used.resolve() == run.resolve():
            raise _in_use(name, job.title)
    if is_locked(run):
        raise InUseError(f"'{name}' is running: stop it first, and wait until it has saved its state")
    return run


def _used_datasets(folders: Folders, jobs: JobStore) -> Iterator[tuple[str, Path]]:
    """Yield each dataset that is used, after the name of what uses it."""
    for job in _unfinished(jobs):
        if (dataset := _dataset_of(job)) is not None:
            yield job.title, dataset
    # Also those of a sweep, which are deeper than others.
    for path in Path(folders.runs).rglob(str(CONFIGURATION)):
        run = path.parents[len(CONFIGURATION.parts) - 1]
        if is_locked(run) and (dataset := _dataset_of_run(run)) is not None:
            yield str(run.relative_to(folders.runs)), dataset


def _unfinished(jobs: JobStore) -> Iterator[Job]:
    return (job for job in jobs.jobs() if not job.state.is_final)


def _dataset_of(job: Job) -> Path | None:
    """Return the dataset that a job prepares, trains on or exports an index of; None if it uses none."""
    if (run := _run_of(job)) is not None:
        return _dataset_of_run(run)
    if job.command not in ("prepare", "train"):
        return None
    return job.working_folder / composed(job.command, job.overrides).paths.dataset


def _run_of(job: Job) -> Path | None:
    """Return the run folder that a job resumes or exports; None for other jobs."""
    checkpoint = parse_overrides(job.overrides).get("checkpoint")
    return None if checkpoint is None else job.working_folder / str(checkpoint.value())


def _dataset_of_run(run: Path) -> Path | None:
    """Return the dataset of a training; None if it has not saved its settings."""
    path = run / CONFIGURATION
    return Path(OmegaConf.load(path).paths.dataset) if path.is_file() else None


def _in_use(name: str, user: str) -> InUseError:
    return InUseError(f"'{name}' is used by '{user}': stop that first, or wait until it has ended")
