"""Conversion as Lightning runs it: many recordings through the networks, in batches, on one device or several.

    workers    read recordings, find pitch on the host        ─┐  as many at once as there are workers
    predict    pitch networks ─▶ contour ─▶ chunks ─▶ speaker ─┤  chunks of all recordings of a batch together
               joined, leveled, finished, written                          ─┘  each recording as soon as it is whole

Recordings of like length share a batch. What becomes of one does not depend on the others, nor on how many devices
there are.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

import numpy as np
import torch
from lightning import LightningModule
from torch.utils.data import DataLoader, Dataset

from rvc_lightning.audio.frames import CONTENT_SAMPLES, FRAME_SAMPLES, SAMPLE_RATE, frame_count
from rvc_lightning.audio.samples import SpillBuffer, spans
from rvc_lightning.audio.stages import run
from rvc_lightning.cli.progress import Progress
from rvc_lightning.config.validation import check_types, check_whole
from rvc_lightning.conversion import chunking
from rvc_lightning.conversion.chunking import Chunk, ChunkLengths, Joiner, reflected
from rvc_lightning.conversion.contour import shaped_contour
from rvc_lightning.conversion.finishing import finished_rate, finished_samples, finishing
from rvc_lightning.conversion.inference import VoiceInference, Window, cycles_before
from rvc_lightning.conversion.options import ConversionOptions
from rvc_lightning.conversion.positional_noise import Place
from rvc_lightning.conversion.result import leveled
from rvc_lightning.conversion.silence import SoundDetector
from rvc_lightning.conversion.source import Recording, Source, measure_on_host, read_recording
from rvc_lightning.errors import ConfigurationError, OutOfMemoryError, RVCError
from rvc_lightning.io.workers import end_with_parent
from rvc_lightning.models.memory import is_out_of_memory
from rvc_lightning.pitch.base import Part, PitchExtractor, parts
from rvc_lightning.pitch.curve import read_curve
from rvc_lightning.retrieval.index import RetrievalIndex

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Task:
    """A recording to convert."""

    source: Source
    """A file, or samples."""
    sample_rate: int | None
    """Of the samples, in Hz."""
    seconds: float
    """Length, as far as it is known before it is read."""
    options: ConversionOptions
    """Its own."""
    number: int = 0
    """Among those that are converted."""
    target: Path | None = None
    """The file to write."""


Read: TypeAlias = Recording | RVCError | OSError
"""A recording, or why it cannot be read."""


class Converted(NamedTuple):
    """What a recording became."""

    blocks: Iterator[np.ndarray]
    """Audio, float32 [N] each."""
    sample_rate: int
    """In Hz."""
    f0_hz: np.ndarray | None
    """The pitch that the voice was given, float32 [F], 0 = unvoiced; None for voices without pitch."""
    file_digest: str
    """Of the file that was read."""


class Delivery(Protocol):
    """What is done with results. It may be sent to another process."""

    def deliver(self, task: Task, converted: Converted) -> None:
        """Takes a result. What it raises makes the task fail."""
        ...

    def fail(self, task: Task, error: RVCError | OSError) -> None:
        """Takes note of a task that failed."""
        ...


@dataclass(frozen=True)
class Throughput:
    """How much is worked on at once.

    Raises:
        ConfigurationError: A value that makes no batch.
    """

    batch_seconds: float = 60.0
    """Audio that one batch may hold, in seconds, the padding included; a longer chunk goes alone."""
    num_workers: int = 0
    """Processes that read recordings and find pitch where that is done on the host; 0 does it in this process."""

    def __post_init__(self) -> None:
        check_whole("num_workers", self.num_workers, 0)
        check_types(self)
        if not self.batch_seconds > 0:
            raise ConfigurationError(f"batch_seconds={self.batch_seconds}: choose a number above 0")


class ConversionRun(LightningModule):
    """Converts recordings, for `Trainer.predict`."""

    # A rank may have nothing to do.
    allow_zero_length_dataloader_with_multiple_devices = True

    def __init__(
        self,
        speaker: VoiceInference,
        tasks: Sequence[Task],
        options: ConversionOptions,
        delivery: Delivery,
        folder: Path,
        *,
        index: RetrievalIndex | None,
        pitch: PitchExtractor | None,
        lengths: ChunkLengths,
        throughput: Throughput,
    ) -> None:
        """What to convert and how.

        Args:
            speaker: The networks.
            tasks: The recordings.
            options: How.
            delivery: Gets the results.
            folder: For samples of long recordings.
            index: Of the voice; None goes without.
            pitch: Extractor of the host, if the pitch is found there.
            lengths: How recordings are cut.
            throughput: How much is worked on at once.
        """
        super().__init__()
        self.speaker, self.tasks, self.options, self.delivery = speaker, tasks, options, delivery
        self.folder, self.index, self.pitch, self.lengths = folder, index, pitch, lengths
        self.throughput, self._batch_seconds = throughput, throughput.batch_seconds
        self._progress: Progress | None = None

    def predict_dataloader(self) -> RecordingLoader:
        """The share of this rank; all ranks go by the plan of the first."""
        tasks, self.delivery = self.trainer.strategy.broadcast((self.tasks, self.delivery))
        groups = share(tasks, self._batch_seconds, self.trainer.world_size)[self.trainer.global_rank]
        total = sum(task.seconds for group in groups for task in group)
        shown = (len(tasks) > 1 or total >= _BAR_SECONDS) and self.trainer.is_global_zero
        self._progress = Progress("converting", total, "s", enabled=shown)
        recordings = _Recordings([task for group in groups for task in group], self)
        return RecordingLoader(recordings, [len(group) for group in groups], self.throughput.num_workers)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Leaves recordings on the host; the speaker makes batches of their windows where its networks are."""
        return batch

    def predict_step(self, batch: list[tuple[Task, Read]], batch_idx: int) -> list[Path | None]:
        """Converts the recordings of a batch and delivers each as soon as it is whole; gives their targets."""
        jobs = []
        for task, read in batch:
            if isinstance(read, Recording):
                jobs.append(self._job(task, read))
            else:
                self.delivery.fail(task, read)
                self._advance(task.seconds)
        self._measure([job.recording for job in jobs])
        for job in jobs:
            self._shape(job)
        self._speak(jobs)
        return [job.task.target for job in jobs]

    def teardown(self, stage: str) -> None:
        """Waits until all ranks are done: the first one reports for all."""
        if self._progress is not None:
            self._progress.close()
        self.trainer.strategy.barrier("converted")

    def _job(self, task: Task, recording: Recording) -> _Job:
        config, joined = self.speaker.synthesizer.config, SpillBuffer(self.folder)
        samples = recording.samples_at(config.sample_rate)
        joiner = Joiner(joined, self.lengths.context_samples, config.hop_samples, samples)
        return _Job(task, recording, joiner, joined)

    def _measure(self, recordings: Sequence[Recording]) -> None:
        """Finds the pitch of whole recordings by the network, in parts."""
        if self.speaker.pitch is None:
            return
        context, items = self.lengths.context_samples, []
        for recording in recordings:
            if len(recording.audio):
                items += [(recording, part) for part in parts(len(recording.audio) + 2 * context)]

        def track(some: Sequence[tuple[Recording, Part]]) -> list[np.ndarray]:
            waves = [
                reflected(recording.audio, part.heard.start - context, part.heard.stop - context)
                for recording, part in some
            ]
            return self.speaker.measure(waves, padded_samples(max(map(len, waves))))

        tracks: dict[int, list[np.ndarray]] = {}
        seconds = [padded_samples(part.heard.stop - part.heard.start) / SAMPLE_RATE for _, part in items]
        for (recording, part), f0_hz in zip(items, self._in_batches(track, items, seconds), strict=True):
            tracks.setdefault(id(recording), []).append(f0_hz[part.kept])
        for recording in recordings:
            if id(recording) in tracks:
                recording.f0_hz = np.concatenate(tracks[id(recording)])

    def _shape(self, job: _Job) -> None:
        """Changes the pitch of a whole recording as the options say."""
        recording = job.recording
        if recording.f0_hz is not None:
            first_seconds = -self.lengths.context_seconds
            recording.f0_hz = shaped_contour(recording.f0_hz, job.task.options, recording.curve, first_seconds)

    def _speak(self, jobs: Sequence[_Job]) -> None:
        """Says all chunks of the recordings and delivers what they become."""
        pieces = [piece for job in jobs for piece in job.pieces(self.lengths)]
        for job in jobs:
            if not len(job.recording.audio):
                self._finish(job)
        context = self.lengths.context_samples
        seconds = [padded_samples(piece.chunk.end - piece.chunk.start + 2 * context) / SAMPLE_RATE for piece in pieces]

        def say(some: Sequence[_Piece]) -> list[np.ndarray]:
            windows = [piece.window(context, self.options.seed) for piece in some]
            samples = padded_samples(max(len(window.audio) for window in windows))
            return self.speaker.speak(windows, self.options, self.index, samples=samples)

        for piece, audio in zip(pieces, self._in_batches(say, pieces, seconds), strict=True):
            piece.job.joiner.add(audio, piece.chunk, is_followed=piece.is_followed)
            self._advance(piece.job.told((piece.chunk.end - piece.chunk.start) / SAMPLE_RATE))
            if piece.is_last:
                self._finish(piece.job)

    def _finish(self, job: _Job) -> None:
        """Delivers what a recording became."""
        rate, recording, options = self.speaker.synthesizer.config.sample_rate, job.recording, job.task.options
        job.joiner.end()
        joined = job.joined
        try:
            blocks = leveled(joined, rate, recording.audio, options)
            stages = finishing(options, rate, finished_samples(options, rate, recording.samples, recording.sample_rate))
            f0_hz = None if self.pitch is None and self.speaker.pitch is None else self._own_frames(recording)
            converted = Converted(run(stages, blocks), finished_rate(options, rate), f0_hz, recording.file_digest)
            self.delivery.deliver(job.task, converted)
        except (RVCError, OSError) as error:
            self.delivery.fail(job.task, error)
        joined.remove()
        recording.audio.remove()
        # Silence that no chunk holds.
        self._advance(job.told(job.task.seconds))

    def _own_frames(self, recording: Recording) -> np.ndarray:
        """The pitch of a recording without that of its reflected ends; of a silent one, none."""
        first, frames = (
            self.lengths.context_samples // FRAME_SAMPLES,
            frame_count(recording.samples_at(SAMPLE_RATE)),
        )
        return np.zeros(frames, np.float32) if recording.f0_hz is None else recording.f0_hz[first : first + frames]

    def _in_batches(
        self, function: Callable[[Sequence[Item]], list[Result]], items: Sequence[Item], seconds: Sequence[float]
    ) -> Iterator[Result]:
        """What `function` gives for each item, of lengths in seconds: as many at once as a batch may hold.

        Where memory runs out, batches are halved from there on. Raises OutOfMemoryError where one item is too much.
        """
        done = 0
        while done < len(items):
            if self.trainer.received_sigterm:
                raise SystemExit(_TERMINATED)
            count = fitting(seconds, self._batch_seconds, done)
            results = self._attempt(function, items[done : done + count])
            if results is None:
                self._batch_seconds = max(seconds[done : done + count]) * max(count // 2, 1)
                log.warning("Memory ran out with %d chunks at once; going on with %d", count, max(count // 2, 1))
                continue
            yield from results
            done += count

    def _attempt(
        self, function: Callable[[Sequence[Item]], list[Result]], items: Sequence[Item]
    ) -> list[Result] | None:
        """What `function` gives, or None where memory runs out: outside of `except`, so that it is free again."""
        try:
            return function(items)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if len(items) == 1:
                raise OutOfMemoryError(
                    f"memory ran out with a single chunk: {str(error).splitlines()[0]} Cut recordings into shorter "
                    "ones: chunks.spacing_seconds=10 chunks.search_seconds=2 chunks.longest_seconds=12"
                ) from error
            return None

    def _advance(self, seconds: float) -> None:
        if self._progress is not None:
            self._progress.update(seconds)


_BAR_SECONDS = 60.0
"""A single recording shorter than this needs no bar."""
_TERMINATED = 143
"""Exit status of what was asked to end."""


@dataclass
class _Job:
    """A recording on its way."""

    task: Task
    recording: Recording
    joiner: Joiner
    joined: SpillBuffer
    told_seconds: float = 0.0
    """Of it, as far as whoever waits was told."""

    def told(self, seconds: float) -> float:
        """Takes note that so many more are told of; gives how many of them there are."""
        more = min(seconds, self.task.seconds - self.told_seconds)
        self.told_seconds += more
        return more

    def pieces(self, lengths: ChunkLengths) -> list[_Piece]:
        """Its chunks, none for silence."""
        if not len(self.recording.audio):
            return []
        chunks = chunking.split(self.recording.audio, lengths, self._stretches())
        starts = {chunk.start for chunk in chunks}
        return [_Piece(self, chunk, chunk.end in starts, chunk is chunks[-1]) for chunk in chunks]

    def _stretches(self) -> list[tuple[int, int]] | None:
        """Where there is sound, if that is asked for."""
        if not self.task.options.split_on_silence:
            return None
        detector = SoundDetector()
        for span in spans(len(self.recording.audio)):
            detector.push(self.recording.audio[span])
        return detector.stretches(CONTENT_SAMPLES)


@dataclass
class _Piece:
    """A chunk of a recording on its way."""

    job: _Job
    chunk: Chunk
    is_followed: bool
    """Whether the next one begins where it ends."""
    is_last: bool

    def window(self, context_samples: int, seed: int) -> Window:
        """What the speaker is given."""
        recording, frame = self.job.recording, self.chunk.start // FRAME_SAMPLES
        f0_hz, cycles = recording.f0_hz, 0.0
        if f0_hz is not None:
            f0_hz, cycles = f0_hz[frame:], cycles_before(f0_hz, frame)
        place = Place(f"{seed} {recording.digest}", frame)
        return Window(self.chunk.window(recording.audio, context_samples), f0_hz, place, cycles)


def fitting(seconds: Sequence[float], batch_seconds: float, first: int = 0) -> int:
    """How many items from the first on fit into a batch, each as long as the longest of them; one at least."""
    longest = 0.0
    for count in range(len(seconds) - first):
        longest = max(longest, seconds[first + count])
        if count and longest * (count + 1) > batch_seconds:
            return count
    return len(seconds) - first


def padded_samples(samples: int) -> int:
    """The next of eight lengths in a doubling.

    Chunks have hundreds of lengths, and on CPUs torch makes kernels for each shape of a batch and keeps a thousand of
    them: hundreds of MB in an hour of speech, and no less time than this padding takes.
    """
    step = 1 << max(samples.bit_length() - 4, 0)
    return -(-samples // step) * step


def share(tasks: Sequence[Task], batch_seconds: float, ranks: int) -> list[list[list[Task]]]:
    """Groups of tasks that are worked on together, of each rank: the longest first, and each to who has least to do."""
    ordered = sorted(tasks, key=lambda task: task.seconds, reverse=True)
    limit = min(batch_seconds, sum(task.seconds for task in tasks) / ranks)
    shares: list[list[list[Task]]] = [[] for _ in range(ranks)]
    load = [0.0] * ranks
    seconds, done = [task.seconds for task in ordered], 0
    while done < len(ordered):
        count = fitting(seconds, limit, done)
        group, done = ordered[done : done + count], done + count
        rank = load.index(min(load))
        shares[rank].append(group)
        load[rank] += sum(task.seconds for task in group)
    return shares


class _Recordings(Dataset):
    """The recordings, read when they are asked for, in whatever process."""

    def __init__(self, tasks: Sequence[Task], owner: ConversionRun) -> None:
        self.tasks, self.folder = tasks, owner.folder
        self.pitch, self.context_samples = owner.pitch, owner.lengths.context_samples

    def __len__(self) -> int:
        return len(self.tasks)

    def __getitem__(self, index: int) -> tuple[Task, Read]:
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
    """Groups of recordings; every recording is read by whichever worker is free."""

    def __init__(self, recordings: Dataset, counts: Sequence[int], num_workers: int) -> None:
        """Sets the order.

        Args:
            recordings: In the order of the groups.
            counts: Of recordings in each group.
            num_workers: Processes that read; 0 reads in this one.
        """
        self.counts = counts
        # With a generator of its own, since it draws a seed for its workers from that of the caller otherwise.
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
