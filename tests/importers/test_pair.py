"""Import of the newest pair of checkpoints."""

import pytest
import torch
from other_tools import write_training_pair

from rvc_lightning.errors import VoiceError
from rvc_lightning.importers.experiment import learning_rate_after
from rvc_lightning.importers.pair import newest_pair
from rvc_lightning.training.pretrained import PretrainedConfig, read_pretrained


@pytest.mark.slow
def test_pair_and_its_weights(experiment, sizes, discriminator):
    networks = write_training_pair(experiment, sizes, discriminator, epoch=40)
    pair = newest_pair(experiment)
    assert (pair.epoch, pair.synthesizer, pair.discriminator_choice) == (40, sizes, "tiny")
    config = PretrainedConfig(source="files", generator=str(pair.generator), discriminator=str(pair.discriminator))
    pretrained = read_pretrained(config, pair.synthesizer)
    for letter, weights in (("G", pretrained.synthesizer), ("D", pretrained.discriminator)):
        state = networks[letter][0].state_dict()
        assert state.keys() == weights.keys()
        assert all(torch.equal(weights[name], tensor) for name, tensor in state.items())


@pytest.mark.slow
def test_newest_pair_is_that_of_the_latest_epoch(experiment, sizes, discriminator):
    write_training_pair(experiment, sizes, discriminator, epoch=7, name="2333333")
    write_training_pair(experiment, sizes, discriminator, epoch=12, name="480")
    assert newest_pair(experiment).generator.name == "G_480.pth"


@pytest.mark.slow
def test_files_of_different_epochs_are_rejected(experiment, sizes, discriminator):
    write_training_pair(experiment, sizes, discriminator, epoch=7)
    old = (experiment / "D_2333333.pth").read_bytes()
    write_training_pair(experiment, sizes, discriminator, epoch=8)
    (experiment / "D_2333333.pth").write_bytes(old)
    with pytest.raises(VoiceError, match=r"epoch 8, 'D_2333333\.pth' of epoch 7 with discriminator=tiny: saving"):
        newest_pair(experiment)


def test_experiment_without_checkpoints_has_no_pair(experiment):
    assert newest_pair(experiment) is None


def test_learning_rate_decays_by_epoch():
    assert learning_rate_after(40, {}) == pytest.approx(1e-4 * 0.999875**40)
    assert learning_rate_after(2, {"train": {"learning_rate": 0.5, "lr_decay": 0.5}}) == 0.125
