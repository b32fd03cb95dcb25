"""Checkpoints and datasets with wrong entries: one error, and no file outside the folder.

Pickles that run code, truncated files and huge sizes are in test_hostile_files.py, indexes in test_index_file.py.
"""

import copy
from dataclasses import replace
from functools import partial

import pytest
import tiny
import torch
from commanding import list_tree, run_command, single_error
from torch.utils.data import DataLoader, TensorDataset

from rvc_lightning.data.manifest import HEADER_NAME, MANIFEST_NAME
from rvc_lightning.training.checkpoints import CHECKPOINT_KEY
from rvc_lightning.training.module import RVCModule

pytestmark = pytest.mark.slow

FACTS = {
    "name": "anna",
    "author": None,
    "content": {"name": "spectral", "options": {}, "dim": 768},
    "pitch": {"name": "swift_f0", "options": {}},
    "speakers": ["0"],
    "seconds": 3.0,
    "median_f0_hz": 150.0,
    "dataset": "gone",
}
MISSING = "MISSING"
VOICE = (CHECKPOINT_KEY, "voice")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return the content of a checkpoint before the first step."""
    module = RVCModule(
        replace(tiny.SYNTHESIZER, content_dim=768),
        tiny.DISCRIMINATOR,
        tiny.training_config(),
        optimizer=tiny.SGD,
        scheduler=partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.99),
        voice=FACTS,
    )
    trainer = tiny.tiny_trainer(max_epochs=0)
    trainer.fit(module, DataLoader(TensorDataset(torch.zeros(1))))
    path = tmp_path_factory.mktemp("whole") / "whole.ckpt"
    trainer.save_checkpoint(path)
    return torch.load(path, weights_only=True)


def changed(content, place, value):
    content = copy.deepcopy(content)
    *parents, last = place
    entry = content
    for key in parents:
        entry = entry[key]
    if value == MISSING:
        del entry[last]
    else:
        entry[last] = value
    return content


TABLES = [
    ("state_dict",),
    (CHECKPOINT_KEY,),
    (CHECKPOINT_KEY, "synthesizer"),
    VOICE,
    (*VOICE, "content"),
    (*VOICE, "pitch"),
]
NUMBERS = [("epoch",), (CHECKPOINT_KEY, "optimizer_steps"), (*VOICE, "seconds")]
TEXTS = [(*VOICE, "name"), (*VOICE, "dataset"), (*VOICE, "content", "name")]
SIZES = ["sample_rate", "n_fft", "upsample_rates", "generator", "latent_channels", "n_heads", "n_layers", "dropout"]
BROKEN = [
    *((place, value) for place in TABLES for value in (MISSING, 3, [1])),
    *((place, value) for place in NUMBERS for value in (MISSING, "x", [])),
    *((place, value) for place in TEXTS for value in (MISSING, 3, {})),
    *(((*VOICE, "speakers"), value) for value in (MISSING, "x", {})),
    *(((CHECKPOINT_KEY, "synthesizer", size), value) for size in SIZES for value in ("x", -(10**9), 10**9 + 1, None)),
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize(("place", "value"), BROKEN, ids=str)
def test_invalid_checkpoint_is_one_error(whole, folder, place, value):
    torch.save(changed(whole, place, value), "it.ckpt")
    single_error(run_command("export", "checkpoint=it.ckpt"))
    assert list_tree(folder) == {"it.ckpt"}


@pytest.mark.parametrize("name", ["../../evil", "/evil", "..", "", "a/b", "a\\b", "a\0b"])
def test_voice_name_must_be_a_file_name(whole, folder, tmp_path, name):
    torch.save(changed(whole, (*VOICE, "name"), name), "it.ckpt")
    assert "add name=NAME" in single_error(run_command("export", "checkpoint=it.ckpt"))
    assert list_tree(tmp_path) == {"a", "a/b", "a/b/it.ckpt"}
    assert run_command("export", "checkpoint=it.ckpt", "name=anna").status == 0
    assert (folder / "voices" / "anna" / "anna.pth").is_file()


HEADERS = ['{"sample_rate": "x"}', "{}", "[]", "null", "{", "\x00", '{"sample_rate": 1e400, "pitch": 3, "content": 4}']


@pytest.mark.parametrize("broken", HEADERS)
@pytest.mark.parametrize("name", [HEADER_NAME, MANIFEST_NAME])
def test_invalid_dataset_is_one_error(folder, name, broken):
    tiny.write_tiny_dataset(folder)
    (folder / name).write_text(broken)
    before = list_tree(folder)
    settings = (
        "paths.dataset=. trainer.accelerator=cpu pretrained=none model=tiny sample_rate=24k_light hydra.run.dir=run"
    )
    error = single_error(run_command("train", *settings.split(), "discriminator=tiny", "data.num_workers=0"))
    assert name in error
    assert {path for path in list_tree(folder) - before if not path.startswith("run")} <= {"voices"}
