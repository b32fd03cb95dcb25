"""Batches of slices of similar length, the same number on every rank."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler


class LengthBucketSampler(Sampler[list[int]]):
    """Shuffled batches of slices from the same length bucket, or from neighbouring ones at the end of a bucket.

    Every epoch contains each slice once, on one rank; at most `num_replicas - 1` slices are repeated, so that all ranks
    get the same number. The first and the last bucket have no outer boundary.

        shuffle ──▶ sort by bucket ──▶ cut into global batches ──▶ shuffle batches ──▶ deal to ranks by stride

    The first epoch starts with the batch that needs the most memory, so that a lack of memory shows early.
    """

    def __init__(
        self,
        lengths: Sequence[int] | np.ndarray,
        batch_size: int,
        boundaries: Sequence[int],
        *,
        num_replicas: int = 1,
        rank: int = 0,
        seed: int = 0,
    ) -> None:
        """Sort the slices into buckets.

        Args:
            lengths: Frames of every slice.
            batch_size: Slices in a batch of one rank.
            boundaries: Inner boundaries of the buckets in frames, ascending; each belongs to the bucket below it.
            num_replicas: Number of ranks that share the slices.
            rank: Index of this rank.
            seed: Seed of the shuffling; the epoch is added to it.
        """
        self.lengths = torch.as_tensor(lengths)
        self.buckets = torch.bucketize(self.lengths, torch.tensor(list(boundaries), dtype=self.lengths.dtype))
        self.batch_size, self.num_replicas, self.rank, self.seed = batch_size, num_replicas, rank, seed
        self.epoch = 0

    @property
    def sampler(self) -> LengthBucketSampler:
        """This sampler: Lightning only calls `set_epoch` on the `sampler` of a batch sampler."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, which determines the shuffling."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Batches per epoch, on each rank."""
        return -(-len(self.buckets) // (self.batch_size * self.num_replicas))

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the batches of this rank."""
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        order = torch.randperm(len(self.buckets), generator=generator)
        order = order[torch.argsort(self.buckets[order], stable=True)]
        missing = -len(order) % self.num_replicas
        # Repeat from the start, more than once if there are fewer slices than ranks.
        order = order[torch.arange(len(order) + missing) % max(len(order), 1)]
        size = self.batch_size * self.num_replicas
        starts = size * torch.randperm(len(self), generator=generator).numpy()
        if self.epoch == 0:
            largest = self._padded_frames(order)[starts // size].argmax()
            starts = np.concatenate([starts[[largest]], np.delete(starts, largest)])
        for start in starts:
            yield order[start + self.rank : start + size : self.num_replicas].tolist()

    def _padded_frames(self, order: Tensor) -> np.ndarray:
        """Return the frames of each global batch, padding included, [len(self)], for slices in this order."""
        starts = np.arange(0, len(order), self.batch_size * self.num_replicas)
        return np.maximum.reduceat(self.lengths[order].numpy(), starts) * np.diff(starts, append=len(order))
