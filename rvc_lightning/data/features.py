"""Pitch and content of slices, computed through `Trainer.predict` and written one file each.

Pitch extractors are host code: they run in the data loader's workers, so all cores work. The content encoder is a
submodule of a LightningModule, so devices, precision and strategy are the trainer's settings.

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
from rvc_lightning.pitch.base import PitchExtractor

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
    """Slices on their way to the encoder.

    Attributes:
        tasks: B of them.
        f0_hz: float32 [F] of each, or None where it is there already.
        wav16k: float32 [B, T].
        lengths: int64 [B].
    """

    tasks: list[FeatureTask]
    f0_hz: list[np.ndarray | None]
    wav16k: Tensor
    lengths: Tensor


class FeatureExtraction(lightning.LightningModule):
    """Encodes content, and writes it with the pitch that came along.

    Values that are not finite are not written: the slice then lacks its features, which the caller reports.
    """

    def __init__(self, encoder: ContentEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def predict_step(self, batch: FeatureBatch, batch_idx: int) -> list[Tensor]:
        """Encode [B, T] to B of [content frames of the item, C]; [] where all content is there already."""
        if all(task.content is None for task in batch.tasks):
            return []
        content = self.encoder(batch.wav16k, batch.lengths)
        frames = content_lengths(batch.lengths).tolist()
        return [item[:length] for item, length in zip(content, frames, strict=True)]

    def on_predict_batch_end(self, outputs: Any, batch: FeatureBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Write what each task asks for, each file atomically."""
        for task, f0_hz in zip(batch.tasks, batch.f0_hz, strict=True):
            if task.f0 is not None and f0_hz is not None:
                _write_finite(task.f0, f0_hz.astype(np.float32))
        # No outputs where no task asks for content.
        for task, content in zip(batch.tasks, outputs, strict=False):
            if task.content is not None:
                _write_finite(task.content, content.half().cpu().numpy())


class _SliceDataset(Dataset):
    """Slices at 16 kHz with the pitch that is still to be found."""

    def __init__(self, tasks: Sequence[FeatureTask], pitch: PitchExtractor) -> None:
        self.tasks = tasks
        self.pitch = pitch

    def __len__(self) -> int:
        return len(self.tasks)

    def __getitem__(self, index: int) -> tuple[FeatureTask, np.ndarray, np.ndarray | None]:
        task = self.tasks[index]
        audio, sample_rate = soundfile.read(task.audio, dtype="float32")
        wav16k = resample(audio, sample_rate, SAMPLE_RATE)
        return task, wav16k, None if task.f0 is None else self.pitch(wav16k)


def extract_features(
    tasks: Sequence[FeatureTask],
    pitch: PitchExtractor,
    encoder: ContentEncoder,
    trainer: lightning.Trainer,
    num_workers: int,
) -> None:
    """Compute and write the features that the tasks ask for.

    Args:
        tasks: at least one; slices of like length share a batch whatever their order here.
        pitch: runs in the workers.
        encoder: runs on the trainer's device.
        trainer: a fresh one, or one of which nothing is expected later.
        num_workers: processes that read slices and find pitch; 0 does it in this process.
    """
    ordered = sorted(tasks, key=lambda task: (task.content is None, task.seconds))
    longest_seconds = max(task.seconds for task in ordered)
    loader = DataLoader(
        _SliceDataset(ordered, pitch),
        batch_size=int(min(max(_BATCH_SECONDS / longest_seconds, 1), _BATCH_SLICES)),
        num_workers=num_workers,
        collate_fn=_collate,
    )
    trainer.predict(FeatureExtraction(encoder), loader, return_predictions=False)
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
