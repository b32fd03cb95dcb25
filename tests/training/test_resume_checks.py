"""Altered and foreign checkpoints are rejected before training resumes."""

import pytest
import torch
from runs import small_data, small_trainer

from rvc_lightning.errors import VoiceError
from rvc_lightning.training.callbacks.last_checkpoint import LastCheckpoint
from rvc_lightning.training.checkpoints import AVERAGED_KEY, CHECKPOINT_KEY, read_checkpoint
from rvc_lightning.training.resume import check_resumable, without_values

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("altered")


@pytest.fixture
def saved(make_module, dataset, folder):
    """Path of a checkpoint after one epoch, written once."""
    path = folder / "last.ckpt"
    if not path.exists():
        small_trainer(callbacks=[LastCheckpoint(str(folder))]).fit(make_module(), small_data(dataset))
    return path


def check(path, content, module):
    check_resumable(path, without_values(content), module, small_trainer(callbacks=[LastCheckpoint(str(path.parent))]))


def delete_entry(content, *keys):
    *place, last = keys
    for key in place:
        content = content[key]
    del content[last]


def set_entry(content, value, *keys):
    *place, last = keys
    for key in place:
        content = content[key]
    content[last] = value


PROGRESS = ("loops", "fit_loop", "epoch_progress", "current", "ready")
ALTERED = {
    "no weights": lambda content: delete_entry(content, "state_dict", next(iter(content["state_dict"]))),
    "other weights": lambda content: set_entry(
        content, torch.zeros(3), "state_dict", "synthesizer.speaker_embedding.weight"
    ),
    "no optimizers": lambda content: delete_entry(content, "optimizer_states"),
    "one optimizer": lambda content: delete_entry(content, "optimizer_states", 1),
    "optimizers as text": lambda content: set_entry(content, "adam", "optimizer_states"),
    "no parameters": lambda content: set_entry(content, [], "optimizer_states", 0, "param_groups", 0, "params"),
    "other moments": lambda content: set_entry(content, torch.zeros(5), "optimizer_states", 0, "state", 0, "exp_avg"),
    "no schedules": lambda content: delete_entry(content, "lr_schedulers"),
    "schedule as number": lambda content: set_entry(content, 3, "lr_schedulers", 0),
    "no loops": lambda content: delete_entry(content, "loops"),
    "loop as list": lambda content: set_entry(content, [], "loops", "fit_loop"),
    "progress as text": lambda content: set_entry(content, "x", *PROGRESS),
    "progress missing": lambda content: delete_entry(content, *PROGRESS),
    "callbacks as list": lambda content: set_entry(content, [1], "callbacks"),
    "no version": lambda content: delete_entry(content, "pytorch-lightning_version"),
}


def test_checkpoint_of_this_training_is_accepted(saved, make_module):
    check(saved, read_checkpoint(saved), make_module())


@pytest.mark.parametrize("alter", ALTERED.values(), ids=ALTERED)
def test_altered_checkpoint_is_rejected_in_one_line(saved, make_module, alter):
    content = read_checkpoint(saved)
    alter(content)
    with pytest.raises(VoiceError, match=r"last\.ckpt") as error:
        check(saved, content, make_module())
    assert "\n" not in str(error.value)


DAMAGED = {
    "text in place of weights": lambda content: set_entry(
        content, "x", "state_dict", "synthesizer.speaker_embedding.weight"
    ),
    "no voice": lambda content: delete_entry(content, CHECKPOINT_KEY, "voice"),
    "no steps": lambda content: delete_entry(content, CHECKPOINT_KEY, "optimizer_steps"),
    "step as text": lambda content: set_entry(content, "1", "global_step"),
    "number in place of averaged weights": lambda content: set_entry(content, 1, AVERAGED_KEY),
}


@pytest.mark.parametrize("alter", DAMAGED.values(), ids=DAMAGED)
def test_damaged_checkpoint_is_rejected_when_it_is_read(saved, tmp_path, alter):
    content = read_checkpoint(saved)
    alter(content)
    torch.save(content, tmp_path / "altered.ckpt")
    with pytest.raises(VoiceError, match=r"altered\.ckpt' is damaged: its entry '"):
        read_checkpoint(tmp_path / "altered.ckpt")


def test_fewer_epochs_than_completed_are_rejected(saved, make_module):
    content = without_values(read_checkpoint(saved) | {"epoch": 5})
    with pytest.raises(VoiceError, match=r"completed 5 epochs, and trainer\.max_epochs=1: choose more"):
        check_resumable(saved, content, make_module(), small_trainer(max_epochs=1))


@pytest.mark.parametrize("saved_lr, lr, remedy", [(None, 0.02, "null"), (0.02, None, r"0\.02")])
def test_resume_with_or_without_a_learning_rate_of_the_speakers_is_rejected(
    make_module, dataset, tmp_path, saved_lr, lr, remedy
):
    callbacks, path = [LastCheckpoint(str(tmp_path))], tmp_path / "last.ckpt"
    small_trainer(callbacks=callbacks).fit(make_module(speaker_lr=saved_lr), small_data(dataset))
    with pytest.raises(VoiceError, match=rf"add model\.speaker_lr={remedy}"):
        check(path, read_checkpoint(path), make_module(speaker_lr=lr))
    check(path, read_checkpoint(path), make_module(speaker_lr=saved_lr))


def test_checkpoint_of_other_networks_is_rejected_with_the_difference(saved, make_module):
    content = read_checkpoint(saved)
    content[CHECKPOINT_KEY]["synthesizer"]["initial_channels"] = 99
    with pytest.raises(VoiceError, match="initial_channels was 99, is 16"):
        check(saved, content, make_module())
