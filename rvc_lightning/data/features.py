"""Pitch and content of slices, computed by `Trainer.predict` and written to one file each.

The content encoder, and a pitch extractor that is a network, are submodules of a LightningModule, so device, precision
and strategy are settings of the trainer. Other pitch extractors run in the workers of the data loader.

    slices without features ──▶ longest first ──▶ batches of similar length ──▶ dealt to ranks by stride

Legend: B slices, T samples at 16 kHz, F pitch frames of 10 ms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import lightning
import numpy as np
import soundfile
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from rvc_lightning.audio.decode import resample
from rvc_lightning.audio.frames import (
    CONTENT_SAMPLES,
    SAMPLE_RATE,
    WINDOW_SAMPLES,
    content_frames,
    content_lengths,
    frame_count,
)
from rvc_lightning.audio.soundfile_reader import sound_path
from rvc_lightning.cli.progress import Progress
from rvc_lightning.config.options import Settings, option
from rvc_lightning.content.base import ContentEncoder
from rvc_lightning.data.layout import Layout, existing_slices, recording_path
from rvc_lightning.data.slice_files import SlicingResult
from rvc_lightning.errors import DatasetError, OutOfMemoryError
from rvc_lightning.io.files import write_npy
from rvc_lightning.io.ranks import errors_of_ranks
from rvc_lightning.io.threads import threads_per_operation
from rvc_lightning.io.workers import end_with_parent
from rvc_lightning.models.memory import is_out_of_memory
from rvc_lightning.pitch.base import PitchExtractor, PitchNetwork, PitchTracker

_LONG_SAMPLES = 20 * SAMPLE_RATE
"""On the CPU, the networks process longer slices one by one on all threads."""


@dataclass(frozen=True, kw_only=True)
class ExtractionConfig(Settings, group="preparation"):
    """How slices are read and batched for the networks."""

    batch_seconds: float = option(
        help="Audio in a batch, padding included; a longer slice is its own batch", unit="s", min=1e-3, max=86_400
    )
    batch_slices: int = option(help="Maximum number of slices in a batch", min=1)
    num_workers: int = option(
        help="Processes of each rank that read slices and extract pitch; 0 uses the process of the rank", min=0
    )


class FeatureTask(NamedTuple):
    """A slice that lacks features. A tuple, since Lightning rejects frozen dataclasses in a batch."""

    audio: str
    """Path of the slice."""
    seconds: float
    f0: str | None
    """File to write the pitch to; None if it exists."""
    content: str | None
    """File to write the content to; None if it exists."""
    speed: float = 1.0
    """Speed of playback for the content."""


def missing_features(
    layout: Layout, folder: str, result: SlicingResult, speeds: Sequence[float] = ()
) -> Iterator[FeatureTask]:
    """Yield the slices of a recording that lack features.

    Args:
        layout: Folders of the dataset.
        folder: Name of the recording's folders.
        result: Slices of the recording.
        speeds: Other speeds of playback at which content is extracted.
    """
    with_pitch = existing_slices(layout.pitch / recording_path(folder))
    for speed in (1.0, *speeds):
        with_content = existing_slices(layout.content_folder(speed) / recording_path(folder))
        for entry in result.slices:
            needs_pitch, needs_content = speed == 1 and entry.number not in with_pitch, entry.number not in with_content
            if needs_pitch or needs_content:
                audio, f0, content = map(str, layout.slice_paths(folder, entry.number, speed))
                yield FeatureTask(
                    audio,
                    entry.samples / layout.sample_rate,
                    f0 if needs_pitch else None,
                    content if needs_content else None,
                    speed,
                )


@dataclass
class FeatureBatch:
    """Slices for the networks."""

    tasks: list[FeatureTask]
    """B slices, longest first, and the files to write."""
    f0_hz: list[np.ndarray | None]
    """Pitch of each slice, float32 [F]; None if it exists or a network extracts it."""
    wav16k: Tensor
    """Audio, float32 [B, T]."""
    lengths: Tensor
    """Samples of each slice, int64 [B]."""
    pitch_seconds: float
    """Time spent on pitch in the worker."""


class FeatureExtraction(lightning.LightningModule):
    """Module that extracts pitch and content of slices, and writes them.

    Values that are not finite are not written: the slice then lacks features, which the caller reports.
    """

    def __init__(
        self, tasks: Sequence[FeatureTask], encoder: ContentEncoder, pitch: PitchTracker, config: ExtractionConfig
    ) -> None:
        """Store the networks; a pitch extractor that is not a network runs in the workers."""
        super().__init__()
        self.tasks, self.config = tasks, config
        self.encoder = encoder
        self.pitch_network = pitch if isinstance(pitch, PitchNetwork) else None
        self.pitch_extractor = pitch if not isinstance(pitch, PitchNetwork) else None
        # Audio and time in seconds of pitch and content. In shared memory, since spawned processes update it.
        self.timing = torch.zeros(2, 2).share_memory_()

    def setup(self, stage: str) -> None:
        """Receive the tasks from the first rank."""
        self.tasks = self.trainer.strategy.broadcast(self.tasks)

    def predict_dataloader(self) -> DataLoader:
        """Return the batches of this rank, `FeatureBatch`."""
        batches = batch_slices(self.tasks, self.config)[self.trainer.global_rank :: self.trainer.world_size]
        # Lightning skips `on_predict_end` on a rank without batches, for which the others would wait there.
        batches = batches or [[]]
        seconds = sum(task.seconds for batch in batches for task in batch)
        self._progress = Progress("pitch and content", seconds, "s", enabled=self.trainer.is_global_zero)
        return DataLoader(
            _BatchDataset(batches, self.pitch_extractor),
            batch_size=None,
            num_workers=self.config.num_workers,
            collate_fn=_unchanged,
            worker_init_fn=end_with_parent,
        )

    def predict_step(self, batch: FeatureBatch, batch_idx: int) -> float:
        """Compute and write the missing features of a batch, and return its seconds of audio.

        Raises:
            OutOfMemoryError: The memory of device or host does not suffice for the batch.
        """
        try:
            return self._extract(batch)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            n_slices, longest = batch.wav16k.shape[0], batch.wav16k.shape[1] / SAMPLE_RATE
            raise OutOfMemoryError(
                f"out of memory while extracting features of {n_slices} slices of up to {longest:.1f} s: "
                f"{str(error).splitlines()[0]} Use smaller batches: preparation.batch_slices={max(n_slices // 2, 1)}. "
                "Finished features are kept"
            ) from error

    def _extract(self, batch: FeatureBatch) -> float:
        audio_seconds = sum(task.seconds for task in batch.tasks)
        if any(task.f0 for task in batch.tasks):
            started_at = perf_counter()
            network = self.pitch_network
            f0_hz = batch.f0_hz if network is None else self._by_slice(network, batch, frame_count)
            self.timing[0] += torch.tensor([audio_seconds, batch.pitch_seconds + perf_counter() - started_at])
            _write([task.f0 for task in batch.tasks], f0_hz, np.float32)
        if any(task.content for task in batch.tasks):
            started_at = perf_counter()
            content = [
                _at_original_times(values, task)
                for values, task in zip(self._by_slice(self.encoder, batch, content_lengths), batch.tasks, strict=True)
            ]
            self.timing[1] += torch.tensor([audio_seconds, perf_counter() - started_at])
            _write([task.content for task in batch.tasks], content, np.float16)
        self._progress.update(audio_seconds)
        return audio_seconds

    def _by_slice(
        self, network: Callable[[Tensor, Tensor], Tensor], batch: FeatureBatch, frames: Callable[[Tensor], Tensor]
    ) -> list[np.ndarray]:
        """Apply a network to [B, T] and [B], and return [frames, ...] of each slice.

        On the CPU each slice is its own batch: the last bits depend on the padding and on the number of threads, and
        the batches of a resumed or shared preparation differ. The operations on a short slice are too short to be split
        among threads. Several slices are therefore processed in parallel, each on one thread.
        """
        waves, lengths = batch.wav16k, batch.lengths
        if waves.device.type != "cpu":
            return _unpad(network(waves, lengths), frames(lengths))
        singles = [(waves[i : i + 1, :length], lengths[i : i + 1]) for i, length in enumerate(lengths.tolist())]

        def apply(single: tuple[Tensor, Tensor]) -> np.ndarray:
            # Both modes are those of a thread.
            with torch.inference_mode(), self.trainer.precision_plugin.forward_context():
                return _unpad(network(*single), frames(single[1]))[0]

        n_long = sum(length > _LONG_SAMPLES for length in lengths.tolist())
        arrays = [apply(single) for single in singles[:n_long]]
        with threads_per_operation(1) as n_threads, ThreadPoolExecutor(n_threads) as pool:
            return arrays + list(pool.map(apply, singles[n_long:]))

    def on_predict_end(self) -> None:
        """Sum the timing over all ranks."""
        self._progress.close()
        timing = torch.tensor(self.timing.tolist(), device=self.device)
        self.timing.copy_(self.trainer.strategy.reduce(timing, reduce_op="sum"))


def _write(paths: list[str | None], values: list[Any], dtype: type) -> None:
    """Write the arrays that have a path and are finite in `dtype`."""
    for path, array in zip(paths, values, strict=True):
        if path is None or array is None:
            continue
        with np.errstate(over="ignore"):
            converted = array.astype(dtype)
        if np.isfinite(converted).all():
            write_npy(path, converted)


def _at_original_times(content: np.ndarray, task: FeatureTask) -> np.ndarray:
    """Interpolate the content of a slice, [frames, C], at the frames of the slice at its own speed."""
    if task.speed == 1:
        return content
    frames = content_frames(round(task.seconds * SAMPLE_RATE))
    centers = (CONTENT_SAMPLES * np.arange(frames) + WINDOW_SAMPLES / 2) / task.speed
    position = np.clip((centers - WINDOW_SAMPLES / 2) / CONTENT_SAMPLES, 0, len(content) - 1)
    first = np.minimum(position.astype(int), len(content) - 2)
    share = (position - first)[:, None]
    return content[first] * (1 - share) + content[first + 1] * share


def _unpad(values: Tensor, lengths: Tensor) -> list[np.ndarray]:
    """[B, frames, ...] -> B arrays [length, ...]."""
    return [item[:length].numpy() for item, length in zip(values.float().cpu(), lengths.tolist(), strict=True)]


def batch_slices(tasks: Sequence[FeatureTask], config: ExtractionConfig) -> list[list[FeatureTask]]:
    """Return batches of slices, longest first, so that a lack of memory shows early.

    Slices that lack only their pitch are batched separately from those for the encoder.
    """
    batches: list[list[FeatureTask]] = []
    for for_encoder in (True, False):
        rest = [task for task in tasks if (task.content is not None) == for_encoder]
        rest.sort(key=lambda task: task.seconds, reverse=True)
        first = 0
        while first < len(rest):
            fitting = int(config.batch_seconds // max(rest[first].seconds, 1e-3))
            batches.append(rest[first : first + min(max(fitting, 1), config.batch_slices)])
            first += len(batches[-1])
    return batches


class _BatchDataset(Dataset):
    """Batches of slices at 16 kHz, with their pitch if the extractor is not a network."""

    def __init__(self, batches: list[list[FeatureTask]], pitch: PitchExtractor | None) -> None:
        self.batches, self.pitch = batches, pitch

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> FeatureBatch:
        tasks = self.batches[index]
        waves = [_wav16k(task) for task in tasks]
        started_at = perf_counter()
        f0_hz = [
            None if task.f0 is None or self.pitch is None else self.pitch(wave)
            for task, wave in zip(tasks, waves, strict=True)
        ]
        return FeatureBatch(
            tasks=tasks,
            f0_hz=f0_hz,
            wav16k=pad_sequence([torch.from_numpy(wave) for wave in waves], batch_first=True)
            if waves
            else torch.empty(0),
            lengths=torch.tensor([len(wave) for wave in waves]),
            pitch_seconds=perf_counter() - started_at,
        )


def _wav16k(task: FeatureTask) -> np.ndarray:
    """Read a slice as float32 [T]. Raises DatasetError if it cannot be read."""
    try:
        audio, sample_rate = soundfile.read(sound_path(Path(task.audio)), dtype="float32")
    except (OSError, soundfile.LibsndfileError) as error:
        raise DatasetError(
            f"the slice '{task.audio}' cannot be read ({error}). The folder of the dataset must be on a disk that all "
            "ranks share; if it is, prepare again"
        ) from error
    return resample(audio, round(sample_rate * task.speed), SAMPLE_RATE)


def _unchanged(batch: Any) -> Any:
    return batch


def extract_features(
    tasks: Sequence[FeatureTask],
    pitch: PitchTracker,
    encoder: ContentEncoder,
    trainer: lightning.Trainer,
    config: ExtractionConfig,
) -> dict[str, float]:
    """Compute and write missing features; every rank does its share and waits for the others.

    Args:
        tasks: Slices that lack features; only those of the first rank are used.
        pitch: Extractor, which runs in the workers, or on the trainer's device if it is a network.
        encoder: Content encoder, which runs on the trainer's device.
        trainer: Trainer for this prediction only.
        config: How slices are read and batched.

    Returns:
        Seconds of audio per second on one process or device, by stage; empty on ranks without the result.

    Raises:
        DatasetError: A slice cannot be read.
    """
    extraction = FeatureExtraction(tasks, encoder, pitch, config)
    with errors_of_ranks():
        trainer.predict(extraction, return_predictions=False)
    trainer.strategy.barrier("features")
    speeds = zip(("pitch", "content"), extraction.timing.tolist(), strict=True)
    return {stage: audio / max(seconds, 1e-9) for stage, (audio, seconds) in speeds if audio > 0}
