"""Training of the speaker network."""

import math
from dataclasses import replace

import pytest
import torch
from corpora import make_corpus
from hydra import compose, initialize_config_module
from rank_examples import examples_of_ranks

from rvc_lightning.cli import resolvers
from rvc_lightning.errors import ConfigurationError, DatasetError
from rvc_lightning.models.speaker import from_file
from rvc_lightning.pretraining.corpus import write_manifest
from rvc_lightning.pretraining.speaker import train
from rvc_lightning.pretraining.speaker_data import ExcerptDataset, SpeakerDataConfig, SpeakerDataModule

resolvers.register()


def compose_config(folder, *overrides):
    """Compose a small run in a folder, on its corpus."""
    settings = [
        *("model.sizes.channels=8", "model.sizes.embedding=4", "data.batch_size=8", "data.spectra=40"),
        *("data.examples=240", "trainer.max_epochs=3", "trainer.accelerator=cpu", "logger=none", "~callbacks.progress"),
        *(f"corpus={folder / 'corpus'}", f"paths.run={folder}"),
    ]
    with initialize_config_module("rvc_lightning.conf", version_base="1.3"):
        return compose("pretraining_speaker", overrides=[*settings, *overrides])


@pytest.fixture
def corpus(tmp_path):
    """Write two people with different noise, and a synthesizer."""
    utterances = make_corpus(tmp_path / "corpus", speakers=("recorded-anna", "recorded-ben", "tone-a"))
    for utterance in utterances:
        utterance.ends_s[-1] = 2.0
    write_manifest(tmp_path / "corpus", utterances)
    return tmp_path


@pytest.mark.slow
def test_train_and_resume(corpus):
    assert train(compose_config(corpus)) < 0.5
    network = from_file(torch.load(corpus / "speaker.pt", weights_only=True))
    assert network(torch.randn(2, 50, 80)).shape == (2, 4)
    last = corpus / "checkpoints" / "last.ckpt"
    train(compose_config(corpus, f"checkpoint={last}", "trainer.max_epochs=4"))
    assert torch.load(last, weights_only=True)["epoch"] == 3
    # A complete run is not continued; its network is written again.
    (corpus / "speaker.pt").unlink()
    assert math.isnan(train(compose_config(corpus, f"checkpoint={last}", "trainer.max_epochs=4")))
    assert (corpus / "speaker.pt").exists()


def test_two_people_are_required(corpus):
    with pytest.raises(DatasetError, match="has 1 speaker with recordings"):
        train(compose_config(corpus, "data.excluded=[ben]"))
    with pytest.raises(DatasetError, match="is not a corpus"):
        train(compose_config(corpus, f"corpus={corpus / 'none'}"))
    with pytest.raises(ConfigurationError, match="margin"):
        train(compose_config(corpus, "model.training.margin=2"))


def test_unknown_people_are_rejected(corpus):
    with pytest.raises(ConfigurationError, match=r"data.excluded=\['carl'\]: .* no recordings of 1.5 s"):
        train(compose_config(corpus, "data.excluded=[ben,carl]"))
    make_corpus(corpus / "converted", speakers=("recorded-carl",))
    with pytest.raises(ConfigurationError, match=r"converted.*: no conversions of the people"):
        train(compose_config(corpus, f"data.conversions=[{corpus / 'converted'}]"))


@pytest.mark.slow
def test_train_with_conversions(corpus):
    # Ben's pace is that of the second speaker of a corpus; Carl is not in the corpus.
    utterances = make_corpus(corpus / "converted", speakers=("recorded-carl", "recorded-ben"))
    write_manifest(corpus / "converted", [replace(one, ends_s=[*one.ends_s[:-1], 2.0]) for one in utterances])
    config = compose_config(corpus, f"data.conversions=[{corpus / 'converted'}]")
    data = SpeakerDataModule(corpus / "corpus", SpeakerDataConfig.from_values(config.data))
    data.setup("fit")
    ((speaker, conversions),) = data.training.conversions
    assert data.speakers[speaker] == "ben" and len(conversions) == 6
    assert train(config) < 0.5


def test_share_of_conversions():
    spectra = {0: [torch.zeros(40, 4)], 1: [torch.zeros(40, 4)]}
    dataset = ExcerptDataset(spectra, {1: [torch.ones(40, 4)]}, spectra=40, examples=1)
    torch.manual_seed(0)
    excerpts = [dataset[0] for _ in range(400)]
    converted = [speaker for excerpt, speaker in excerpts if excerpt.mean() == 1]
    assert 60 < len(converted) < 140 and set(converted) == {1}


def test_ranks_have_different_excerpts():
    dataset = ExcerptDataset({n: [torch.randn(400, 4)] for n in range(2)}, {}, spectra=40, examples=8)
    excerpts = examples_of_ranks(dataset)
    assert not any(torch.equal(a, b) for a, b in zip(*excerpts, strict=True))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.examples=7"], r"data.examples=7: choose at least 8, a batch \(data.batch_size=8\)"),
        (["trainer.max_epochs=-1"], "trainer.max_epochs=-1: choose a number of epochs"),
    ],
)
def test_settings_without_a_schedule(corpus, overrides, message):
    with pytest.raises(ConfigurationError, match=message):
        train(compose_config(corpus, *overrides))


def test_short_utterances_are_padded():
    dataset = ExcerptDataset({0: [torch.ones(10, 4)], 1: [torch.zeros(60, 4)]}, {}, spectra=40, examples=20)
    for excerpt, speaker in (dataset[n] for n in range(20)):
        assert excerpt.shape == (40, 4) and torch.equal(excerpt, torch.full((40, 4), 1.0 - speaker))
