"""Pairs of utterances that say the same, cut where they do, as they come to training.

Letters: N pairs, T samples at 16 kHz, F content frames of 20 ms.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import NamedTuple, TypeVar

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rvc_lightning.audio.frames import CONTENT_SAMPLES, SAMPLE_RATE, WINDOW_SAMPLES
from rvc_lightning.pretraining.augment import AugmentConfig, augmented
from rvc_lightning.pretraining.corpus import Utterance, read_audio, read_manifest
from rvc_lightning.pretraining.phones import PHONES, SILENCE

T = TypeVar("T")

NO_FRAME = -1
_LEAD_S = 0.1
_VALIDATED = 96


class Pairs(NamedTuple):
    """The same words twice.

    Attributes:
        wav16k: [N, 2, T].
        phones: Int64 [N, 2, F], indices into `PHONES`; -1 where nothing is said any more.
        partners: Int64 [N, F], for each frame of the first the frame of the second with the same moment of the same
            phone; -1 where there is none, and in silence.
    """

    wav16k: Tensor
    phones: Tensor
    partners: Tensor


@dataclass(frozen=True)
class Speech:
    """An utterance in memory: int16 [T], indices of phones [P], and the seconds [P + 1] between them."""

    speaker: str
    audio: np.ndarray
    phones: np.ndarray
    edges_s: np.ndarray


@dataclass(frozen=True)
class View:
    """What one example shows of an utterance: from `begin_s` on, `speed` times as fast."""

    speech: Speech
    begin_s: float
    speed: float

    def audio(self, samples: int) -> np.ndarray:
        """Float32 [samples] at 16 kHz, zeros beyond the end."""
        position = self.begin_s * SAMPLE_RATE + np.arange(samples) * self.speed
        begin, end = int(position[0]), int(position[-1]) + 2
        part = self.speech.audio[begin:end].astype(np.float32) / 2**15
        if self.speed == 1.0:
            return np.pad(part[:samples], (0, max(samples - len(part), 0)))
        return np.interp(position - begin, np.arange(len(part)), part, right=0.0).astype(np.float32)

    def times_s(self, frames: int) -> np.ndarray:
        """Seconds of the utterance in the middle of each frame, [frames]."""
        return self.begin_s + (np.arange(frames) * CONTENT_SAMPLES + WINDOW_SAMPLES / 2) / SAMPLE_RATE * self.speed

    def frame_at(self, time_s: np.ndarray) -> np.ndarray:
        """The frame whose middle is nearest to a second of the utterance."""
        samples = (time_s - self.begin_s) / self.speed * SAMPLE_RATE
        return np.rint((samples - WINDOW_SAMPLES / 2) / CONTENT_SAMPLES).astype(np.int64)


class PairDataset(Dataset[tuple[np.ndarray, ...]]):
    """Examples of a sentence, two who say it, and a moment in it, each drawn anew."""

    def __init__(
        self,
        sentences: Sequence[Sequence[Speech]],
        frames: int,
        examples: int,
        augment: AugmentConfig | None,
        recorded_share: float,
        seed: int,
    ) -> None:
        """Keeps what to draw from.

        Args:
            sentences: The utterances of each.
            frames: F.
            examples: In an epoch.
            augment: How far speech is changed; None for not at all, and the same examples in every epoch.
            recorded_share: Share of examples with a person in them, where there are any.
            seed: Of examples that are the same in every epoch.
        """
        self.sentences, self.frames, self.examples, self.augment = sentences, frames, examples, augment
        self.recorded = [said for said in sentences if any(is_recorded(speech) for speech in said)]
        self.recorded_share, self.seed = recorded_share, seed
        self.samples = (frames - 1) * CONTENT_SAMPLES + WINDOW_SAMPLES

    def __len__(self) -> int:
        return self.examples

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        """Audio [2, T], phones [2, F] and partners [F]."""
        # Of torch's generator, which Lightning seeds in each process that loads, and each epoch goes on with.
        draw = np.random.default_rng((self.seed, index) if self.augment is None else int(torch.randint(2**62, ())))
        from_recorded = self.recorded and draw.random() < self.recorded_share
        said = _any_of(self.recorded if from_recorded else self.sentences, draw)
        first = _any_of([s for s in said if is_recorded(s)] if from_recorded else said, draw)
        others = [speech for speech in said if speech.speaker != first.speaker]
        second = _any_of(others, draw) if others and draw.random() < 0.85 else first
        one, other = self._views(first, second, draw)
        if draw.random() < 0.5:
            one, other = other, one
        audio = np.stack([self._heard(view, draw) for view in (one, other)])
        phones = np.stack([_phones(view, self.frames) for view in (one, other)])
        return audio, phones, _partners(one, other, self.frames)

    def _views(self, first: Speech, second: Speech, draw: np.random.Generator) -> tuple[View, View]:
        """Both, from the same phone on, each at its own speed."""
        furthest = 0.5 * np.log(self.augment.speed) if self.augment else 0.0
        speeds = np.exp(np.clip(draw.normal(0, furthest, 2), -2 * furthest, 2 * furthest))
        shared = matched(first.phones, second.phones)
        # Late beginnings would show too little.
        last_s = first.edges_s[-1] - self.samples / SAMPLE_RATE * speeds[0]
        possible = [pair for pair in shared if first.edges_s[pair[0]] <= last_s] or shared[:1] or [(0, 0)]
        begin = _any_of(possible, draw)
        one, other = (
            View(speech, max(0.0, speech.edges_s[phone] - _LEAD_S * draw.random()), speed)
            for speech, phone, speed in zip((first, second), begin, speeds, strict=True)
        )
        return one, other

    def _heard(self, view: View, draw: np.random.Generator) -> np.ndarray:
        audio = view.audio(self.samples)
        if self.augment is None:
            return audio
        stranger = _any_of(_any_of(self.sentences, draw), draw)
        return augmented(audio, View(stranger, 0.0, 1.0).audio(self.samples), self.augment, draw)


class PairDataModule(lightning.LightningDataModule):
    """Pairs from a corpus; some sentences, and on request some speakers, are held out to validate."""

    def __init__(
        self,
        folder: Path,
        batch_size: int,
        frames: int,
        examples: int,
        recorded_share: float,
        held_out_sentences: float,
        held_out_speakers: Sequence[str],
        augment: AugmentConfig,
        num_workers: int,
        seed: int,
    ) -> None:
        """Keeps the settings, see `conf/pretraining_train.yaml`.

        Raises:
            DatasetError: The folder is no corpus.
        """
        super().__init__()
        self.folder, self.batch_size, self.num_workers = folder, batch_size, num_workers
        self.utterances = read_manifest(folder)
        self.held_out_speakers = set(held_out_speakers)
        self.held_out_sentences = held_out_sentences
        self.frames, self.examples, self.recorded_share = frames, examples, recorded_share
        self.augment, self.seed = augment, seed

    def setup(self, stage: str) -> None:
        """Reads the corpus into memory."""
        kept, held = self._divided()
        self.training = PairDataset(
            kept, self.frames, self.examples, self.augment, recorded_share=self.recorded_share, seed=self.seed
        )
        self.validation = PairDataset(held, self.frames, _VALIDATED, augment=None, recorded_share=1.0, seed=self.seed)

    def _divided(self) -> tuple[list[list[Speech]], list[list[Speech]]]:
        """Sentences for training, and for validation: those held out, by the speakers held out if there are such."""
        numbers = sorted({utterance.sentence for utterance in self.utterances})
        draw = np.random.default_rng(self.seed)
        held_out = set(draw.permutation(numbers)[: max(1, round(len(numbers) * self.held_out_sentences))].tolist())
        kept: dict[int, list[Speech]] = defaultdict(list)
        held: dict[int, list[Speech]] = defaultdict(list)
        for utterance in self.utterances:
            validates = utterance.sentence in held_out
            if validates or utterance.speaker not in self.held_out_speakers:
                (held if validates else kept)[utterance.sentence].append(_speech(self.folder, utterance))
        judged = [said for said in held.values() if any(s.speaker in self.held_out_speakers for s in said)]
        return list(kept.values()), judged or list(held.values())

    def train_dataloader(self) -> DataLoader[tuple[np.ndarray, ...]]:
        """Pairs without end, changed in many ways."""
        return self._loader(self.training)

    def val_dataloader(self) -> DataLoader[tuple[np.ndarray, ...]]:
        """The same pairs each time, as they are."""
        return self._loader(self.validation)

    def _loader(self, dataset: PairDataset) -> DataLoader[tuple[np.ndarray, ...]]:
        return DataLoader(
            dataset,
            self.batch_size,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            collate_fn=_collate,
            drop_last=len(dataset) > self.batch_size,
        )


def is_recorded(speech: Speech) -> bool:
    """Whether a person speaks."""
    return speech.speaker.startswith("recorded-")


def matched(first: np.ndarray, second: np.ndarray) -> list[tuple[int, int]]:
    """Positions of phones that two utterances of one sentence share, in order."""
    blocks = SequenceMatcher(None, first.tolist(), second.tolist(), autojunk=False).get_matching_blocks()
    return [(block.a + n, block.b + n) for block in blocks for n in range(block.size)]


def _speech(folder: Path, utterance: Utterance) -> Speech:
    phones = np.array([PHONES.index(phone) for phone in utterance.phones])
    audio = read_audio(folder / utterance.audio)
    return Speech(utterance.speaker, audio, phones, np.array([0.0, *utterance.ends_s]))


def _phones(view: View, frames: int) -> np.ndarray:
    """The phone in the middle of each frame, [frames]; -1 beyond the end."""
    position = np.searchsorted(view.speech.edges_s, view.times_s(frames), side="right") - 1
    inside = position < len(view.speech.phones)
    return np.where(inside, view.speech.phones[np.minimum(position, len(view.speech.phones) - 1)], NO_FRAME)


def _partners(first: View, second: View, frames: int) -> np.ndarray:
    """The frame of `second` that shows what each frame of `first` shows, [frames]; -1 for none."""
    edges = first.speech.edges_s, second.speech.edges_s
    times_s = first.times_s(frames)
    position = np.minimum(np.searchsorted(edges[0], times_s, side="right") - 1, len(first.speech.phones) - 1)
    counterpart = np.full(len(first.speech.phones), NO_FRAME)
    for a, b in matched(first.speech.phones, second.speech.phones):
        counterpart[a] = b
    there = counterpart[position]
    share = (times_s - edges[0][position]) / (edges[0][position + 1] - edges[0][position])
    frame = second.frame_at(edges[1][there] + share * (edges[1][there + 1] - edges[1][there]))
    silent = first.speech.phones[position] == PHONES.index(SILENCE)
    meets = (there != NO_FRAME) & (share <= 1) & (frame >= 0) & (frame < frames) & ~silent
    return np.where(meets, frame, NO_FRAME)


def _any_of(choices: Sequence[T], draw: np.random.Generator) -> T:
    return choices[int(draw.integers(len(choices)))]


def _collate(examples: Sequence[tuple[np.ndarray, ...]]) -> Pairs:
    return Pairs(*(torch.from_numpy(np.stack(part)) for part in zip(*examples, strict=True)))
