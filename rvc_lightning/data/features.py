"""Pitch and content of slices, computed through `Trainer.predict` and written one file each.

The content encoder and a pitch network are submodules of a LightningModule, so devices, precision and strategy are the
trainer's settings. A pitch extractor of the host runs in the data loader's workers, so all cores work.

Letters: B slices, T samples at 16 kHz, F pitch frames of 10 ms, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import numpy as np
import soundfile
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from rvc_lightning.audio.decode import resample
from rvc_lightning.content.base import SAMPLE_RATE, ContentEncoder, content_lengths
from rvc_lightning.files import write_npy
from rvc_lightning.pitch.base import PitchExtractor, PitchNetwork, PitchTracker, frame_count

# As much audio as one batch may hold, and as many slices; the longest slice decides.
_BATCH_SECONDS = 48.0
_BATCH_SLICES = 16


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


@dataclass
class FeatureBatch:
    """Slices on their way to the networks.

    Attributes:
        tasks: B of them.
        f0_hz: float32 [F] of each, or None where it is there already or a network will find it.
        wav16k: float32 [B, T].
        lengths: int64 [B].
    """

    tasks: list[FeatureTask]
    f0_hz: list[np.ndarray | None]
    wav16k: Tensor
    lengths: Tensor


class Features(NamedTuple):
    """What was computed for a slice; None where that is not asked of it, or came along.

    Attributes:
        f0_hz: [F].
        content: [content frames, C].
    """

    f0_hz: Tensor | None
    content: Tensor | None


class FeatureExtraction(lightning.LightningModule):
    """Encodes content and finds pitch, and writes both with the pitch that came along.

    Values that are not finite are not written: the slice then lacks its features, which the caller reports.
    """

    def __init__(self, encoder: ContentEncoder, pitch: PitchNetwork | None = None) -> None:
        super().__init__()
        self.encoder = encoder
        self.pitch = pitch

    def predict_step(self, batch: FeatureBatch, batch_idx: int) -> list[Features]:
        """What the tasks of [B, T] ask for and the workers have not found: B of them."""
        pitch, content = [None] * len(batch.tasks), [None] * len(batch.tasks)
        if self.pitch is not None and any(task.f0 is not None for task in batch.tasks):
            pitch = _items(self.pitch(batch.wav16k, batch.lengths), frame_count(batch.lengths))
        if any(task.content is not None for task in batch.tasks):
            content = _items(self.encoder(batch.wav16k, batch.lengths), content_lengths(batch.lengths))
        return [Features(*pair) for pair in zip(pitch, content, strict=True)]

    def on_predict_batch_end(self, outputs: Any, batch: FeatureBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Write what each task asks for, each file atomically."""
        for task, f0_hz, computed in zip(batch.tasks, batch.f0_hz, outputs, strict=True):
            if f0_hz is None and computed.f0_hz is not None:
                f0_hz = computed.f0_hz.cpu().numpy()
            if task.f0 is not None and f0_hz is not None:
                _write_finite(task.f0, f0_hz.astype(np.float32))
            if task.content is not None:
                _write_finite(task.content, computed.content.half().cpu().numpy())


def _items(values: Tensor, lengths: Tensor) -> list[Any]:
    """[B, frames, ...] -> B of [length, ...]."""
    return [item[:length] for item, length in zip(values, lengths.tolist(), strict=True)]


class _SliceDataset(Dataset):
    """Slices at 16 kHz with the pitch that an extractor of the host finds in them."""

    def __init__(self, tasks: Sequence[FeatureTask], pitch: PitchExtractor | None) -> None:
        self.tasks = tasks
        self.pitch = pitch

    def __len__(self) -> int:
        return len(self.tasks)

    def __getitem__(self, index: int) -> tuple[FeatureTask, np.ndarray, np.ndarray | None]:
        task = self.tasks[index]
        audio, sample_rate = soundfile.read(task.audio, dtype="float32")
        wav16k = resample(audio, sample_rate, SAMPLE_RATE)
        return task, wav16k, None if task.f0 is None or self.pitch is None else self.pitch(wav16k)


def extract_features(
    tasks: Sequence[FeatureTask],
    pitch: PitchTracker,
    encoder: ContentEncoder,
    trainer: lightning.Trainer,
    num_workers: int,
) -> None:
    """Compute and write the features that the tasks ask for.

    Args:
        tasks: at least one; slices of like length share a batch whatever their order here.
        pitch: runs in the workers, or on the trainer's device if it is a network.
        encoder: runs on the trainer's device.
        trainer: a fresh one, or one of which nothing is expected later.
        num_workers: processes that read slices and find pitch; 0 does it in this process.
    """
    network, on_host = (pitch, None) if isinstance(pitch, PitchNetwork) else (None, pitch)
    ordered = sorted(tasks, key=lambda task: (task.content is None, task.seconds))
    longest_seconds = max(task.seconds for task in ordered)
    loader = DataLoader(
        _SliceDataset(ordered, on_host),
        batch_size=int(min(max(_BATCH_SECONDS / longest_seconds, 1), _BATCH_SLICES)),
        num_workers=num_workers,
        collate_fn=_collate,
    )
    trainer.predict(FeatureExtraction(encoder, network), loader, return_predictions=False)
    trainer.strategy.barrier("features")


def _collate(items: list[tuple[FeatureTask, np.ndarray, np.ndarray | None]]) -> FeatureBatch:
    tasks, waves, pitches = zip(*items, strict=True)
    return FeatureBatch(
        tasks=list(tasks),
        f0_hz=list(pitches),
        wav16k=pad_sequence([torch.from_numpy(wave) for wave in waves], batch_first=True),
        lengths=torch.tensor([len(wave) for wave in waves]),
    )


def _write_finite(path: Path, values: np.ndarray) -> None:
    if np.isfinite(values).all():
        write_npy(path, values)
