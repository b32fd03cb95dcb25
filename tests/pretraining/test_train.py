"""Training of the phonetic encoder."""

import math
import os
import signal
from pathlib import Path

import pytest
import torch
from corpora import make_corpus
from hydra import compose, initialize_config_module
from phonetic import phonetic_settings

from rvc_lightning.cli import resolvers
from rvc_lightning.content import build_content_encoder
from rvc_lightning.errors import ConfigurationError, VoiceError
from rvc_lightning.models.network_file import to_file
from rvc_lightning.pretraining.data import NO_FRAME, Pairs
from rvc_lightning.pretraining.module import PhoneticTraining, SpeakerClassifier, cepstral_smoothing
from rvc_lightning.pretraining.train import train

SMALL = {"n_mels": 16, "channels": 8, "n_blocks": 2, "bottleneck": 8}

resolvers.register()


def compose_config(folder, *overrides):
    """Compose a small run in a folder, on its corpus."""
    settings = [
        *(f"model.sizes.{name}={value}" for name, value in (SMALL | {"channels": 32, "bottleneck": 16}).items()),
        *("model.training.lr=0.01", "model.training.warmup_steps=5", "model.augment.p_noise=0", "precision=32-true"),
        *("data.frames=24", "data.examples=160", "data.num_workers=0", "data.held_out_sentences=0.2"),
        *("trainer.max_epochs=2", "trainer.accelerator=cpu", "logger=none", "~callbacks.progress"),
        *(f"corpus={folder / 'corpus'}", f"paths.run={folder}"),
    ]
    with initialize_config_module("rvc_lightning.conf", version_base="1.3"):
        return compose("pretraining_train", overrides=[*settings, *overrides])


def small_training(n_speakers=1, sizes=None, **training):
    """Build a small module with the configured settings."""
    groups = {"sizes": SMALL | (sizes or {}), "training": training, "augment": {}}
    return PhoneticTraining(
        **{group: phonetic_settings(group, **changes) for group, changes in groups.items()}, n_speakers=n_speakers
    )


@pytest.mark.slow
def test_train_and_resume(tmp_path):
    make_corpus(tmp_path / "corpus")
    assert train(compose_config(tmp_path)) < 0.5
    encoder = build_content_encoder("phonetic", path=str(tmp_path / "phonetic.pt"))
    assert encoder.dim == 56 and encoder(torch.zeros(1, 720), torch.tensor([720])).shape == (1, 2, 56)
    last = tmp_path / "checkpoints" / "last.ckpt"
    train(compose_config(tmp_path, f"checkpoint={last}", "trainer.max_epochs=3"))
    assert torch.load(last, weights_only=True)["epoch"] == 2


@pytest.mark.slow
def test_run_that_ends_before_its_first_validation(tmp_path):
    make_corpus(tmp_path / "corpus")
    assert math.isnan(train(compose_config(tmp_path, "trainer.check_val_every_n_epoch=5", "data.examples=8")))
    assert (tmp_path / "phonetic.pt").exists()


def test_sizes_are_checked_before_the_corpus(tmp_path):
    for override in ("model.sizes.channels=0", "model.training.lr=-1", "model.augment.speed=0"):
        with pytest.raises(ConfigurationError, match=override.partition("=")[0]):
            train(compose_config(tmp_path, override))


@pytest.mark.slow
def test_hostile_checkpoint_runs_no_code(tmp_path):
    class Calling:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    make_corpus(tmp_path / "corpus")
    torch.save({"state_dict": Calling()}, tmp_path / "stranger.ckpt")
    for name, message in (("stranger", "would run code"), ("none", "checkpoint not found")):
        with pytest.raises(VoiceError, match=message):
            train(compose_config(tmp_path, f"checkpoint={tmp_path / name}.ckpt"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.slow
def test_interrupted_run_is_saved(tmp_path, monkeypatch):
    make_corpus(tmp_path / "corpus")
    monkeypatch.setattr(PhoneticTraining, "on_train_batch_end", lambda *_: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(SystemExit) as end:
        train(compose_config(tmp_path))
    assert end.value.code == 128 + signal.SIGINT
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] > 0


def test_start_from_an_encoder(tmp_path):
    donor, module = small_training().network, small_training()
    torch.save(to_file(donor), tmp_path / "donor.pt")
    module.start_from(tmp_path / "donor.pt")
    for name, weight in module.network.state_dict().items():
        torch.testing.assert_close(weight, donor.state_dict()[name], rtol=1e-3, atol=1e-4)
    with pytest.raises(ConfigurationError, match="other sizes"):
        small_training(sizes={"n_blocks": 1}).start_from(tmp_path / "donor.pt")


def pairs_of(partners, speakers=(0, 1)):
    phones = torch.ones(len(partners), 2, partners.shape[1], dtype=torch.long)
    numbers, empty = torch.tensor(speakers).expand(len(partners), 2), torch.zeros(len(partners), 2, 1)
    return Pairs(empty, phones, partners, numbers, empty)


def test_agreement_loss():
    module = small_training(anchors=100)
    first = torch.nn.functional.one_hot(torch.arange(12), 12).float()[None]
    batch = pairs_of(torch.arange(12)[None])
    right = module._agreement(first, first, batch)
    wrong = module._agreement(first, first.roll(6, dims=1), batch)
    near = module._agreement(first, first.roll(2, dims=1), batch)
    assert right < 0.01 and near < 4 < 9 < wrong
    assert module._agreement(first, first, pairs_of(torch.full((1, 12), NO_FRAME))) == 0


def test_speech_of_one_speaker_is_not_compared_with_other_people():
    module = small_training(anchors=100)
    same = torch.nn.functional.one_hot(torch.arange(12), 12).float().expand(2, -1, -1)
    partners = torch.arange(12).expand(2, -1)
    assert module._agreement(same, same, pairs_of(partners, speakers=(3, 3))) < 0.01
    assert module._agreement(same, same, pairs_of(partners)) > 0.5


def test_envelope_is_smooth_and_keeps_slow_changes_across_the_bands():
    smoothing, band = cepstral_smoothing(80), torch.arange(80)
    formants, harmonics = torch.cos(torch.pi * 3 * (band + 0.5) / 80), torch.cos(torch.pi * 40 * (band + 0.5) / 80)
    torch.testing.assert_close((2 + formants + harmonics) @ smoothing, 2 + formants, rtol=0, atol=1e-4)


def test_envelope_loss_is_the_distance_to_the_clean_speech():
    module, samples = small_training(), 23 * 320 + 400
    batch = pairs_of(torch.full((1, 24), NO_FRAME))._replace(clean16k=torch.randn(1, 2, samples))
    envelopes = module.network.log_mel(batch.clean16k.flatten(0, 1))[:, ::2] * 4
    module.decoder.forward = lambda content, mean, deviation: envelopes + 0.5
    # All 16 bands are within the coefficients that the smoothing keeps.
    torch.testing.assert_close(module._envelope_loss(torch.zeros(2, 24, 48), batch), torch.tensor(0.5))


def test_every_parameter_has_a_gradient():
    module = small_training(n_speakers=3, speaker=0.3)
    samples = 23 * 320 + 400
    phones, speakers = torch.randint(40, (2, 2, 24)), torch.tensor([[0, 1], [2, 2]])
    speech = torch.randn(2, 2, samples)
    batch = Pairs(speech, phones, torch.arange(24).expand(2, -1), speakers, 0.5 * speech)
    module.log_dict = lambda *_, **__: None
    module.training_step(batch, 0).backward()
    assert all(p.grad is not None and p.grad.any() for p in module.parameters())


def test_speaker_loss_trains_the_classifier_and_confuses_it():
    classifier = SpeakerClassifier(8, n_speakers=2)
    content = torch.randn(4, 60, 8, requires_grad=True)
    logits = classifier(content)
    assert logits.shape == (4, 2, 2)
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.tensor([0, 0, 1, 1, 0, 0, 1, 1]))
    loss.backward()

    def after(step, content):
        weights = [(weight - step * weight.grad) for weight in classifier.parameters()]
        names = [name for name, _ in classifier.named_parameters()]
        moved = torch.func.functional_call(classifier, dict(zip(names, weights, strict=True)), content)
        return torch.nn.functional.cross_entropy(moved.flatten(0, 1), torch.tensor([0, 0, 1, 1, 0, 0, 1, 1]))

    assert after(1e-2, content) < loss < after(0, content - 1e-1 * content.grad)


def test_damaged_file_and_another_version(tmp_path):
    (tmp_path / "broken.pt").write_bytes(b"nothing")
    with pytest.raises(ConfigurationError, match=r"broken\.pt is not a phonetic encoder"):
        build_content_encoder("phonetic", path=str(tmp_path / "broken.pt"))
    with pytest.raises(ConfigurationError, match="version=v2"):
        build_content_encoder("phonetic", version="v2")
