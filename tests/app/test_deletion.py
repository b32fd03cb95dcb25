"""Deletion of datasets and trainings: never in use, never in part, never outside of the folders of the server."""

import os
import shutil
from pathlib import Path

import pytest

pytest.importorskip("gradio", reason="the extra 'app' is not installed")

from filelock import FileLock
from omegaconf import OmegaConf
from systems import LINKS

from rvc_lightning.app.deletion import delete_dataset, delete_run
from rvc_lightning.app.folders import Folders
from rvc_lightning.app.runs import list_runs
from rvc_lightning.cli.overrides import format_override
from rvc_lightning.data.manifest import MANIFEST_NAME
from rvc_lightning.errors import ConfigurationError, InUseError, NotWritableError, UnknownDatasetError
from rvc_lightning.io.locks import LOCK_NAME, delete_folder
from rvc_lightning.jobs.job import ProcessState
from rvc_lightning.jobs.store import JobStore

RUN = "anna/2000-01-01_00-00-00"


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Folders of a server with the dataset and the training of a voice."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "datasets" / "anna" / "slices").mkdir(parents=True)
    (tmp_path / "datasets" / "anna" / MANIFEST_NAME).touch()
    run = tmp_path / "runs" / RUN
    (run / "checkpoints").mkdir(parents=True)
    (run / ".hydra").mkdir()
    settings = {"paths": {"datasets": "datasets", "dataset": "${paths.datasets}/${name}"}, "name": "anna"}
    OmegaConf.save(settings, run / ".hydra" / "config.yaml")
    return Folders(voices="voices", recordings="recordings", datasets="datasets", runs="runs", jobs="jobs")


@pytest.fixture
def jobs(folders, monkeypatch):
    monkeypatch.setattr(JobStore, "wake", lambda self: None)
    return JobStore(folders.jobs)


def in_datasets():
    return [path.name for path in Path("datasets").iterdir()]


def test_unused_dataset_is_deleted(folders, jobs):
    job = jobs.submit("train", ["audio=null", "name=anna"], "Anna")
    jobs.stop(job.id)
    delete_dataset("anna", folders, jobs)
    assert in_datasets() == []
    with pytest.raises(UnknownDatasetError, match="unknown dataset 'anna'; it may have been deleted"):
        delete_dataset("anna", folders, jobs)


@pytest.mark.parametrize(
    ("command", "overrides"),
    [
        ("prepare", ["audio=recordings/anna"]),
        ("train", ["+experiment=quickstart", "audio=null", "name=anna"]),
        ("train", [format_override("checkpoint", Path("runs", RUN))]),
        ("export", [format_override("checkpoint", Path("runs", RUN))]),
    ],
)
def test_dataset_of_a_job_that_has_not_ended_is_kept(folders, jobs, command, overrides):
    job = jobs.submit(command, overrides, "Work on Anna")
    with pytest.raises(InUseError, match="'anna' is used by 'Work on Anna': stop that first"):
        delete_dataset("anna", folders, jobs)
    ProcessState(started=1.0).write(job.folder)
    with pytest.raises(InUseError, match="Work on Anna"):
        delete_dataset("anna", folders, jobs)
    assert in_datasets() == ["anna"]


def test_dataset_is_not_in_use_by_jobs_of_others(folders, jobs):
    jobs.submit("train", ["audio=null", "name=ben"], "Ben")
    jobs.submit("evaluate", ["voice=anna.pth", "audio=datasets/anna"], "Anna")
    delete_dataset("anna", folders, jobs)
    assert in_datasets() == []


def test_dataset_of_a_training_in_a_terminal_is_kept(folders, jobs):
    with FileLock(Path("runs", RUN, LOCK_NAME)), pytest.raises(InUseError, match=f"'anna' is used by '{RUN}'"):
        delete_dataset("anna", folders, jobs)
    delete_dataset("anna", folders, jobs)
    assert in_datasets() == []


def test_dataset_of_a_sweep_is_kept(folders, jobs):
    shutil.move(Path("runs", RUN), "runs/anna/sweep_2000-01-01_00-00-00/0")
    with (
        FileLock("runs/anna/sweep_2000-01-01_00-00-00/0/.lock"),
        pytest.raises(InUseError, match="'anna' is used by 'anna/sweep_2000-01-01_00-00-00/0'"),
    ):
        delete_dataset("anna", folders, jobs)


def test_dataset_that_is_being_prepared_is_kept(folders, jobs):
    with FileLock(Path("datasets", "anna", LOCK_NAME)), pytest.raises(InUseError, match="is being prepared"):
        delete_dataset("anna", folders, jobs)
    assert in_datasets() == ["anna"]


def test_folder_that_is_locked_meanwhile_is_kept(tmp_path):
    (tmp_path / "anna").mkdir()
    with FileLock(tmp_path / "anna" / LOCK_NAME), pytest.raises(InUseError, match="in use by another process; stop it"):
        delete_folder(tmp_path / "anna", tmp_path)
    assert (tmp_path / "anna").is_dir()


@pytest.mark.parametrize("name", ["", ".", "..", "../runs", "anna/slices", "other", "/etc"])
def test_only_listed_datasets_are_deleted(folders, jobs, name):
    Path("datasets", "other").mkdir()
    with pytest.raises(UnknownDatasetError):
        delete_dataset(name, folders, jobs)
    assert sorted(in_datasets()) == ["anna", "other"] and Path("datasets/anna/slices").is_dir()


@LINKS
def test_links_are_neither_deleted_nor_followed(folders, jobs):
    shutil.move("datasets/anna", "elsewhere")
    Path("datasets/anna").symlink_to("../elsewhere")
    with pytest.raises(UnknownDatasetError):
        delete_dataset("anna", folders, jobs)
    Path("runs/linked").symlink_to("anna")
    with pytest.raises(ConfigurationError):
        delete_run(f"linked/{Path(RUN).name}", folders, jobs)
    Path("runs", RUN, "outside").symlink_to(Path("elsewhere").absolute())
    delete_run(RUN, folders, jobs)
    assert Path("elsewhere", MANIFEST_NAME).is_file() and not Path("runs/anna").exists()


def test_training_that_ended_is_deleted(folders, jobs):
    Path("runs/anna/2001/checkpoints").mkdir(parents=True)
    delete_run(RUN, folders, jobs)
    assert [path.name for path in list_runs("runs")] == ["2001"]
    delete_run("anna/2001", folders, jobs)
    assert list(Path("runs").iterdir()) == []


def test_training_in_use_is_kept(folders, jobs):
    with FileLock(Path("runs", RUN, LOCK_NAME)), pytest.raises(InUseError, match="is running: stop it first"):
        delete_run(RUN, folders, jobs)
    jobs.submit("export", [format_override("checkpoint", Path("runs", RUN).absolute())], "Export Anna")
    with pytest.raises(InUseError, match="is used by 'Export Anna'"):
        delete_run(RUN, folders, jobs)
    assert len(list_runs("runs")) == 1


@pytest.mark.parametrize("name", ["", "anna", "anna/..", "../datasets/anna", f"{RUN}/checkpoints", "anna/none"])
def test_only_listed_trainings_are_deleted(folders, jobs, name):
    with pytest.raises(ConfigurationError, match="unknown training"):
        delete_run(name, folders, jobs)
    assert Path("runs", RUN, "checkpoints").is_dir() and in_datasets() == ["anna"]


def test_killed_deletion_is_completed_by_the_next_one(tmp_path, monkeypatch):
    for name in ("anna", "ben"):
        (tmp_path / name / "slices").mkdir(parents=True)

    def kill(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "rmtree", kill)
        delete_folder(tmp_path / "anna", tmp_path)
    (left,) = set(tmp_path.iterdir()) - {tmp_path / "ben"}
    assert left.name.startswith(".") and (left / "slices").is_dir()
    delete_folder(tmp_path / "ben", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() == 0, reason="needs a user without all permissions")
def test_folder_that_cannot_be_deleted_is_explained(tmp_path):
    (tmp_path / "root" / "anna").mkdir(parents=True)
    (tmp_path / "root").chmod(0o500)
    with pytest.raises(NotWritableError, match="choose another place, or change permissions"):
        delete_folder(tmp_path / "root" / "anna", tmp_path / "root")
    (tmp_path / "root").chmod(0o700)
    assert (tmp_path / "root" / "anna").is_dir()


def test_files_that_cannot_be_removed_are_reported(tmp_path, monkeypatch):
    (tmp_path / "anna").mkdir()
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    with pytest.raises(NotWritableError, match="anna', has files that cannot be removed; remove it by hand"):
        delete_folder(tmp_path / "anna", tmp_path)
    assert not (tmp_path / "anna").exists()
