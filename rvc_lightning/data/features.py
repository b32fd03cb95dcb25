"""Pitch and content of slices, computed through `Trainer.predict` and written one file each.

The content encoder and a pitch network are submodules of a LightningModule, so devices, precision and strategy are the
trainer's settings. A pitch extractor of the host runs in the data loader's workers, so all cores work.

    slices that lack features ──▶ longest first ──▶ batches of like length ──▶ dealt to ranks by stride

Letters: B slices, T samples at 16 kHz, F pitch frames of 10 ms, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple, Protocol

import lightning
import numpy as np
import soundfile
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from rvc_lightning.audio.decode import resample
from rvc_lightning.audio.frames import SAMPLE_RATE, content_lengths, frame_count
from rvc_lightning.cli.progress import Progress
from rvc_lightning.config.validation import check_types, check_whole
from rvc_lightning.content.base import ContentEncoder
from rvc_lightning.errors import ConfigurationError, DatasetError, OutOfMemoryError
from rvc_lightning.io.files import read_json, write_json, write_npy
from rvc_lightning.io.workers import end_with_parent
from rvc_lightning.models.memory import is_out_of_memory
from rvc_lightning.pitch.base import PitchExtractor, PitchNetwork, PitchTracker


@dataclass(frozen=True)
class ExtractionConfig:
    """How slices are read and batched for the networks.

    Attributes:
        batch_seconds: audio of a batch with its padding; a longer slice is a batch of its own.
        batch_slices: most slices of a batch.
        num_workers: processes that read slices and find pitch, of each rank; 0 does it in the rank's own process.

    Raises:
        ConfigurationError: a value that makes no batch.
    """

    batch_seconds: float = 48.0
    batch_slices: int = 16
    num_workers: int = 0

    def __post_init__(self) -> None:
        check_whole("preparation.batch_slices", self.batch_slices, 1)
        check_whole("preparation.num_workers", self.num_workers, 0)
        check_types(self)
        if not (self.batch_seconds > 0 and math.isfinite(self.batch_seconds)):
            raise ConfigurationError(f"preparation.batch_seconds={self.batch_seconds}: choose a number above 0")


class FeatureTask(NamedTuple):
    """A slice and where its features belong.

    A tuple, since Lightning takes no frozen dataclass within a batch.

    Attributes:
        audio: the slice.
        seconds: its length.
        f0: file to write, or None where the pitch is there already.
        content: file to write, or None where the content is there already.
    """

    audio: Path
    seconds: float
    f0: Path | None
    content: Path | None


class FeatureTasks(Protocol):
    """All that is to be done.

    Attributes:
        seconds: length of each slice.
        lacks_content: whether it lacks its content.
    """

    seconds: np.ndarray
    lacks_content: np.ndarray

    def __getitem__(self, index: int, /) -> FeatureTask:
        """One of them."""


@dataclass
class FeatureBatch:
    """Slices on their way to the networks.

    Attributes:
        tasks: B of them.
        f0_hz: float32 [F] of each, or None where it is there already or a network will find it.
        wav16k: float32 [B, T].
        lengths: int64 [B].
        pitch_seconds: what finding the pitch took.
    """

    tasks: list[FeatureTask]
    f0_hz: list[np.ndarray | None]
    wav16k: Tensor
    lengths: Tensor
    pitch_seconds: float


@dataclass
class Timing:
    """What the features took, on one rank or on all.

    Attributes:
        pitch_audio_seconds: audio whose pitch was found.
        pitch_seconds: that took, in one process or on one device at a time.
        content_audio_seconds: audio whose content was found.
        content_seconds: that took, on one device at a time.
    """

    pitch_audio_seconds: float = 0.0
    pitch_seconds: float = 0.0
    content_audio_seconds: float = 0.0
    content_seconds: float = 0.0

    def __add__(self, other: Timing) -> Timing:
        return Timing(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))


class FeatureExtraction(lightning.LightningModule):
    """Encodes content and finds pitch, and writes both with the pitch that came along.

    Values that are not finite are not written: the slice then lacks its features, which the caller reports.
    """

    def __init__(self, encoder: ContentEncoder, pitch: PitchNetwork | None = None, efforts: Path | None = None) -> None:
        """Takes the networks.

        Args:
            encoder: of content.
            pitch: a network, or None where the pitch comes along.
            efforts: folder where each rank notes what its work took, see `read_timings`.
        """
        super().__init__()
        # A rank may have nothing to do where slices are few.
        self.allow_zero_length_dataloader_with_multiple_devices = True
        self.encoder = encoder
        self.pitch = pitch
        self.efforts = efforts
        self.effort = Timing()
        self._progress: Progress | None = None

    def on_predict_start(self) -> None:
        """Shows on the first rank how far it is, which is how far all are."""
        batches: Any = self.trainer.predict_dataloaders
        seconds = sum(batches.dataset.seconds)
        self._progress = Progress("finding pitch and content", seconds, "s", enabled=self.trainer.is_global_zero)

    def predict_step(self, batch: FeatureBatch, batch_idx: int) -> float:
        """Finds what the tasks of [B, T] ask for and the workers have not found, and writes each file atomically.

        Gives the seconds of audio.

        Raises:
            OutOfMemoryError: the device, or the host, has no memory for the batch.
        """
        try:
            return self._find(batch)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            n_slices, longest = batch.wav16k.shape[0], batch.wav16k.shape[1] / SAMPLE_RATE
            raise OutOfMemoryError(
                f"memory ran out while features of {n_slices} slices of up to {longest:.1f} s were found: "
                f"{str(error).splitlines()[0]} Use smaller batches: preparation.batch_slices={max(n_slices // 2, 1)}. "
                "What is found is kept"
            ) from error

    def _find(self, batch: FeatureBatch) -> float:
        """The work of a step; gives the seconds of audio."""
        seconds = sum(task.seconds for task in batch.tasks)
        if any(task.f0 is not None for task in batch.tasks):
            started = perf_counter()
            f0_hz = batch.f0_hz if self.pitch is None else _by_slice(self.pitch, batch, frame_count)
            self.effort.pitch_seconds += batch.pitch_seconds + perf_counter() - started
            self.effort.pitch_audio_seconds += seconds
            for task, values in zip(batch.tasks, f0_hz, strict=True):
                if task.f0 is not None and values is not None:
                    _write_finite(task.f0, values.astype(np.float32))
        if any(task.content is not None for task in batch.tasks):
            started = perf_counter()
            content = _by_slice(lambda waves, lengths: self.encoder(waves, lengths).half(), batch, content_lengths)
            self.effort.content_seconds += perf_counter() - started
            self.effort.content_audio_seconds += seconds
            for task, values in zip(batch.tasks, content, strict=True):
                if task.content is not None:
                    _write_finite(task.content, values)
        if self._progress is not None:
            self._progress.update(seconds)
        return seconds

    def on_predict_end(self) -> None:
        """Notes what it took."""
        if self._progress is not None:
            self._progress.close()
        if self.efforts is not None:
            write_json(self.efforts / f"rank-{self.global_rank}.json", vars(self.effort))


def read_timings(folder: Path) -> Timing:
    """What the ranks have noted there, together."""
    return sum((Timing(**read_json(path)) for path in sorted(folder.glob("rank-*.json"))), Timing())


def _by_slice(
    network: Callable[[Tensor, Tensor], Tensor], batch: FeatureBatch, frames: Callable[[Tensor], Tensor]
) -> list[np.ndarray]:
    """What a network makes of [B, T] and [B], [frames, ...] of each slice.

    On the CPU one slice at a time, which takes no longer there: the last bits depend on how a batch is padded, and a
    preparation that was killed, or is shared by ranks, has other batches.
    """
    waves, lengths = batch.wav16k, batch.lengths
    if waves.device.type != "cpu":
        return _items(network(waves, lengths), frames(lengths))
    alone = [
        (wave[None, :length], lengths[i : i + 1])
        for i, (wave, length) in enumerate(zip(waves, lengths.tolist(), strict=True))
    ]
    return [_items(network(wave, length), frames(length))[0] for wave, length in alone]


def _items(values: Tensor, lengths: Tensor) -> list[np.ndarray]:
    """[B, frames, ...] -> B of [length, ...]."""
    return [item[:length].numpy() for item, length in zip(values.cpu(), lengths.tolist(), strict=True)]


def batches_of_like_length(tasks: FeatureTasks, config: ExtractionConfig) -> list[np.ndarray]:
    """Indices of the slices of each batch; longest first, so that a lack of memory shows at once.

    What lacks its pitch alone is kept apart from what an encoder has to read.
    """
    order = np.lexsort((np.arange(len(tasks.seconds)), -tasks.seconds, ~tasks.lacks_content))
    borders = np.flatnonzero(np.diff(tasks.lacks_content[order])) + 1
    batches: list[np.ndarray] = []
    for part in np.split(order, borders):
        first = 0
        while first < len(part):
            fitting = int(config.batch_seconds // max(float(tasks.seconds[part[first]]), 1e-3))
            n_slices = min(max(fitting, 1), config.batch_slices)
            batches.append(part[first : first + n_slices])
            first += n_slices
    return batches


class _BatchDataset(Dataset):
    """Batches of slices at 16 kHz with the pitch that an extractor of the host finds in them."""

    def __init__(self, tasks: FeatureTasks, batches: list[np.ndarray], pitch: PitchExtractor | None) -> None:
        self.tasks, self.batches, self.pitch = tasks, batches, pitch
        self.seconds = [float(tasks.seconds[batch].sum()) for batch in batches]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> FeatureBatch:
        tasks = [self.tasks[int(number)] for number in self.batches[index]]
        waves = [_wav16k(task) for task in tasks]
        started = perf_counter()
        f0_hz = [
            None if task.f0 is None or self.pitch is None else self.pitch(wave)
            for task, wave in zip(tasks, waves, strict=True)
        ]
        return FeatureBatch(
            tasks=tasks,
            f0_hz=f0_hz,
            wav16k=pad_sequence([torch.from_numpy(wave) for wave in waves], batch_first=True),
            lengths=torch.tensor([len(wave) for wave in waves]),
            pitch_seconds=perf_counter() - started,
        )


def _wav16k(task: FeatureTask) -> np.ndarray:
    """float32 [T] of a slice. Raises DatasetError if it cannot be read."""
    try:
        audio, sample_rate = soundfile.read(task.audio, dtype="float32")
    except (OSError, soundfile.LibsndfileError) as error:
        raise DatasetError(
            f"the slice '{task.audio}' cannot be read ({error}). Each rank has to see the dataset's folder; if this "
            "one does, prepare again"
        ) from error
    return resample(audio, sample_rate, SAMPLE_RATE)


class FeatureData(lightning.LightningDataModule):
    """This rank's share of the batches."""

    def __init__(
        self, read_tasks: Callable[[], FeatureTasks], pitch: PitchExtractor | None, config: ExtractionConfig
    ) -> None:
        """Remembers what to read; it is read in `setup`, which every rank calls once all are there."""
        super().__init__()
        self.read_tasks, self.pitch, self.config = read_tasks, pitch, config
        self.batches: _BatchDataset | None = None

    def setup(self, stage: str) -> None:
        """Reads what is to be done. Raises DatasetError if this rank cannot."""
        assert self.trainer is not None
        tasks = self.read_tasks()
        batches = batches_of_like_length(tasks, self.config)
        self.batches = _BatchDataset(tasks, batches[self.trainer.global_rank :: self.trainer.world_size], self.pitch)

    def predict_dataloader(self) -> DataLoader:
        """Batches, `FeatureBatch`."""
        assert self.batches is not None
        return DataLoader(
            self.batches,
            batch_size=None,
            num_workers=self.config.num_workers,
            collate_fn=_as_it_is,
            worker_init_fn=end_with_parent,
        )


def _as_it_is(batch: Any) -> Any:
    return batch


def extract_features(
    read_tasks: Callable[[], FeatureTasks],
    pitch: PitchTracker,
    encoder: ContentEncoder,
    trainer: lightning.Trainer,
    config: ExtractionConfig,
    efforts: Path | None = None,
) -> None:
    """Compute and write the features that are asked for; every rank does its share and waits for the others.

    Args:
        read_tasks: gives what is to be done, the same on every rank.
        pitch: runs in the workers, or on the trainer's device if it is a network.
        encoder: runs on the trainer's device.
        trainer: a fresh one, or one of which nothing is expected later.
        config: how slices are read and batched.
        efforts: folder where each rank notes what its work took.

    Raises:
        DatasetError: a slice cannot be read.
    """
    network, on_host = (pitch, None) if isinstance(pitch, PitchNetwork) else (None, pitch)
    data = FeatureData(read_tasks, on_host, config)
    trainer.predict(FeatureExtraction(encoder, network, efforts), data, return_predictions=False)
    trainer.strategy.barrier("features")


def _write_finite(path: Path, values: np.ndarray) -> None:
    if np.isfinite(values).all():
        write_npy(path, values)
