"""Training and held-out slices of a prepared dataset for Lightning."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from lightning import LightningDataModule
from lightning.pytorch.accelerators import CUDAAccelerator
from torch.utils.data import ConcatDataset, DataLoader, Dataset

from rvc_lightning.audio.frames import CONTENT_REPEAT
from rvc_lightning.config.validation import check_whole
from rvc_lightning.data.batch import Batch, Example, collate
from rvc_lightning.data.buckets import LengthBucketSampler
from rvc_lightning.data.dataset import CACHES, CachedSlices, SilentClips, SliceDataset
from rvc_lightning.data.loader import ResumableLoader
from rvc_lightning.data.manifest import ManifestTable, open_manifest, read_header
from rvc_lightning.errors import ConfigurationError, DatasetError, unknown_choice
from rvc_lightning.io.workers import end_with_parent

log = logging.getLogger(__name__)

_LEAST = {"batch_size": 1, "num_workers": 0, "max_frames": 1, "silent_clips": 0, "prefetch_factor": 1}
"""Lowest value of each setting that is a whole number."""


class StepCollator:
    """Collates the slices of one optimizer step into batches, longest first.

    A batch has at most `batch_size` slices, and at most `max_frames` frames with its padding; a slice that is longer
    is a batch of its own.
    """

    def __init__(self, batch_size: int, max_frames: int | None = None) -> None:
        self.batch_size, self.max_frames = batch_size, max_frames

    def __call__(self, examples: Sequence[Example]) -> list[Batch]:
        """Examples of one step -> its batches."""
        rest, batches = sorted(examples, key=lambda example: example.frames, reverse=True), []
        while rest:
            fitting = self.batch_size if self.max_frames is None else self.max_frames // rest[0].frames
            n_items = min(max(fitting, 1), self.batch_size)
            batches.append(collate(rest[:n_items]))
            rest = rest[n_items:]
        return batches


def split_held_out(rows: ManifestTable, share: float, most_seconds: float) -> tuple[ManifestTable, ManifestTable]:
    """Splits slices into those to train on and those to judge by; whole recordings only.

    The choice hangs on the recordings' names alone, so it stays the same when others are added. At least one
    recording is held out where there are two, and never half of the audio or more.

    Args:
        rows: All slices.
        share: Share of the audio to hold out, 0 to 1; 0 holds out nothing.
        most_seconds: Limit of the audio to hold out.

    Returns:
        Slices to train on, slices held out.
    """
    numbers, recording_of = np.unique(rows.recording, return_inverse=True)
    seconds = np.bincount(recording_of, weights=rows.seconds)
    total, wanted = seconds.sum(), min(share * seconds.sum(), most_seconds)
    is_held_out = np.zeros(len(numbers), dtype=bool)
    taken = 0.0
    for recording, length in enumerate(seconds):
        if taken >= wanted:
            break
        if length > 0 and taken + length < total / 2:
            is_held_out[recording] = True
            taken += length
    chosen = is_held_out[recording_of]
    return rows.part(~chosen), rows.part(chosen)


class RVCDataModule(LightningDataModule):
    """The slices of a prepared dataset, those of similar length batched together."""

    def __init__(  # noqa: PLR0913 - each is a setting of conf/data
        self,
        folder: Path | str,
        *,
        segment_frames: int,
        batch_size: int = 8,
        accumulate_grad_batches: int = 1,
        num_workers: int = 2,
        held_out: float = 0.05,
        held_out_seconds: float = 120.0,
        bucket_boundaries: Sequence[int] = (),
        max_frames: int = 900,
        max_batch_frames: int | None = None,
        silent_clips: int = 0,
        cache: str = "none",
        prefetch_factor: int = 2,
        seed: int = 0,
    ) -> None:
        """Remembers the settings; the manifest is read in `setup`.

        Args:
            folder: The prepared dataset.
            segment_frames: Shorter slices cannot be trained on and are left out, with a warning that says how many.
            batch_size: Slices in a batch of one device.
            accumulate_grad_batches: Batches that one optimizer step is made of.
            num_workers: Loading processes.
            held_out: Share of the audio held out for validation.
            held_out_seconds: Most audio held out.
            bucket_boundaries: Inner borders of the length buckets in frames.
            max_frames: Longer slices are cut to this.
            max_batch_frames: Most frames of a batch with its padding; batches with more are cut. None for no limit.
            silent_clips: Clips of silence that each speaker gets to train on.
            cache: 'none' reads slices each time, 'memory' once.
            prefetch_factor: Steps that each loading process is ahead.
            seed: Of the shuffling.

        Raises:
            ConfigurationError: A number is no whole one or out of its range, or there is no such `cache`.
        """
        super().__init__()
        self.folder = Path(folder)
        self.segment_frames, self.max_frames = segment_frames, max_frames
        self.batch_size, self.accumulate_grad_batches = batch_size, accumulate_grad_batches
        self.num_workers, self.bucket_boundaries, self.seed = num_workers, tuple(bucket_boundaries), seed
        self.max_batch_frames, self.cache, self.prefetch_factor = max_batch_frames, cache, prefetch_factor
        self.held_out, self.held_out_seconds, self.silent_clips = held_out, held_out_seconds, silent_clips
        self._check()
        self.training_rows = ManifestTable.of([])
        self.held_out_rows = ManifestTable.of([])

    def _check(self) -> None:
        """Raises ConfigurationError for a number that is no whole one or out of its range, or an unknown cache."""
        for name, least in _LEAST.items():
            check_whole(f"data.{name}", getattr(self, name), least)
        if self.max_batch_frames is not None:
            check_whole("data.max_batch_frames", self.max_batch_frames, 1)
        for name, most in (("held_out", 1.0), ("held_out_seconds", math.inf)):
            share = getattr(self, name)
            if not isinstance(share, int | float) or isinstance(share, bool) or not 0 <= share <= most:
                raise ConfigurationError(f"data.{name}={share!r}: choose a number from 0 to {most:g}")
        if not all(isinstance(border, int) for border in self.bucket_boundaries):
            raise ConfigurationError(
                f"data.bucket_boundaries={list(self.bucket_boundaries)}: choose whole numbers of frames"
            )
        if self.cache not in CACHES:
            raise unknown_choice("data.cache", self.cache, CACHES)

    def setup(self, stage: str | None = None) -> None:
        """Reads the manifest and splits it.

        Raises:
            DatasetError: There is no manifest, or no slice long enough to train on.
        """
        rows = open_manifest(self.folder)
        # Content covers two frames at a time, and up to one frame less than the audio.
        needed = -(-self.segment_frames // CONTENT_REPEAT) * CONTENT_REPEAT
        usable = rows.part(rows.frames > needed)
        if short := len(rows) - len(usable):
            log.warning("%d of %d slices are shorter than a training segment and left out", short, len(rows))
        if not len(usable):
            raise DatasetError(f"'{self.folder}' has no slice longer than {self.segment_frames * 10} ms to train on")
        self.training_rows, self.held_out_rows = split_held_out(usable, self.held_out, self.held_out_seconds)
        if not len(self.held_out_rows):
            log.warning("Nothing is held out for validation: that needs two recordings or more and data.held_out > 0")

    def train_dataloader(self) -> ResumableLoader:
        """Batches of one optimizer step at a time: `list[Batch]`."""
        trainer = self.trainer
        slices: Dataset[Example] = SliceDataset(self.folder, self.training_rows, self.max_frames)
        lengths = np.minimum(self.training_rows.frames, self.max_frames)
        if (silence := self._silence()) is not None:
            slices = ConcatDataset([slices, silence])
            lengths = np.append(lengths, [silence.frames] * len(silence))
        sampler = LengthBucketSampler(
            lengths,
            self.batch_size * self.accumulate_grad_batches,
            self.bucket_boundaries,
            num_replicas=trainer.world_size if trainer else 1,
            rank=trainer.global_rank if trainer else 0,
            seed=self.seed,
        )
        return ResumableLoader(
            CachedSlices(slices) if self.cache == "memory" else slices,
            batch_sampler=sampler,
            collate_fn=StepCollator(self.batch_size, self.max_batch_frames),
            num_workers=self.num_workers,
            worker_init_fn=end_with_parent,
            persistent_workers=self.num_workers > 0,
            prefetch_factor=self.prefetch_factor if self.num_workers > 0 else None,
            # Only there does torch pin memory; elsewhere it warns.
            pin_memory=trainer is not None and isinstance(trainer.accelerator, CUDAAccelerator),
        )

    def _silence(self) -> SilentClips | None:
        """Clips of silence to train on, or None. Raises DatasetError where they are wanted of a dataset without any."""
        if self.silent_clips == 0:
            return None
        header = read_header(self.folder)
        if header.silence is None:
            raise DatasetError(
                f"'{self.folder}' was prepared without silence (by another tool, or an earlier version): prepare the "
                "recordings again, or set data.silent_clips=0"
            )
        return SilentClips(
            self.folder / header.silence, len(header.speakers), self.silent_clips, header.sample_rate, self.max_frames
        )

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        """Held-out slices in batches of similar length; no loader where nothing is held out."""
        if not len(self.held_out_rows):
            return []
        rows = sorted(self.held_out_rows, key=lambda row: (-row.frames, row.id))
        dataset = SliceDataset(self.folder, rows, self.max_frames)
        return DataLoader(dataset, batch_size=self.batch_size, collate_fn=collate)
