"""Sweeps: runs of a multirun share one prepared dataset and give val/mel."""

import importlib.util
import os
import shutil
import subprocess
import sys

import pytest
from omegaconf import OmegaConf
from test_configurations import composed
from test_training import recordings, small_run  # noqa: F401

from rvc_lightning import workflow
from rvc_lightning.errors import DatasetError
from rvc_lightning.resolvers import DEMO_FOLDER

SMALL = (
    *(f"model.synthesizer.{name}=8" for name in ("hidden_channels", "filter_channels")),
    *("model.synthesizer.initial_channels=16", "model.synthesizer.latent_channels=4", "model.synthesizer.n_layers=1"),
    *("trainer.accelerator=cpu", "trainer.max_epochs=1", "trainer.max_time=null", "trainer.val_check_interval=null"),
    *("trainer.check_val_every_n_epoch=1", "data.held_out=0.3", "data.num_workers=0", "pretrained=none"),
    *("showcase=null", "prepare_workers=0"),
)


def sweep(folder, *overrides):
    """Runs the command with three recordings; gives what it printed."""
    (folder / "anna").mkdir()
    for name in ("09", "10", "11"):
        shutil.copy(DEMO_FOLDER / "target" / f"{name}.flac", folder / "anna")
    command = [sys.executable, "-m", "rvc_lightning.train", "--multirun", "+experiment=quickstart", "audio=anna"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command += [*SMALL, *overrides]
    outcome = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=540)
    assert outcome.returncode == 0, outcome.stdout[-2000:] + outcome.stderr[-2000:]
    return outcome.stdout + outcome.stderr


def voices(folder):
    return sorted(path.parents[1].name for path in folder.glob("runs/anna/sweep_*/*/voice/anna.pth"))


def test_a_grid_of_two_runs_shares_the_dataset(tmp_path):
    printed = sweep(tmp_path, "optimizer.lr=1e-3,2e-3")
    assert printed.count("finding pitch and content of 3 slices") == 1
    assert voices(tmp_path) == ["0", "1"] and not (tmp_path / "voices").exists()
    assert [path.name for path in (tmp_path / "datasets").iterdir()] == ["anna"]


@pytest.mark.skipif(importlib.util.find_spec("optuna") is None,
                    reason="needs pip install 'rvc-lightning[sweep]'")  # fmt: skip
def test_optuna_searches_for_the_lowest_val_mel(tmp_path):
    printed = sweep(tmp_path, "+sweep=optuna", "hydra.sweeper.n_trials=2")
    assert voices(tmp_path) == ["0", "1"]
    (found,) = tmp_path.glob("runs/anna/sweep_*/optimization_results.yaml")
    results = OmegaConf.load(found)
    assert 0 < results.best_value < 10 and f"Best value: {results.best_value}" in printed
    assert set(results.best_params) == {"optimizer.lr", "model.loss_weights.kl", "scheduler.gamma"}


def test_a_dataset_that_another_run_prepared_otherwise_is_refused(tmp_path, recordings):  # noqa: F811
    first = small_run(tmp_path, recordings)
    dataset = workflow.prepare_dataset(first)
    second = small_run(tmp_path, recordings, "pitch=pyin")
    with pytest.raises(DatasetError, match=r"pitch=swift_f0 while .*pitch=pyin.*paths\.dataset"):
        workflow.fit(second, dataset)


def test_every_path_and_device_can_come_from_the_environment(monkeypatch, tmp_path):
    values = {"ROOT": "r", "DATASETS": "d", "VOICES": "v", "RUNS": "u", "ACCELERATOR": "cpu", "DEVICES": "[0, 1]",
              "NUM_NODES": "3", "STRATEGY": "ddp", "PRECISION": "bf16-mixed", "PLATFORM": "mps"}  # fmt: skip
    for name, value in values.items():
        monkeypatch.setenv(f"RVC_{name}", value)
    config = composed("name=anna", "platform=default")
    assert (config.paths.dataset, config.paths.voice, config.paths.runs) == ("d/anna", "v/anna", "u")
    trainer = config.trainer
    assert (trainer.accelerator, list(trainer.devices), trainer.num_nodes) == ("cpu", [0, 1], 3)
    assert trainer.strategy.startswith("ddp") and trainer.precision == "bf16-mixed"
    assert composed("name=anna").trainer.accelerator == "mps"
    # The command line has the last word.
    assert composed("name=anna", "precision=32-true", "paths.root=x").trainer.precision == "32-true"
    monkeypatch.delenv("RVC_VOICES")
    assert composed("name=anna").paths.voice == "r/voices/anna"


@pytest.mark.parametrize("choice", ["cpu", "mps", "zluda"])
def test_a_platform_is_configuration(choice):
    assert composed(f"platform={choice}").trainer.accelerator == {"zluda": "gpu"}.get(choice, choice)
    assert "float32_matmul_precision" in composed(f"platform={choice}").platform
