"""Pairs of utterances of the same sentence, as training examples.

Legend: N pairs, T samples at 16 kHz, F content frames of 20 ms.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from textwrap import shorten
from typing import NamedTuple, TypeVar

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rvc_lightning.audio.frames import CONTENT_SAMPLES, SAMPLE_RATE, WINDOW_SAMPLES
from rvc_lightning.cli.columns import pluralize
from rvc_lightning.config.options import Settings, option
from rvc_lightning.errors import ConfigurationError, DatasetError
from rvc_lightning.pretraining.augment import AugmentConfig, augment_speech
from rvc_lightning.pretraining.corpus import RECORDED, Utterance, read_audio, read_manifest
from rvc_lightning.pretraining.phones import PHONES, SILENCE, UNKNOWN

T = TypeVar("T")

NO_FRAME = -1
_MAX_LEAD_S = 0.1
_VALIDATION_EXAMPLES = 96


class Pairs(NamedTuple):
    """A batch of pairs.

    Attributes:
        wav16k: [N, 2, T].
        phones: Int64 [N, 2, F], indices into `PHONES`; -1 after the end of the utterance.
        partners: Int64 [N, F], for each frame of the first utterance the frame of the second at the same position in
            the same phone; -1 without such a frame, and in silence.
        speakers: Int64 [N, 2], positions in the sorted names of the speakers of the corpus.
        clean16k: [N, 2, T], the same speech before rooms, noise and filters.
    """

    wav16k: Tensor
    phones: Tensor
    partners: Tensor
    speakers: Tensor
    clean16k: Tensor


@dataclass(frozen=True)
class Speech:
    """An utterance in memory: audio, int16 [T]; indices of phones, [P]; and their boundaries in seconds, [P + 1]."""

    speaker: str
    audio: np.ndarray
    phones: np.ndarray
    edges_s: np.ndarray


@dataclass(frozen=True)
class View:
    """Excerpt of an utterance from `start_s` on, played at `speed`."""

    speech: Speech
    start_s: float
    speed: float

    def audio(self, samples: int) -> np.ndarray:
        """Return float32 [samples] at 16 kHz, padded with zeros."""
        position = self.start_s * SAMPLE_RATE + np.arange(samples) * self.speed
        start, end = int(position[0]), int(position[-1]) + 2
        part = self.speech.audio[start:end].astype(np.float32) / 2**15
        if self.speed == 1.0:
            return np.pad(part[:samples], (0, max(samples - len(part), 0)))
        return np.interp(position - start, np.arange(len(part)), part, right=0.0).astype(np.float32)

    def times_s(self, frames: int) -> np.ndarray:
        """Return the time in the utterance at the middle of each frame, in seconds, [frames]."""
        return self.start_s + (np.arange(frames) * CONTENT_SAMPLES + WINDOW_SAMPLES / 2) / SAMPLE_RATE * self.speed

    def frame_at(self, time_s: np.ndarray) -> np.ndarray:
        """Return the frame whose middle is nearest to a time in the utterance, in seconds."""
        samples = (time_s - self.start_s) / self.speed * SAMPLE_RATE
        return np.rint((samples - WINDOW_SAMPLES / 2) / CONTENT_SAMPLES).astype(np.int64)


class PairDataset(Dataset[tuple[np.ndarray, ...]]):
    """Random examples: a sentence, two of its utterances, and a position in it."""

    def __init__(
        self,
        sentences: Sequence[Sequence[Speech]],
        frames: int,
        examples: int,
        augment: AugmentConfig | None,
        recorded_share: float,
        unlabeled_share: float,
        speakers: Sequence[str],
        seed: int,
    ) -> None:
        """Initialize the dataset.

        Args:
            sentences: Utterances of each sentence.
            frames: F.
            examples: Number of examples in an epoch.
            augment: Ranges of augmentation; None for unchanged speech and the same examples in every epoch.
            recorded_share: Share of examples with a recorded person, if there are recordings.
            unlabeled_share: Share of examples without a transcript, if there are any: the same speech twice.
            speakers: Names of all speakers, in the order of their numbers.
            seed: Seed of the examples without augmentation.
        """
        self.sentences, self.frames, self.examples, self.augment = sentences, frames, examples, augment
        self.unlabeled = [sentence for sentence in sentences if not has_phones(sentence[0])]
        self.recorded = [
            sentence for sentence in sentences if any(map(is_recorded, sentence)) and has_phones(sentence[0])
        ]
        self.recorded_share, self.unlabeled_share, self.seed = recorded_share, unlabeled_share, seed
        self.speaker_numbers = {name: position for position, name in enumerate(speakers)}
        self.samples = (frames - 1) * CONTENT_SAMPLES + WINDOW_SAMPLES

    def __len__(self) -> int:
        return self.examples

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        """Return one example of each field of `Pairs`."""
        # Lightning seeds torch's generator in each worker; without workers, all ranks have the same one, but different
        # indices.
        seed = self.seed if self.augment is None else int(torch.randint(2**62, ()))
        rng = np.random.default_rng((seed, index))
        views = self._views(*self._speakers(rng), rng)
        if rng.random() < 0.5:
            views = views[::-1]
        clean = np.stack([view.audio(self.samples) for view in views])
        audio = clean if self.augment is None else np.stack([self._augmented(speech, rng) for speech in clean])
        phones = np.stack([_phones(view, self.frames) for view in views])
        speakers = np.array([self.speaker_numbers[view.speech.speaker] for view in views])
        return audio, phones, _partners(views[0], views[1], self.frames), speakers, clean

    def _speakers(self, rng: np.random.Generator) -> tuple[Speech, Speech]:
        """Return two utterances of a sentence, mostly by different speakers."""
        if self.unlabeled and rng.random() < self.unlabeled_share:
            (only,) = _choose(self.unlabeled, rng)
            return only, only
        from_recorded = self.recorded and rng.random() < self.recorded_share
        utterances = _choose(self.recorded if from_recorded else self.sentences, rng)
        first = _choose([s for s in utterances if is_recorded(s)] if from_recorded else utterances, rng)
        others = [speech for speech in utterances if speech.speaker != first.speaker]
        return first, _choose(others, rng) if others and rng.random() < 0.85 else first

    def _views(self, first: Speech, second: Speech, rng: np.random.Generator) -> list[View]:
        """Return excerpts of both from the same phone on, each at a random speed."""
        deviation = 0.5 * np.log(self.augment.speed) if self.augment else 0.0
        speeds = np.exp(np.clip(rng.normal(0, deviation, 2), -2 * deviation, 2 * deviation))
        shared = match_phones(first.phones, second.phones)
        # Later starts would leave too little speech.
        last_s = first.edges_s[-1] - self.samples / SAMPLE_RATE * speeds[0]
        possible = [pair for pair in shared if first.edges_s[pair[0]] <= last_s] or shared[:1] or [(0, 0)]
        start = _choose(possible, rng)
        return [
            View(speech, max(0.0, speech.edges_s[phone] - _MAX_LEAD_S * rng.random()), speed)
            for speech, phone, speed in zip((first, second), start, speeds, strict=True)
        ]

    def _augmented(self, speech: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        assert self.augment is not None
        noise = _choose(_choose(self.sentences, rng), rng)
        return augment_speech(speech, View(noise, 0.0, 1.0).audio(self.samples), self.augment, rng)


@dataclass(frozen=True, kw_only=True)
class PairDataConfig(Settings, group="data"):
    """Examples and their loading."""

    batch_size: int = option(help="N, pairs of utterances in a batch", min=1)
    frames: int = option(help="F, frames of each utterance", min=2)
    examples: int = option(help="pairs in an epoch", min=1)
    recorded_share: float = option(help="share of pairs with a recorded person, if there are recordings", min=0, max=1)
    unlabeled_share: float = option(
        help="share of pairs without a transcript: the same speech, augmented twice", min=0, max=1
    )
    held_out_sentences: float = option(help="share of sentences held out for validation", min=0, max=1)
    held_out_speakers: list[str] = option(help="speakers held out for validation")
    num_workers: int = option(help="loading processes; 0 loads in the training process", min=0)


class PairDataModule(lightning.LightningDataModule):
    """Pairs from a corpus; some sentences, and optionally some speakers, are held out for validation."""

    def __init__(self, folder: Path, config: PairDataConfig, augment: AugmentConfig, seed: int) -> None:
        """Read the manifest.

        Raises:
            DatasetError: The folder is not a corpus, or has fewer than two sentences with known phones.
            ConfigurationError: A speaker that is held out is not in the corpus, or nothing is left to train on.
        """
        super().__init__()
        self.folder, self.config, self.augment, self.seed = folder, config, augment, seed
        self.utterances = read_manifest(folder)
        self.speakers = sorted({utterance.speaker for utterance in self.utterances})
        if unknown := sorted(set(config.held_out_speakers) - set(self.speakers)):
            raise ConfigurationError(
                f"data.held_out_speakers={unknown}: '{folder}' has no such speakers; choose from "
                f"{shorten(', '.join(self.speakers), 300, placeholder=' …')}"
            )
        self._training, self._validation = self._split()

    def setup(self, stage: str) -> None:
        """Read the corpus into memory."""
        training, validation = (
            [[_speech(self.folder, utterance) for utterance in sentence] for sentence in sentences]
            for sentences in (self._training, self._validation)
        )
        frames, config = self.config.frames, self.config
        self.training = PairDataset(
            training, frames, config.examples, self.augment,
            config.recorded_share, config.unlabeled_share, self.speakers, self.seed,
        )  # fmt: skip
        self.validation = PairDataset(
            validation, frames, _VALIDATION_EXAMPLES, None,
            recorded_share=1.0, unlabeled_share=0.0, speakers=self.speakers, seed=self.seed,
        )  # fmt: skip

    def _split(self) -> tuple[list[list[Utterance]], list[list[Utterance]]]:
        """Return the sentences for training, and those for validation, with held-out speakers if there are any."""
        numbers = sorted({one.sentence for one in self.utterances if UNKNOWN not in one.phones})
        if len(numbers) < 2:
            raise DatasetError(
                f"'{self.folder}' has {pluralize(len(numbers), 'sentence')} with known phones; at least two are "
                "required, one to train on and one to validate with"
            )
        rng = np.random.default_rng(self.seed)
        held_out = set(
            rng.permutation(numbers)[: max(1, round(len(numbers) * self.config.held_out_sentences))].tolist()
        )
        training: dict[int, list[Utterance]] = defaultdict(list)
        validation: dict[int, list[Utterance]] = defaultdict(list)
        for utterance in self.utterances:
            validates = utterance.sentence in held_out
            if validates or utterance.speaker not in self.config.held_out_speakers:
                sentences = validation if validates else training
                sentences[utterance.sentence].append(utterance)
        if not training.keys() & set(numbers):
            raise ConfigurationError(
                f"data.held_out_sentences={self.config.held_out_sentences} "
                f"data.held_out_speakers={self.config.held_out_speakers}: no sentence with known phones is left to "
                "train on; hold out fewer"
            )
        held_out_speakers = set(self.config.held_out_speakers)
        unseen = [sentence for sentence in validation.values() if any(s.speaker in held_out_speakers for s in sentence)]
        return list(training.values()), unseen or list(validation.values())

    def train_dataloader(self) -> DataLoader[tuple[np.ndarray, ...]]:
        """Return the loader of augmented pairs."""
        return self._loader(self.training)

    def val_dataloader(self) -> DataLoader[tuple[np.ndarray, ...]]:
        """Return the loader of unchanged pairs, the same in every epoch."""
        return self._loader(self.validation)

    def _loader(self, dataset: PairDataset) -> DataLoader[tuple[np.ndarray, ...]]:
        return DataLoader(
            dataset,
            self.config.batch_size,
            num_workers=self.config.num_workers,
            persistent_workers=self.config.num_workers > 0,
            collate_fn=_collate,
            drop_last=dataset is self.training,
        )


def is_recorded(speech: Speech) -> bool:
    """Return whether the speaker is a person."""
    return speech.speaker.startswith(RECORDED)


def has_phones(speech: Speech) -> bool:
    """Return whether the phones of an utterance are known."""
    return bool(np.all(speech.phones != NO_FRAME))


def match_phones(first: np.ndarray, second: np.ndarray) -> list[tuple[int, int]]:
    """Return the positions of phones that two utterances of a sentence share, in order."""
    blocks = SequenceMatcher(None, first.tolist(), second.tolist(), autojunk=False).get_matching_blocks()
    return [(block.a + n, block.b + n) for block in blocks for n in range(block.size)]


def _speech(folder: Path, utterance: Utterance) -> Speech:
    phones = np.array([NO_FRAME if phone == UNKNOWN else PHONES.index(phone) for phone in utterance.phones])
    audio = read_audio(folder / utterance.audio)
    return Speech(utterance.speaker, audio, phones, np.array([0.0, *utterance.ends_s]))


def _phones(view: View, frames: int) -> np.ndarray:
    """Return the phone at the middle of each frame, [frames]; -1 after the end."""
    position = np.searchsorted(view.speech.edges_s, view.times_s(frames), side="right") - 1
    inside = position < len(view.speech.phones)
    return np.where(inside, view.speech.phones[np.minimum(position, len(view.speech.phones) - 1)], NO_FRAME)


def _partners(first: View, second: View, frames: int) -> np.ndarray:
    """Return the partner in `second` of each frame of `first`, [frames]; -1 for none."""
    edges = first.speech.edges_s, second.speech.edges_s
    times_s = first.times_s(frames)
    position = np.minimum(np.searchsorted(edges[0], times_s, side="right") - 1, len(first.speech.phones) - 1)
    counterpart = np.full(len(first.speech.phones), NO_FRAME)
    for a, b in match_phones(first.speech.phones, second.speech.phones):
        counterpart[a] = b
    partner = counterpart[position]
    share = (times_s - edges[0][position]) / (edges[0][position + 1] - edges[0][position])
    frame = second.frame_at(edges[1][partner] + share * (edges[1][partner + 1] - edges[1][partner]))
    silent = first.speech.phones[position] == PHONES.index(SILENCE)
    matches = (partner != NO_FRAME) & (share <= 1) & (frame >= 0) & (frame < frames) & ~silent
    return np.where(matches, frame, NO_FRAME)


def _choose(choices: Sequence[T], rng: np.random.Generator) -> T:
    return choices[int(rng.integers(len(choices)))]


def _collate(examples: Sequence[tuple[np.ndarray, ...]]) -> Pairs:
    return Pairs(*(torch.from_numpy(np.stack(part)) for part in zip(*examples, strict=True)))
