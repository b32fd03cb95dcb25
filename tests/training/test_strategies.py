"""Strategies: several ranks train the same networks as one."""

import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from configurations import compose_config
from golden import patch_random
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher
from ranks import GLOBAL_BATCH, N_BATCHES
from tiny import ADAMW, tiny_data, tiny_module, tiny_trainer, write_tiny_dataset

from rvc_lightning.errors import ConfigurationError
from rvc_lightning.io.locks import exclusive_lock
from rvc_lightning.training import trainer as building
from rvc_lightning.training.strategies import FSDPStrategy
from rvc_lightning.training.trainer import build_preparing_trainer, build_trainer

pytestmark = pytest.mark.slow

RANKS = Path(__file__).parents[1] / "support/ranks.py"
TWO_DEVICES = ("trainer.accelerator=cpu", "trainer.devices=2")
STRATEGY_TYPES = {
    "ddp": DDPStrategy,
    "ddp_spawn": DDPStrategy,
    "fsdp": FSDPStrategy,
    "fsdp2": FSDPStrategy,
}


def run_ranks(launcher, *arguments):
    command = [sys.executable, *launcher, str(RANKS), *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(RANKS.parent)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=540)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a reader of the checkpoints of one device and of two ranks, after one and two epochs."""
    folder = write_tiny_dataset(tmp_path_factory.mktemp("ranks"))
    with pytest.MonkeyPatch.context() as patch:
        patch_random(patch)
        for name, epochs, start in (("one", 1, None), ("one_second", 2, folder / "one.ckpt")):
            trainer = tiny_trainer(max_epochs=epochs)
            data = tiny_data(folder, batch_size=GLOBAL_BATCH, accumulate_grad_batches=N_BATCHES)
            trainer.fit(tiny_module(), data, ckpt_path=start, weights_only=True)
            trainer.save_checkpoint(folder / f"{name}.ckpt")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    outcome = run_ranks(torchrun, folder, folder, "ddp", "fsdp")
    assert outcome.returncode == 0, outcome.stderr[-3000:]
    return lambda name: torch.load(folder / name, weights_only=True)


@pytest.mark.parametrize("epoch", ["", "_second"])
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_ranks_train_as_one(trained, strategy, epoch):
    """The second epoch resumes from the checkpoint of one device: files and optimizer states are the same, too."""
    one, two = trained(f"one{epoch}.ckpt"), trained(f"{strategy}{epoch}.ckpt")
    assert set(one) == set(two) and list(one["state_dict"]) == list(two["state_dict"])
    for name, tensor in one["state_dict"].items():
        torch.testing.assert_close(two["state_dict"][name], tensor, atol=1e-5, rtol=0)
    for ours, theirs in zip(one["optimizer_states"], two["optimizer_states"], strict=True):
        assert ours["param_groups"][0]["params"] == theirs["param_groups"][0]["params"]
        for number, state in ours["state"].items():
            torch.testing.assert_close(theirs["state"][number], state, atol=1e-3, rtol=1e-4)
    start = tiny_module().state_dict()
    assert max(float((one["state_dict"][name] - tensor).abs().max()) for name, tensor in start.items()) > 1e-2


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_gradients_are_reduced_once_per_step_and_network(trained, strategy):
    seen = trained(f"{strategy}.pt")
    assert seen["steps"] == 2 and seen["reductions"] == 2 * seen["steps"]


def test_error_on_one_rank_ends_all(tmp_path):
    write_tiny_dataset(tmp_path)
    # Here Lightning starts the second rank, from the command line.
    outcome = run_ranks([], tmp_path, tmp_path, "ddp", "--fail")
    assert outcome.returncode != 0 and "slice '7' cannot be read" in outcome.stderr
    assert not list(tmp_path.glob("*.ckpt"))


@pytest.mark.parametrize(("choice", "kind"), STRATEGY_TYPES.items())
def test_strategies_are_built_and_not_used_for_one_device(tmp_path, choice, kind):
    run = {"run": str(tmp_path)}
    config = compose_config(f"strategy={choice}", *TWO_DEVICES, **run)
    assert build_trainer(config).world_size == 2
    assert isinstance(build_trainer(config).strategy, kind)
    one = build_trainer(compose_config(f"strategy={choice}", "trainer.accelerator=cpu", **run))
    assert isinstance(one.strategy, SingleDeviceStrategy)
    # Features are extracted on all ranks of the run with any strategy, or on a single one.
    predictor = build_preparing_trainer(config)
    assert type(predictor.strategy) is DDPStrategy and predictor.world_size == 2
    spawned = isinstance(predictor.strategy.launcher, _MultiProcessingLauncher)
    assert spawned == (choice == "ddp_spawn")
    predictor = build_preparing_trainer(
        compose_config(f"strategy={choice}", *TWO_DEVICES, "preparation.all_devices=false", **run)
    )
    assert isinstance(predictor.strategy, SingleDeviceStrategy) and predictor.world_size == 1


def test_one_device_starts_no_process_group(tmp_path):
    write_tiny_dataset(tmp_path)
    settings = ("strategy=ddp", "trainer.accelerator=cpu", "trainer.max_epochs=1", "logger=none", "callbacks=none")
    trainer = build_trainer(compose_config(*settings, run=str(tmp_path)))
    trainer.fit(tiny_module(), tiny_data(tmp_path))
    assert trainer.global_step > 0 and not torch.distributed.is_initialized()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "strategy=ddp"),
        (["strategy=fsdp", "data.max_batch_frames=900"], "max_batch_frames"),
        (["strategy=ddp", "data.batch_size=auto"], r"data\.batch_size=auto with 2 devices: find the size with"),
        (["strategy=fsdp", "precision=16-mixed"], "bf16-mixed"),
    ],
)
def test_contradicting_settings_are_rejected(overrides, message):
    with pytest.raises(ConfigurationError, match=message):
        build_trainer(compose_config(*TWO_DEVICES, *overrides))


def test_sweep_starts_its_ranks_itself(monkeypatch):
    monkeypatch.setattr(building, "is_sweep", lambda: True)
    with pytest.raises(ConfigurationError, match="submitit_slurm"):
        build_trainer(compose_config(*TWO_DEVICES, "strategy=ddp"))
    build_trainer(compose_config(*TWO_DEVICES, "strategy=ddp_spawn"))


def test_fewer_devices_than_processes_are_rejected(monkeypatch):
    """Otherwise each process would train for itself and overwrite the others' files."""
    started = {"TORCHELASTIC_RUN_ID": "a", "WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}
    for name, value in (started | {"GROUP_RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match="torchrun has started 2 processes"):
        build_trainer(compose_config("trainer.accelerator=cpu"))
    assert build_trainer(compose_config(*TWO_DEVICES, "strategy=ddp")).world_size == 2


def test_module_can_be_sent_to_a_spawned_process():
    module = tiny_module(ADAMW)
    copy = pickle.loads(pickle.dumps(module))
    for name, tensor in module.state_dict().items():
        torch.testing.assert_close(copy.state_dict()[name], tensor, atol=0, rtol=0)
    assert copy.training_config == module.training_config


def test_one_process_at_a_time_prepares(tmp_path, caplog):
    caplog.set_level("INFO")
    order = []

    def second():
        with exclusive_lock(tmp_path / "dataset"):
            order.append("second")

    with exclusive_lock(tmp_path / "dataset"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.3)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"] and "Waiting for another process" in caplog.text
