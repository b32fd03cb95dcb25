"""Conversion of many recordings in batches by `Trainer.predict`, on one or several devices.

    workers    read recordings, measure pitch on the host              ─┐  as many at a time as there are workers
    predict    pitch network ─▶ contour ─▶ chunks ─▶ networks          ─┤  chunks of all recordings of a batch together
               join, level, finish, write                              ─┘  each recording as soon as it is complete

Recordings of similar length share a batch. A result depends neither on the other recordings nor on the number of
devices.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from lightning import LightningModule

from rvc_lightning.audio.frames import CONTENT_SAMPLES, FRAME_SAMPLES, SAMPLE_RATE, frame_count
from rvc_lightning.audio.samples import SpillBuffer, spans
from rvc_lightning.audio.stages import run
from rvc_lightning.cli.progress import Progress
from rvc_lightning.conversion import chunking
from rvc_lightning.conversion.chunking import Chunk, Joiner, reflected
from rvc_lightning.conversion.contour import shape_contour
from rvc_lightning.conversion.finishing import finishing_chain, output_rate, output_samples
from rvc_lightning.conversion.formants import Stretch, cycles_before
from rvc_lightning.conversion.inference import VoiceInference, Window
from rvc_lightning.conversion.lengths import ChunkLengths
from rvc_lightning.conversion.levels import leveled_blocks
from rvc_lightning.conversion.options import ConversionOptions
from rvc_lightning.conversion.positional_noise import Position
from rvc_lightning.conversion.silence import SoundDetector
from rvc_lightning.conversion.source import Recording
from rvc_lightning.conversion.tasks import (
    ConvertedBlocks,
    RecordingDataset,
    RecordingLoader,
    ResultSink,
    Task,
    Throughput,
    fitting_count,
    padded_samples,
    share_tasks,
)
from rvc_lightning.errors import OutOfMemoryError, RVCError
from rvc_lightning.models.memory import is_out_of_memory
from rvc_lightning.pitch.base import Part, PitchExtractor, parts
from rvc_lightning.retrieval.index import RetrievalIndex

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")

_MIN_BAR_SECONDS = 60.0
"""A single recording shorter than this gets no progress bar."""
_TERMINATED = 143
"""Exit status after SIGTERM."""


class ConversionModule(LightningModule):
    """Converts recordings in `Trainer.predict`."""

    # A rank may have no recordings.
    allow_zero_length_dataloader_with_multiple_devices = True

    def __init__(
        self,
        inference: VoiceInference,
        tasks: Sequence[Task],
        options: ConversionOptions,
        sink: ResultSink,
        folder: Path,
        *,
        index: RetrievalIndex | None,
        pitch: PitchExtractor | None,
        lengths: ChunkLengths,
        throughput: Throughput,
    ) -> None:
        """Prepare a conversion, as for `VoiceConverter.run`; `pitch` measures pitch on the host, if given."""
        super().__init__()
        self.inference, self.tasks, self.options, self.sink = inference, tasks, options, sink
        self.folder, self.index, self.pitch, self.lengths = folder, index, pitch, lengths
        self.throughput, self._batch_seconds = throughput, throughput.batch_seconds
        self._progress: Progress | None = None

    def predict_dataloader(self) -> RecordingLoader:
        """Return the batches of this rank; all ranks follow the plan of the first."""
        tasks, self.sink = self.trainer.strategy.broadcast((self.tasks, self.sink))
        batches = share_tasks(tasks, self._batch_seconds, self.trainer.world_size)[self.trainer.global_rank]
        own = [task for batch in batches for task in batch]
        total = sum(task.seconds for task in own)
        has_bar = (len(tasks) > 1 or total >= _MIN_BAR_SECONDS) and self.trainer.is_global_zero
        self._progress = Progress("converting", total, "s", enabled=has_bar)
        recordings = RecordingDataset(own, self.folder, self.pitch, self.lengths.context_samples)
        return RecordingLoader(recordings, [len(batch) for batch in batches], self.throughput.num_workers)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Leave recordings on the host; `VoiceInference` moves their windows."""
        return batch

    def predict_step(
        self, batch: list[tuple[Task, Recording | RVCError | OSError]], batch_idx: int
    ) -> list[Path | None]:
        """Convert the recordings of a batch, write each when it is complete, and return their targets."""
        jobs = []
        for task, recording in batch:
            if isinstance(recording, Recording):
                jobs.append(self._job(task, recording))
            else:
                self.sink.fail(task, recording)
                self._advance(task.seconds)
        self._measure_pitch([job.recording for job in jobs])
        for job in jobs:
            self._shape_contour(job)
        self._convert(jobs)
        return [task.target for task, _ in batch]

    def teardown(self, stage: str) -> None:
        """Wait for all ranks: the first one reports for all."""
        if self._progress is not None:
            self._progress.close()
        self.trainer.strategy.barrier("converted")

    def _job(self, task: Task, recording: Recording) -> _Job:
        config, joined = self.inference.synthesizer.config, SpillBuffer(self.folder)
        samples = recording.samples_at(config.sample_rate)
        joiner = Joiner(joined, self.lengths.context_samples, config.hop_samples, samples)
        return _Job(task, recording, joiner, joined, seconds_left=task.seconds)

    def _measure_pitch(self, recordings: Sequence[Recording]) -> None:
        """Measure the pitch of whole recordings with the pitch network, in parts."""
        if self.inference.pitch is None:
            return
        context = self.lengths.context_samples
        sounding = [recording for recording in recordings if len(recording.audio)]
        items = [(recording, part) for recording in sounding for part in parts(len(recording.audio) + 2 * context)]

        def measure(batch: Sequence[tuple[Recording, Part]]) -> list[np.ndarray]:
            waves = [
                reflected(recording.audio, part.samples.start - context, part.samples.stop - context)
                for recording, part in batch
            ]
            return self.inference.measure_pitch(waves, padded_samples(max(map(len, waves))))

        tracks: dict[int, list[np.ndarray]] = {}
        seconds = [padded_samples(part.samples.stop - part.samples.start) / SAMPLE_RATE for _, part in items]
        for (recording, part), f0_hz in zip(items, self._in_batches(measure, items, seconds), strict=True):
            tracks.setdefault(id(recording), []).append(f0_hz[part.frames])
        for recording in sounding:
            recording.f0_hz = np.concatenate(tracks[id(recording)])

    def _shape_contour(self, job: _Job) -> None:
        """Apply the pitch options to a whole recording."""
        recording = job.recording
        if recording.f0_hz is not None:
            recorded = self._recorded_frames(recording)
            recording.f0_hz = shape_contour(recording.f0_hz, job.task.options, recording.curve, recorded)

    def _convert(self, jobs: Sequence[_Job]) -> None:
        """Convert all chunks of the recordings, and finish each recording after its last chunk."""
        pieces = [piece for job in jobs for piece in job.pieces(self.lengths)]
        for job in jobs:
            if not len(job.recording.audio):
                self._finish(job)
        context = self.lengths.context_samples
        slowness = max(1.0, float(Stretch.by(self.options.formant_semitones).ratio))
        seconds = [
            slowness * padded_samples(piece.chunk.end - piece.chunk.start + 2 * context) / SAMPLE_RATE
            for piece in pieces
        ]

        def convert(batch: Sequence[_Piece]) -> list[np.ndarray]:
            windows = [piece.window(context, self.options) for piece in batch]
            samples = padded_samples(max(len(window.audio) for window in windows))
            return self.inference.convert(windows, self.options, self.index, samples=samples)

        for piece, audio in zip(pieces, self._in_batches(convert, pieces, seconds), strict=True):
            piece.job.joiner.add(audio, piece.chunk, is_followed=piece.is_followed)
            self._advance(piece.job.take_seconds((piece.chunk.end - piece.chunk.start) / SAMPLE_RATE))
            if piece.is_last:
                self._finish(piece.job)

    def _finish(self, job: _Job) -> None:
        """Level, finish and write a complete recording."""
        rate, recording, options = self.inference.synthesizer.config.sample_rate, job.recording, job.task.options
        job.joiner.end()
        try:
            blocks = leveled_blocks(job.joined, rate, recording.audio, options.volume_envelope)
            samples = output_samples(options, rate, recording.samples, recording.sample_rate)
            finished = run(finishing_chain(options, rate, samples), blocks)
            result = ConvertedBlocks(
                finished, output_rate(options, rate), self._output_pitch(recording), recording.file_digest
            )
            self.sink.write(job.task, result)
        except (RVCError, OSError) as error:
            self.sink.fail(job.task, error)
        job.joined.remove()
        recording.audio.remove()
        self._advance(job.seconds_left)

    def _output_pitch(self, recording: Recording) -> np.ndarray | None:
        """Return the pitch of a recording without its reflected ends; None for voices without pitch."""
        if self.pitch is None and self.inference.pitch is None:
            return None
        recorded = self._recorded_frames(recording)
        silence = np.zeros(recorded.stop - recorded.start, np.float32)
        return silence if recording.f0_hz is None else recording.f0_hz[recorded]

    def _recorded_frames(self, recording: Recording) -> slice:
        """Return the frames of a recording between its reflected ends."""
        first = self.lengths.context_samples // FRAME_SAMPLES
        return slice(first, first + frame_count(recording.samples_at(SAMPLE_RATE)))

    def _in_batches(
        self, function: Callable[[Sequence[Item]], list[Result]], items: Sequence[Item], seconds: Sequence[float]
    ) -> Iterator[Result]:
        """Yield the result of `function` for each item, in batches of up to `_batch_seconds`.

        Halves the batches when memory runs out. Raises OutOfMemoryError if a single item does not fit.
        """
        done = 0
        while done < len(items):
            if self.trainer.received_sigterm:
                raise SystemExit(_TERMINATED)
            count = fitting_count(seconds, self._batch_seconds, done)
            results = _call_unless_out_of_memory(function, items[done : done + count])
            if results is None:
                self._batch_seconds = max(seconds[done : done + count]) * max(count // 2, 1)
                log.warning("Out of memory with %d chunks per batch; continuing with %d", count, max(count // 2, 1))
                continue
            yield from results
            done += count

    def _advance(self, seconds: float) -> None:
        if self._progress is not None:
            self._progress.update(seconds)


def _call_unless_out_of_memory(
    function: Callable[[Sequence[Item]], list[Result]], items: Sequence[Item]
) -> list[Result] | None:
    """Call `function`; return None, outside of `except` so that the memory is free again, if memory runs out."""
    try:
        return function(items)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        if len(items) == 1:
            raise OutOfMemoryError(
                f"out of memory with a single chunk: {str(error).splitlines()[0]} Use shorter chunks: "
                "chunks.spacing_seconds=10 chunks.search_seconds=2 chunks.longest_seconds=12"
            ) from error
        return None


@dataclass
class _Job:
    """A recording in progress."""

    task: Task
    recording: Recording
    joiner: Joiner
    joined: SpillBuffer
    """Output so far."""
    seconds_left: float
    """Seconds that the progress bar has not counted yet."""

    def take_seconds(self, seconds: float) -> float:
        """Subtract up to `seconds` from those left, and return how many."""
        seconds = min(seconds, self.seconds_left)
        self.seconds_left -= seconds
        return seconds

    def pieces(self, lengths: ChunkLengths) -> list[_Piece]:
        """Return the chunks; none for silence."""
        if not len(self.recording.audio):
            return []
        chunks = chunking.split(self.recording.audio, lengths, self._parts_with_sound())
        starts = {chunk.start for chunk in chunks}
        return [_Piece(self, chunk, chunk.end in starts, chunk is chunks[-1]) for chunk in chunks]

    def _parts_with_sound(self) -> list[tuple[int, int]] | None:
        """Return the parts with sound if `split_on_silence` is set, else None."""
        if not self.task.options.split_on_silence:
            return None
        detector = SoundDetector()
        for span in spans(len(self.recording.audio)):
            detector.push(self.recording.audio[span])
        return detector.parts(CONTENT_SAMPLES)


@dataclass
class _Piece:
    """A chunk of a recording in progress."""

    job: _Job
    chunk: Chunk
    is_followed: bool
    """Whether the next chunk starts where this one ends."""
    is_last: bool

    def window(self, context_samples: int, options: ConversionOptions) -> Window:
        """Return the input of the networks."""
        recording, frame = self.job.recording, self.chunk.start // FRAME_SAMPLES
        f0_hz, cycles, stretch = recording.f0_hz, 0.0, Stretch.by(options.formant_semitones)
        if f0_hz is not None:
            f0_hz, cycles = f0_hz[frame:], cycles_before(stretch.contour(f0_hz, 0), stretch.count(0, frame))
        position = Position(f"{options.seed} {recording.digest}", frame)
        return Window(self.chunk.window(recording.audio, context_samples), f0_hz, position, cycles)
