"""The corpus and its examples."""

from collections import Counter

import numpy as np
import pytest
import torch
from corpora import make_corpus
from phonetic import phonetic_settings
from rank_examples import examples_of_ranks

from rvc_lightning.audio.frames import SAMPLE_RATE
from rvc_lightning.errors import ConfigurationError, DatasetError
from rvc_lightning.pretraining.augment import AugmentConfig, augment_speech
from rvc_lightning.pretraining.corpus import Utterance, read_manifest, write_manifest
from rvc_lightning.pretraining.data import (
    NO_FRAME,
    PairDataConfig,
    PairDataModule,
    Speech,
    View,
    _partners,
    _phones,
    match_phones,
)
from rvc_lightning.pretraining.phones import PHONES, SILENCE, UNKNOWN
from rvc_lightning.pretraining.recordings import unlabeled_segments

FRAMES = 24
AUGMENT = AugmentConfig.from_values(phonetic_settings("augment"))


def datamodule(folder, **changes):
    options = {"batch_size": 4, "frames": FRAMES, "examples": 40, "recorded_share": 0.5,
               "unlabeled_share": 0.0, "held_out_sentences": 0.2,
               "held_out_speakers": [], "num_workers": 0}  # fmt: skip
    module = PairDataModule(folder, PairDataConfig(**options | changes), AUGMENT, seed=1)
    module.setup("fit")
    return module


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    make_corpus(folder)
    return folder


def test_write_and_read_a_manifest(tmp_path):
    written = make_corpus(tmp_path)
    assert read_manifest(tmp_path) == written


def test_folder_that_is_not_a_corpus(tmp_path):
    with pytest.raises(DatasetError, match="is not a corpus"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.jsonl").write_text('{"audio": "a", "place": "b"}')
    with pytest.raises(DatasetError, match="place"):
        read_manifest(tmp_path)


def test_partners_have_the_same_phone(corpus):
    batch = next(iter(datamodule(corpus).train_dataloader()))
    assert batch.wav16k.shape == (4, 2, (FRAMES - 1) * 320 + 400) and batch.wav16k.dtype == torch.float32
    assert batch.phones.shape == (4, 2, FRAMES) and batch.partners.shape == (4, FRAMES)
    assert batch.speakers.shape == (4, 2) and set(batch.speakers.flatten().tolist()) <= {0, 1, 2}
    assert batch.wav16k.isfinite().all() and batch.wav16k.abs().max() <= 1
    item, frame = (batch.partners != NO_FRAME).nonzero(as_tuple=True)
    there = batch.phones[item, 1, batch.partners[item, frame]]
    here = batch.phones[item, 0, frame]
    assert len(item) > 20 and (here != PHONES.index(SILENCE)).all()
    # The nearest frame may lie just beyond the edge of a phone.
    assert (here == there).float().mean() > 0.8


@pytest.mark.parametrize(("labelled", "message"), [(0, "has 0 sentences"), (1, "has 1 sentence ")])
def test_two_sentences_with_known_phones_are_required(tmp_path, labelled, message):
    utterances = make_corpus(tmp_path)
    first = utterances[0].sentence if labelled else None
    for utterance in utterances:
        if utterance.sentence != first:
            utterance.phones = [UNKNOWN] * len(utterance.phones)
    write_manifest(tmp_path, utterances)
    with pytest.raises(DatasetError, match=f"{message}.*with known phones; at least two"):
        datamodule(tmp_path)


def test_speech_without_transcript_is_its_own_partner(tmp_path):
    labelled = make_corpus(tmp_path)
    edges_s = [0.1 * (n + 1) for n in range(10)]
    unlabeled = Utterance(labelled[0].audio, "recorded-ben", 1000, [SILENCE, *[UNKNOWN] * 9], edges_s)
    write_manifest(tmp_path, [*labelled, unlabeled])
    module = datamodule(tmp_path, unlabeled_share=1.0)
    for batch in module.train_dataloader():
        assert set(batch.phones.unique().tolist()) <= {NO_FRAME, PHONES.index(SILENCE)}
        assert (batch.partners != NO_FRAME).any(1).all()
    for batch in module.val_dataloader():
        assert (batch.phones > PHONES.index(SILENCE)).any()


def test_unlabeled_segments_are_silent_where_it_is_quiet():
    tone = np.sin(np.arange(SAMPLE_RATE // 10) / 3).astype(np.float32)
    segments = unlabeled_segments(np.concatenate([tone, 0.001 * tone, tone, tone[:100]]))
    assert segments == [(UNKNOWN, 0.1), (SILENCE, 0.2), (UNKNOWN, pytest.approx(0.3))]


def test_validation_is_repeatable_and_held_out(corpus):
    module = datamodule(corpus, held_out_speakers=["recorded-anna"])
    first, again = (next(iter(module.val_dataloader())) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    trained = [speech.speaker for sentence in module.training.sentences for speech in sentence]
    assert Counter(trained) == {"tone-a": 5, "tone-b": 5}
    assert [speech.speaker for speech in module.validation.sentences[0]] == ["recorded-anna", "tone-a", "tone-b"]


def test_unknown_held_out_speaker(corpus):
    with pytest.raises(
        ConfigurationError, match=r"held_out_speakers=\['recorded-carl'\]: .* choose from recorded-anna, tone-a"
    ):
        datamodule(corpus, held_out_speakers=["recorded-anna", "recorded-carl"])


def test_ranks_have_different_examples(corpus):
    examples = examples_of_ranks(datamodule(corpus).training)
    assert not any(np.array_equal(a, b) for a, b in zip(*examples, strict=True))


@pytest.mark.parametrize(
    "changes", [{"held_out_sentences": 1.0}, {"held_out_speakers": ["recorded-anna", "tone-a", "tone-b"]}]
)
def test_something_must_be_left_to_train_on(corpus, changes):
    with pytest.raises(ConfigurationError, match=r"held_out_sentences=.* no sentence with known phones is left"):
        datamodule(corpus, **changes)


def test_one_frame_is_too_short():
    with pytest.raises(ConfigurationError, match=r"data\.frames=1: choose a whole number from 2 up"):
        PairDataConfig(
            batch_size=1, frames=1, examples=1, recorded_share=0, unlabeled_share=0, held_out_sentences=0,
            held_out_speakers=[], num_workers=0,
        )  # fmt: skip


def test_partners_are_at_the_same_position_in_a_phone():
    ramp = np.arange(SAMPLE_RATE * 2, dtype=np.int16)
    aa, iy = PHONES.index("aa"), PHONES.index("iy")
    slow = Speech("a", ramp, np.array([aa, iy]), np.array([0.0, 1.0, 2.0]))
    quick = Speech("b", ramp, np.array([aa, iy]), np.array([0.0, 0.5, 1.0]))
    partners = _partners(View(slow, 0.0, 1.0), View(quick, 0.0, 1.0), 90)
    frames = np.arange(90)
    # The middle of frame f is at 20 f + 12.5 ms, and at half that time in the other utterance.
    np.testing.assert_allclose(partners, (frames * 20 + 12.5) / 40 - 0.625, atol=0.51)
    assert _phones(View(slow, 0.5, 1.0), 90).tolist() == [aa] * 25 + [iy] * 50 + [NO_FRAME] * 15
    # At twice the speed a phone has half as many frames.
    assert _phones(View(slow, 0.5, 2.0), 90).tolist() == [aa] * 12 + [iy] * 25 + [NO_FRAME] * 53


def test_view_is_resampled():
    speech = Speech("a", np.arange(1000, dtype=np.int16), np.array([0]), np.array([0.0, 1.0]))
    audio = View(speech, 100 / SAMPLE_RATE, 1.5).audio(800) * 2**15
    np.testing.assert_allclose(audio[:599], 100 + 1.5 * np.arange(599), rtol=1e-6)
    assert not audio[601:].any()


def test_phones_of_a_single_utterance_have_no_partner():
    assert match_phones(np.array([1, 2, 3, 4]), np.array([1, 9, 3, 4])) == [(0, 0), (2, 2), (3, 3)]


def test_augmentation_keeps_length_and_peak():
    draw = np.random.default_rng(0)
    speech = np.sin(np.arange(8000) / 5).astype(np.float32)
    versions = [augment_speech(speech, speech[::-1], AUGMENT, draw) for _ in range(40)]
    for version in versions:
        assert version.shape == speech.shape and version.dtype == np.float32
        assert 10 ** (-35 / 20) * 0.99 < np.abs(version).max() <= 1.001
    silent = augment_speech(np.zeros_like(speech), speech, AUGMENT, draw)
    assert np.isfinite(silent).all()
