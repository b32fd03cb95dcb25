"""Sweeps: jobs share one prepared dataset and return val/mel; a failed job is reported and does not end the sweep."""

import csv
import importlib.util
import os
import shutil
import subprocess
import sys
from unittest import mock

import pytest
from commanding import run_command
from configurations import compose_config
from omegaconf import OmegaConf
from runs import small_run

from rvc_lightning.cli.resolvers import DEMO_FOLDER
from rvc_lightning.cli.sweeps import Job, job_table
from rvc_lightning.errors import DatasetError
from rvc_lightning.training.dataset import prepare_dataset
from rvc_lightning.training.run import Start, build_module_from

pytestmark = pytest.mark.slow

SMALL = (
    *(f"model.synthesizer.{name}=8" for name in ("hidden_channels", "filter_channels")),
    *("model.synthesizer.initial_channels=16", "model.synthesizer.latent_channels=4", "model.synthesizer.n_layers=1"),
    *("trainer.accelerator=cpu", "trainer.max_epochs=1", "trainer.max_time=null", "trainer.val_check_interval=null"),
    *("trainer.check_val_every_n_epoch=1", "data.held_out=0.3", "data.num_workers=0", "pretrained=none"),
    "prepare_workers=0",
)


def needs(package):
    # The specification of a module is found in its package, which may be missing as well.
    missing = any(importlib.util.find_spec(name) is None for name in (package.partition(".")[0], package))
    return pytest.mark.skipif(missing, reason="needs pip install 'rvc-lightning[sweep]'")


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """Command of a sweep with three recordings."""
    (tmp_path / "anna").mkdir()
    for name in ("09", "10", "11"):
        shutil.copy(DEMO_FOLDER / "target" / f"{name}.flac", tmp_path / "anna")
    monkeypatch.chdir(tmp_path)
    return ["train", "--multirun", "+experiment=quickstart", "audio=anna", *SMALL]


def voices(folder):
    return sorted(path.parents[1].name for path in folder.glob("runs/anna/sweep_*/*/voice/anna.pth"))


def rows(folder):
    """Return the rows of the written table; no other records of the jobs may remain."""
    (path,) = folder.glob("runs/anna/sweep_*/jobs.csv")
    assert not list(path.parent.glob(".*"))
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def quick_sweep(folder, train, *overrides):
    """Run the command with `train`, a function of the learning rate, in place of training, and return the result."""
    with mock.patch("rvc_lightning.training.run.train", lambda config: train(config.optimizer.lr)):
        return run_command("train", "name=anna", "--multirun", f"paths.root={folder}", *overrides)


def only_below_one(lr):
    if lr >= 1:
        raise DatasetError(f"{lr} is too much")
    return lr


def test_grid_of_two_runs_shares_the_dataset(sweep, tmp_path):
    result = run_command(*sweep, "optimizer.lr=1e-3,2e-3")
    assert result.status == 0, result.text[-2000:]
    printed = result.text
    best, other = rows(tmp_path)
    assert 0 < float(best["val/mel"]) <= float(other["val/mel"]) and "error" not in best
    assert {best["optimizer.lr"], other["optimizer.lr"]} == {"0.001", "0.002"} and os.path.isdir(best["folder"])
    assert "Jobs: all 2 succeeded; lowest val/mel first" in printed
    # Jobs of a sweep write no clips to listen to.
    assert not list(tmp_path.rglob("listen"))
    assert printed.casefold().count("extracting pitch and content of") == 1
    assert voices(tmp_path) == ["0", "1"] and not (tmp_path / "voices").exists()
    assert [path.name for path in (tmp_path / "datasets").iterdir()] == ["anna"]


@needs("hydra_plugins.hydra_joblib_launcher")
def test_failed_parallel_job_does_not_stop_the_others(sweep, tmp_path):
    beside = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "data.num_workers=1")
    # The jobs print in processes of their own.
    command = [sys.executable, "-m", "rvc_lightning", *sweep, "data.batch_size=0,4", *beside]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=540)
    printed = result.stdout + result.stderr
    assert result.returncode == 1, printed[-2000:]
    trained, failed = rows(tmp_path)
    assert voices(tmp_path) == ["1"] and trained["job"] == "1" and float(trained["val/mel"]) > 0
    assert failed["job"] == "0" and "batch_size" in failed["error"]
    assert printed.count("Error in job 0 (data.batch_size=0): ") == 1 and "Traceback" not in printed
    assert "Jobs: 1 of 2 failed" in printed


@pytest.mark.parametrize("more", [[], ["hydra.sweeper.max_batch_size=1"]])
def test_failed_job_does_not_stop_the_others(tmp_path, more):
    result = quick_sweep(tmp_path, only_below_one, "optimizer.lr=2,0.5,0.25", *more)
    assert result.status == 1 and "Traceback" not in result.text
    assert result.text.count("Error in job 0 (optimizer.lr=2): 2 is too much") == 1
    assert [(row["job"], row["val/mel"], row["error"]) for row in rows(tmp_path)] == [
        ("2", "0.2500", ""), ("1", "0.5000", ""), ("0", "", "2 is too much")]  # fmt: skip
    last = result.text.splitlines()[-5:]
    assert "Jobs: 1 of 3 failed" in last[0] and [line.split()[0] for line in last[1:]] == ["job", "2", "1", "0"]


def test_successful_sweep_exits_with_0(tmp_path):
    result = quick_sweep(tmp_path, only_below_one, "optimizer.lr=0.5,0.25")
    assert result.status == 0
    assert [row["optimizer.lr"] for row in rows(tmp_path)] == ["0.25", "0.5"]
    # A second sweep in the same folder starts anew; a single job has no settings that differ.
    folder = next(tmp_path.glob("runs/anna/sweep_*"))
    (folder / ".job-7.json").write_text("{}")
    assert quick_sweep(tmp_path, only_below_one, f"hydra.sweep.dir={folder}").status == 0
    (row,) = rows(tmp_path)
    assert list(row) == ["job", "val/mel", "folder"]


def test_defect_in_a_job_keeps_its_traceback(tmp_path):
    def defective(lr):
        return {0.5: lr}[lr]

    result = quick_sweep(tmp_path, defective, "optimizer.lr=1,0.5")
    assert result.status == 1 and result.text.count("Traceback") == 1 and "in defective" in result.text
    assert [row.get("error") for row in rows(tmp_path)] == ["", "KeyError: 1"]


@pytest.mark.parametrize(("stop", "status"), [(SystemExit(143), 143), (KeyboardInterrupt(), 130)])
def test_signal_ends_the_sweep(tmp_path, stop, status):
    def stopped(lr):
        if lr == 1:
            raise stop
        return lr

    result = quick_sweep(tmp_path, stopped, "optimizer.lr=0.5,1,0.25")
    assert result.status == status
    assert [(row["job"], row["error"]) for row in rows(tmp_path)] == [("0", ""), ("1", "it did not finish")]


@needs("optuna")
def test_search_ignores_failed_jobs(tmp_path):
    search = ("+sweep=optuna", "hydra.sweeper.n_trials=5")
    result = quick_sweep(tmp_path, only_below_one, *search, "optimizer.lr=choice(0.5,2)")
    found = rows(tmp_path)
    assert result.status == 1 and "Traceback" not in result.text and len(found) == 5
    assert {(row["optimizer.lr"], row["error"]) for row in found} == {("0.5", ""), ("2", "2 is too much")}
    (results,) = tmp_path.glob("runs/anna/sweep_*/optimization_results.yaml")
    assert OmegaConf.load(results).best_value == 0.5


@needs("optuna")
def test_search_in_which_all_jobs_fail_is_reported(tmp_path):
    search = ("+sweep=optuna", "hydra.sweeper.n_trials=2", "optimizer.lr=1")
    result = quick_sweep(tmp_path, only_below_one, *search)
    assert result.status == 1 and "Traceback" not in result.text and "Jobs: 2 of 2 failed" in result.text
    assert {row["error"] for row in rows(tmp_path)} == {"1 is too much"}


def test_table_omits_settings_that_do_not_differ():
    jobs = [Job(0, "a", {"seed": "1", "model": "full"}), Job(1, "b", {"seed": "1", "model": "tiny"}, score=2.0)]
    assert job_table(jobs, "val/mel") == [["job", "val/mel", "model", "folder"], ["1", "2.0000", "tiny", "b"],
                                      ["0", "", "full", "a"]]  # fmt: skip


@needs("optuna")
def test_optuna_searches_for_the_lowest_val_mel(sweep, tmp_path):
    result = run_command(*sweep, "+sweep=optuna", "hydra.sweeper.n_trials=2")
    assert result.status == 0, result.text[-2000:]
    printed = result.text
    assert voices(tmp_path) == ["0", "1"]
    (found,) = tmp_path.glob("runs/anna/sweep_*/optimization_results.yaml")
    results = OmegaConf.load(found)
    assert 0 < results.best_value < 10 and f"Best value: {results.best_value}" in printed
    assert set(results.best_params) == {"optimizer.lr", "model.loss_weights.kl", "scheduler.gamma"}


def test_dataset_prepared_by_another_run_with_other_settings_is_rejected(tmp_path, recordings):
    dataset = prepare_dataset(small_run(tmp_path, recordings))
    second = small_run(tmp_path, recordings, "pitch=pyin")
    with pytest.raises(DatasetError, match=r"pitch=swift_f0, not pitch=pyin.*paths\.dataset"):
        build_module_from(Start(), second, dataset)


def test_every_path_and_device_can_come_from_the_environment(monkeypatch, tmp_path):
    values = {"ROOT": "r", "DATASETS": "d", "VOICES": "v", "RUNS": "u", "ACCELERATOR": "cpu", "DEVICES": "[0, 1]",
              "NUM_NODES": "3", "STRATEGY": "ddp", "PRECISION": "bf16-mixed", "PLATFORM": "mps"}  # fmt: skip
    for name, value in values.items():
        monkeypatch.setenv(f"RVC_{name}", value)
    config = compose_config("name=anna", "platform=default")
    assert (config.paths.dataset, config.paths.voice, config.paths.runs) == ("d/anna", "v/anna", "u")
    trainer = config.trainer
    assert (trainer.accelerator, list(trainer.devices), trainer.num_nodes) == ("cpu", [0, 1], 3)
    assert trainer.strategy.startswith("ddp") and trainer.precision == "bf16-mixed"
    assert compose_config("name=anna").trainer.accelerator == "mps"
    # The command line takes precedence.
    assert compose_config("name=anna", "precision=32-true", "paths.root=x").trainer.precision == "32-true"
    monkeypatch.delenv("RVC_VOICES")
    assert compose_config("name=anna").paths.voice == "r/voices/anna"


@pytest.mark.parametrize("choice", ["cpu", "mps", "zluda"])
def test_platforms_set_the_accelerator(choice):
    assert compose_config(f"platform={choice}").trainer.accelerator == {"zluda": "gpu"}.get(choice, choice)
    assert "float32_matmul_precision" in compose_config(f"platform={choice}").platform
