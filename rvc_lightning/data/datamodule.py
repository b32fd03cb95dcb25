"""Training and held-out slices of a prepared dataset for Lightning."""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lightning import LightningDataModule
from lightning.pytorch.accelerators import CUDAAccelerator
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.data import ConcatDataset, DataLoader

from rvc_lightning.audio.frames import CONTENT_REPEAT
from rvc_lightning.cli.columns import pluralize
from rvc_lightning.config.options import Settings, option
from rvc_lightning.data.batch import Batch, Example, collate
from rvc_lightning.data.buckets import LengthBucketSampler
from rvc_lightning.data.dataset import CACHES, CachedSlices, SilentClips, SliceDataset
from rvc_lightning.data.layout import content_at_speed
from rvc_lightning.data.loader import ResumableLoader
from rvc_lightning.data.manifest import (
    EXCLUDED_NAME,
    ManifestRow,
    read_excluded,
    read_header,
    read_manifest,
    read_used_rows,
)
from rvc_lightning.errors import ConfigurationError, DatasetError
from rvc_lightning.io.workers import leave_interrupts_to_parent

logger = logging.getLogger(__name__)
_warn = rank_zero_only(logger.warning)

AUTO = "auto"
"""The `batch_size` that is found before the training, see `rvc_lightning.training.batch_size`."""


class StepCollator:
    """Collate function that splits the slices of one optimizer step into batches, longest first.

    A batch has at most `batch_size` slices, and at most `max_frames` frames with its padding; a longer slice is its own
    batch.
    """

    def __init__(self, batch_size: int, max_frames: int | None = None) -> None:
        self.batch_size, self.max_frames = batch_size, max_frames

    def __call__(self, examples: Sequence[Example]) -> list[Batch]:
        """Return the batches of a step."""
        rest, batches = sorted(examples, key=lambda example: example.frames, reverse=True), []
        while rest:
            fitting = self.batch_size if self.max_frames is None else self.max_frames // rest[0].frames
            n_items = min(max(fitting, 1), self.batch_size)
            batches.append(collate(rest[:n_items]))
            rest = rest[n_items:]
        return batches


def split_held_out(
    rows: Sequence[ManifestRow], share: float, max_seconds: float
) -> tuple[list[ManifestRow], list[ManifestRow]]:
    """Split slices into training and validation by whole recordings.

    The choice depends on the names of the recordings only, so it is the same after others are added. Recordings are
    added until both limits are reached; one with half of the audio or more is never held out.

    Args:
        rows: All slices.
        share: Share of the audio to hold out, 0 to 1; 0 holds out nothing.
        max_seconds: Length of held-out audio from which on no further recording is held out.

    Returns:
        Slices for training, slices for validation.
    """
    seconds: defaultdict[str, float] = defaultdict(float)
    for row in rows:
        seconds[row.recording] += row.seconds
    total = sum(seconds.values())
    held_out, held_out_seconds = set(), 0.0
    for recording in sorted(seconds, key=lambda name: hashlib.sha256(name.encode(errors="surrogatepass")).digest()):
        if held_out_seconds >= min(share * total, max_seconds):
            break
        if seconds[recording] > 0 and held_out_seconds + seconds[recording] < total / 2:
            held_out.add(recording)
            held_out_seconds += seconds[recording]
    return [row for row in rows if row.recording not in held_out], [row for row in rows if row.recording in held_out]


@dataclass(frozen=True, kw_only=True)
class DataConfig(Settings, group="data"):
    """How slices are batched and loaded."""

    segment_frames: int = option(help="Length of a training segment; shorter slices are not used", unit="frames", min=1)
    batch_size: int | str = option(
        help="Slices in a batch of one device; auto finds the largest batch that fits", min=1, choices=(AUTO,)
    )
    step_slices: int = option(help="Slices of one optimizer step of one device, with batch_size=auto", min=1)
    accumulate_grad_batches: int = option(help="Batches of one optimizer step", min=1)
    num_workers: int = option(help="Worker processes; 0 loads in the training process", min=0)
    held_out: float = option(help="Share of the audio held out for validation", min=0, max=1)
    held_out_seconds: float = option(
        help="Length of held-out audio from which on no further recording is held out", unit="s", min=0
    )
    bucket_boundaries: list[int] = option(help="Inner boundaries of the length buckets in frames")
    max_frames: int = option(help="Maximum length of a slice; longer ones are truncated", unit="frames", min=1)
    max_batch_frames: int | None = option(
        help="Maximum frames of a batch, padding included; larger batches are split", unit="frames", min=1
    )
    silent_clips: int = option(help="Clips of silence for each speaker", min=0)
    cache: str = option(help="none: read slices from disk each time; memory: read them once", choices=CACHES)
    prefetch_factor: int = option(help="Steps that each worker loads in advance", min=1)
    seed: int = option(help="Seed of the shuffling", min=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_frames < self.segment_frames:
            raise ConfigurationError(
                f"data.max_frames={self.max_frames}: choose at least model.segment_frames={self.segment_frames}"
            )


class RVCDataModule(LightningDataModule):
    """The slices of a prepared dataset, batched by length."""

    def __init__(self, folder: Path | str, **settings: Any) -> None:
        """Check the settings, the fields of `DataConfig`; the manifest in `folder` is read in `setup`."""
        super().__init__()
        self.folder = Path(folder)
        self.config = DataConfig.from_values(settings)
        self.training_rows: list[ManifestRow] = []
        self.held_out_rows: list[ManifestRow] = []

    def setup(self, stage: str | None = None) -> None:
        """Read and split the manifest.

        Raises:
            DatasetError: The manifest is missing or damaged, or no slice is long enough to train on.
        """
        config, rows = self.config, read_used_rows(self.folder)
        if excluded := read_excluded(self.folder):
            self._report_excluded(excluded)
        # Content covers two frames at a time, and up to one frame less than the audio.
        needed = -(-config.segment_frames // CONTENT_REPEAT) * CONTENT_REPEAT
        usable = [row for row in rows if row.frames > needed]
        if short := len(rows) - len(usable):
            _warn("%d of %d slices are shorter than a training segment and are not used", short, len(rows))
        if not usable:
            raise DatasetError(f"'{self.folder}' has no slice longer than {config.segment_frames * 10} ms to train on")
        training_rows, self.held_out_rows = split_held_out(usable, config.held_out, config.held_out_seconds)
        speeds = (1.0, *read_header(self.folder).content_speeds)
        self.training_rows = [
            replace(row, content=content_at_speed(row.content, speed))
            for row in training_rows
            for _ in range(row.repeats)
            for speed in speeds
        ]
        if not self.held_out_rows:
            _warn(
                "no recording is held out for validation: this requires data.held_out>0 and a recording with less than "
                "half of the audio"
            )

    def _report_excluded(self, excluded: set[str]) -> None:
        """Log how many slices are excluded, and warn about lines without a slice, as after a change of the slicing."""
        path, found = self.folder / EXCLUDED_NAME, excluded & {row.audio for row in read_manifest(self.folder)}
        rank_zero_only(logger.info)("'%s' excludes %s", path, pluralize(len(found), "slice"))
        if unknown := sorted(excluded - found):
            _warn("'%s' contains paths without a slice, %d in all: '%s'", path, len(unknown), unknown[0])

    def longest_batch(self, n_items: int) -> Batch:
        """Return the batch of the longest training slices, repeated if there are fewer than `n_items`."""
        rows = sorted(self.training_rows, key=lambda row: row.frames, reverse=True)[:n_items]
        slices = SliceDataset(self.folder, rows, self.config.max_frames)
        return collate([slices[number % len(rows)] for number in range(n_items)])

    def train_dataloader(self) -> ResumableLoader:
        """Return a loader of the batches of one optimizer step at a time, `list[Batch]`."""
        config, trainer = self.config, self.trainer
        slices: SliceDataset | ConcatDataset[Example] = SliceDataset(self.folder, self.training_rows, config.max_frames)
        lengths = [min(row.frames, config.max_frames) for row in self.training_rows]
        if config.silent_clips:
            silence = self._silent_clips()
            slices = ConcatDataset([slices, silence])
            lengths += [silence.frames] * len(silence)
        sampler = LengthBucketSampler(
            lengths,
            self._batch_size * config.accumulate_grad_batches,
            config.bucket_boundaries,
            num_replicas=trainer.world_size if trainer else 1,
            rank=trainer.global_rank if trainer else 0,
            seed=config.seed,
        )
        return ResumableLoader(
            CachedSlices(slices) if config.cache == "memory" else slices,
            batch_sampler=sampler,
            collate_fn=StepCollator(self._batch_size, config.max_batch_frames),
            num_workers=config.num_workers,
            worker_init_fn=leave_interrupts_to_parent,
            persistent_workers=config.num_workers > 0,
            prefetch_factor=config.prefetch_factor if config.num_workers > 0 else None,
            # torch only pins memory with CUDA, and warns otherwise.
            pin_memory=trainer is not None and isinstance(trainer.accelerator, CUDAAccelerator),
        )

    @property
    def _batch_size(self) -> int:
        assert isinstance(self.config.batch_size, int), "'auto' is replaced before the training"
        return self.config.batch_size

    def _silent_clips(self) -> SilentClips:
        config, header = self.config, read_header(self.folder)
        if header.silence is None:
            raise DatasetError(
                f"'{self.folder}' contains no silence, since another tool or an earlier version prepared it: prepare "
                "the recordings again, or set data.silent_clips=0"
            )
        clips = SilentClips(
            self.folder / header.silence,
            range(len(header.speakers)),
            config.silent_clips,
            header.sample_rate,
            config.max_frames,
        )
        if clips.frames < config.segment_frames:
            raise ConfigurationError(
                f"model.segment_frames={config.segment_frames}: choose at most {clips.frames}, the frames of a silent "
                "clip, or data.silent_clips=0"
            )
        return clips

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        """Return a loader of the held-out slices, longest first; no loader if nothing is held out."""
        if not self.held_out_rows:
            return []
        rows = sorted(self.held_out_rows, key=lambda row: (-row.frames, row.id))
        dataset = SliceDataset(self.folder, rows, self.config.max_frames)
        return DataLoader(dataset, batch_size=self._batch_size, collate_fn=collate)
