"""Batches of slices of similar length, the same number on every rank."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler


class LengthBucketSampler(Sampler[list[int]]):
    """Shuffled batches whose members lie in the same length bucket, or in neighbouring ones at a bucket's end.

    Every slice comes once an epoch, on one rank; at most `num_replicas - 1` slices come twice, so that all ranks
    get equally many. Lengths are true frame counts: nothing is too short or too long for a bucket (defect T3).

        shuffle ──▶ order by bucket ──▶ cut into global batches ──▶ shuffle batches ──▶ deal to ranks by stride

    The first epoch begins with the batch that needs most memory, so that a lack of it shows at once.
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
        """Sorts the slices into buckets.

        Args:
            lengths: Frames of every slice.
            batch_size: Slices in a batch of one rank.
            boundaries: Inner borders of the buckets in frames, ascending; a slice on a border lies below it.
            num_replicas: Ranks that share the slices.
            rank: Which of them this is.
            seed: Of the shuffling, with the epoch.
        """
        self.lengths = torch.as_tensor(lengths)
        self.buckets = torch.bucketize(self.lengths, torch.tensor(list(boundaries), dtype=self.lengths.dtype))
        self.batch_size, self.num_replicas, self.rank, self.seed = batch_size, num_replicas, rank, seed
        self.epoch = 0

    @property
    def sampler(self) -> LengthBucketSampler:
        """Itself: Lightning calls `set_epoch` on the `sampler` of a batch sampler, and only there."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Chooses the shuffling of `epoch`."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Batches an epoch, on each rank."""
        return -(-len(self.buckets) // (self.batch_size * self.num_replicas))

    def __iter__(self) -> Iterator[list[int]]:
        """This rank's batches of the epoch."""
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        order = torch.randperm(len(self.buckets), generator=generator)
        order = order[torch.argsort(self.buckets[order], stable=True)]
        missing = -len(order) % self.num_replicas
        # Again from the first on, round and round where there are fewer slices than ranks.
        order = order[torch.arange(len(order) + missing) % max(len(order), 1)]
        size = self.batch_size * self.num_replicas
        starts = size * torch.randperm(len(self), generator=generator).numpy()
        if self.epoch == 0:
            largest = self._frames_with_padding(order)[starts // size].argmax()
            starts = np.concatenate([starts[[largest]], np.delete(starts, largest)])
        for start in starts:
            yield order[start + self.rank : start + size : self.num_replicas].tolist()

    def _frames_with_padding(self, order: Tensor) -> np.ndarray:
        """Frames of each global batch [len(self)], the padding included, of slices in this order."""
        starts = np.arange(0, len(order), self.batch_size * self.num_replicas)
        return np.maximum.reduceat(self.lengths[order].numpy(), starts) * np.diff(starts, append=len(order))
