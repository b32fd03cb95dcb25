"""Export: a replaced voice is kept, and the best checkpoint is exported."""

import re
from datetime import datetime
from pathlib import Path

import pytest
import torch
from commanding import run_command
from runs import small_data, small_trainer

from rvc_lightning import Voice
from rvc_lightning.retrieval.discovery import find_index
from rvc_lightning.training.callbacks.last_checkpoint import LastCheckpoint
from rvc_lightning.training.checkpoints import read_checkpoint
from rvc_lightning.training.export import export_checkpoint, export_pair

pytestmark = pytest.mark.slow


def test_replaced_voice_is_reported_and_kept(make_module, dataset, tmp_path, caplog):
    caplog.set_level("INFO", "rvc_lightning.training.export")
    last_checkpoint = LastCheckpoint(str(tmp_path), every_n_epochs=1)
    small_trainer(callbacks=[last_checkpoint]).fit(make_module(), small_data(dataset))

    def export():
        caplog.clear()
        path = export_checkpoint(last_checkpoint.path, tmp_path / "voice", "anna", dataset).voice
        return path, [message for message in caplog.messages if message.startswith("Replacing")]

    path, messages = export()
    assert messages == [] and export()[1] == []
    today = datetime.now().strftime("%Y-%m-%d")
    first = torch.load(path, weights_only=True)
    older = first | {
        "epoch": None,
        "step": "x\n",
        "creation_date": "\x1b[2J yesterday in the rain",
        "content_hash": "1",
    }
    torch.save(older, path)
    assert re.fullmatch(
        rf"Replacing '{path}', a voice of unknown age, by a voice of epoch 0, step 2, created {today} ..:..\. "
        r"The old one is kept as 'anna\.previous\.pth'", *export()[1],
    )  # fmt: skip
    assert torch.load(tmp_path / "voice/anna.previous.pth", weights_only=True)["content_hash"] == "1"
    assert find_index(tmp_path / "voice/anna.previous.pth").read_bytes() == path.with_suffix(".index").read_bytes()
    path.write_bytes(b"broken")
    assert "a file that cannot be read as a voice, by a voice of" in export()[1][0]
    assert (tmp_path / "voice/anna.previous.pth").read_bytes() == b"broken"
    Voice.load(path)


def test_pair_with_an_untrained_discriminator_is_reported(make_module, dataset, tmp_path, caplog):
    module = make_module(adversarial_from_step=None)
    small_trainer(callbacks=[LastCheckpoint(str(tmp_path))]).fit(module, small_data(dataset))
    export_pair(read_checkpoint(tmp_path / "last.ckpt"), tmp_path / "pair")
    assert re.search(r"The discriminator was never trained .*: '.*D\.pth' has the weights", caplog.text)


def test_best_checkpoint_of_a_run_folder_is_exported(make_module, dataset, tmp_path, monkeypatch):
    last_checkpoint = LastCheckpoint(str(tmp_path / "run" / "checkpoints"), every_n_epochs=1)
    small_trainer(callbacks=[last_checkpoint]).fit(make_module(), small_data(dataset))
    monkeypatch.chdir(tmp_path)
    result = run_command("export", "checkpoint=run", f"dataset={dataset}")
    assert result.status == 0, result.text
    assert f"Checkpoint: run/checkpoints/{last_checkpoint.path.name}" in result.text
    Path(last_checkpoint.path).rename(tmp_path / "run" / "checkpoints" / "best.ckpt")
    result = run_command("export", "checkpoint=run", "pair=pair")
    assert result.status == 0 and "Checkpoint: run/checkpoints/best.ckpt" in result.text, result.text
    assert sorted(path.name for path in (tmp_path / "pair").iterdir()) == ["D.pth", "G.pth"]
    result = run_command("export", "checkpoint=run", "pair=other", "name=ben", "index_only=true")
    assert result.status == 1 and not (tmp_path / "other").exists()
    assert "pair=other writes no voice: leave out name=, index_only=\n" in result.text
    result = run_command("export", "checkpoint=voices")
    assert result.status == 1 and "no readable checkpoint found in 'voices'; choose a run folder" in result.text
    result = run_command("export", "checkpoint=.")
    assert result.status == 1 and "no readable checkpoint found in '.'; choose one of run\n" in result.text
