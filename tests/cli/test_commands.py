"""Exit statuses of commands: Ctrl-C, SystemExit and closed pipes."""

import logging
import re
import subprocess
import sys
from unittest import mock

import pytest
import torch
from commanding import run_command
from lightning import LightningModule, Trainer
from torch.utils.data import DataLoader, TensorDataset

from rvc_lightning.cli.command import errors_as_exit_status


class Interrupted(LightningModule):
    """A module that is interrupted in its first step."""

    def predict_step(self, batch, batch_idx):
        raise KeyboardInterrupt


def predict():
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.predict(Interrupted(), DataLoader(TensorDataset(torch.zeros(2))))


def interrupt():
    raise KeyboardInterrupt


@pytest.mark.parametrize("function", [interrupt, predict])
def test_ctrl_c_prints_one_line_and_exits_with_130(function, caplog):
    with pytest.raises(SystemExit) as end, caplog.at_level(logging.ERROR):
        errors_as_exit_status()(function)()
    assert end.value.code == 130
    assert [record.message for record in caplog.records if record.name == "rvc_lightning.cli.command"] == [
        "Interrupted. Finished files are kept."
    ]


def test_ctrl_c_in_a_job_prints_one_line(tmp_path):
    def train(config):
        raise KeyboardInterrupt

    with mock.patch("rvc_lightning.training.run.train", train):
        result = run_command("train", f"hydra.run.dir={tmp_path}")
    assert (result.status, result.text) == (130, "Interrupted. Finished files are kept.\n")


def test_other_exit_statuses_are_kept():
    with pytest.raises(SystemExit) as end:
        errors_as_exit_status()(lambda: sys.exit(7))()
    assert end.value.code == 7


def test_file_that_cannot_be_read_is_one_line(tmp_path, caplog):
    path = tmp_path / ("long" * 100)
    with pytest.raises(SystemExit), caplog.at_level(logging.ERROR):
        errors_as_exit_status()(path.read_bytes)()
    assert caplog.messages == [
        f"Error: '{path}' cannot be read or written: File name too long; choose another place, or change permissions"
    ]


@pytest.mark.slow
def test_closed_pipe_is_not_an_error():
    command = f"{sys.executable} -m rvc_lightning.train --help | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.stderr == "" and done.stdout.strip()


@pytest.mark.slow
def test_a_line_is_printed_before_torch_is_imported(tmp_path):
    command = [sys.executable, "-m", "rvc_lightning.convert", "voice=none.pth", "input=a.wav", "output=b.wav"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert re.match("Loading PyTorch\nError: voice not found: 'none.pth'", done.stderr)
