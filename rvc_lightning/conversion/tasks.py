"""Recordings to convert, their results, and how they are shared among batches and ranks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from rvc_lightning.config.options import Settings, option
from rvc_lightning.conversion.options import ConversionOptions
from rvc_lightning.conversion.source import Recording, Source, measure_on_host, read_recording
from rvc_lightning.errors import RVCError
from rvc_lightning.io.workers import end_with_parent
from rvc_lightning.pitch.base import PitchExtractor
from rvc_lightning.pitch.curve import read_curve


@dataclass(frozen=True)
class Task:
    """A recording to convert."""

    source: Source
    """A file, or samples."""
    sample_rate: int | None
    """Sampling rate of samples in Hz; None for a file."""
    seconds: float
    """Length, as far as it is known before the recording is read."""
    options: ConversionOptions
    """Options of this recording."""
    number: int = 0
    """Position among the tasks."""
    target: Path | None = None
    """File to write."""


class ConvertedBlocks(NamedTuple):
    """Result of a task, computed block by block while it is consumed."""

    blocks: Iterator[np.ndarray]
    """Audio, float32 [N] each."""
    sample_rate: int
    """Sampling rate in Hz."""
    f0_hz: np.ndarray | None
    """Pitch of the output in Hz, float32 [F], 0 = unvoiced; None for voices without pitch."""
    file_digest: str
    """Digest of the file that was read."""


class ResultSink(Protocol):
    """Receives the results; it may be pickled to another process."""

    def write(self, task: Task, result: ConvertedBlocks) -> None:
        """Consume a result. An exception makes the task fail."""
        ...

    def fail(self, task: Task, error: RVCError | OSError) -> None:
        """Record that a task failed."""
        ...


@dataclass(frozen=True)
class Throughput(Settings):
    """Amount of work in progress.

    Raises:
        ConfigurationError: A value has the wrong type or is out of range.
    """

    batch_seconds: float = option(min=0)
    """Audio per batch with its padding; a longer chunk is a batch."""
    num_workers: int = option(0, min=0)
    """Processes that read recordings and measure pitch on the host; 0 uses none."""


def fitting_count(seconds: Sequence[float], batch_seconds: float, first: int = 0) -> int:
    """Return how many items from `first` on fit into a batch when padded to the longest; at least one."""
    longest = 0.0
    for count in range(len(seconds) - first):
        longest = max(longest, seconds[first + count])
        if count and longest * (count + 1) > batch_seconds:
            return count
    return len(seconds) - first


def padded_samples(samples: int) -> int:
    """Round a length up to one of eight per octave.

    Chunks have hundreds of lengths. On CPUs torch caches a kernel for each shape of a batch, up to a thousand: hundreds
    of MB in an hour of speech, while compiling them takes as long as this padding costs.
    """
    step = 1 << max(samples.bit_length() - 4, 0)
    return -(-samples // step) * step


def share_tasks(tasks: Sequence[Task], batch_seconds: float, ranks: int) -> list[list[list[Task]]]:
    """Return the batches of each rank: the longest recordings first, each batch to the rank with the least work."""
    ordered = sorted(tasks, key=lambda task: task.seconds, reverse=True)
    limit = min(batch_seconds, sum(task.seconds for task in tasks) / ranks)
    shards: list[list[list[Task]]] = [[] for _ in range(ranks)]
    load = [0.0] * ranks
    seconds, done = [task.seconds for task in ordered], 0
    while done < len(ordered):
        count = fitting_count(seconds, limit, done)
        batch, done = ordered[done : done + count], done + count
        rank = load.index(min(load))
        shards[rank].append(batch)
        load[rank] += sum(task.seconds for task in batch)
    return shards


class RecordingDataset(Dataset):
    """Recordings of tasks, or the error that occurred when one was read."""

    def __init__(self, tasks: Sequence[Task], folder: Path, pitch: PitchExtractor | None, context_samples: int) -> None:
        """Prepare to read; `pitch`, if given, measures pitch with `context_samples` of reflection at either end."""
        self.tasks, self.folder, self.pitch, self.context_samples = tasks, folder, pitch, context_samples

    def __len__(self) -> int:
        return len(self.tasks)

    def __getitem__(self, index: int) -> tuple[Task, Recording | RVCError | OSError]:
        task = self.tasks[index]
        try:
            return task, self._read(task)
        except (RVCError, OSError) as error:
            return task, error

    def _read(self, task: Task) -> Recording:
        curve = read_curve(task.options.f0_file) if task.options.f0_file else None
        recording = read_recording(task.source, task.sample_rate, self.folder)
        if curve is not None:
            curve.check_covers(recording.samples / recording.sample_rate)
            recording.curve = curve
        if self.pitch is not None and len(recording.audio):
            recording.f0_hz = measure_on_host(self.pitch, recording.audio, self.context_samples)
        return recording


class RecordingLoader:
    """Batches of recordings, each read by the next free worker."""

    def __init__(self, recordings: Dataset, counts: Sequence[int], num_workers: int) -> None:
        """Fix the order of the batches: each takes the next `counts[i]` recordings."""
        self.counts = counts
        # Without a generator the loader would draw the seed of its workers from the global one.
        self.loader = DataLoader(
            recordings,
            batch_size=None,
            num_workers=num_workers,
            generator=torch.Generator(),
            worker_init_fn=end_with_parent,
        )

    def __len__(self) -> int:
        return len(self.counts)

    def __iter__(self) -> Iterator[list[Any]]:
        read = iter(self.loader)
        return ([next(read) for _ in range(count)] for count in self.counts)
