"""Data loader that resumes an interrupted epoch with the next batch."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from torch.utils.data import DataLoader, Dataset, Sampler

from rvc_lightning.data.buckets import LengthBucketSampler


class _SkippingSampler(Sampler[list[int]]):
    """The batches of another sampler, without the first `skip` of one epoch."""

    def __init__(self, batches: LengthBucketSampler) -> None:
        self.batches, self.skip = batches, 0

    @property
    def sampler(self) -> Sampler[list[int]]:
        """The sampler on which Lightning calls `set_epoch`."""
        return self.batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        # As a generator, so that iterators that torch creates and never uses do not reset `skip`.
        skip, self.skip = self.skip, 0
        yield from islice(iter(self.batches), skip, None)


class ResumableLoader(DataLoader):
    """Data loader that counts the batches that training used of an epoch; a restored loader skips that many.

    Lightning saves and restores the state of loaders that have one. Prefetched batches are not counted.
    """

    batch_sampler: _SkippingSampler

    def __init__(self, dataset: Dataset, *, batch_sampler: LengthBucketSampler, **kwargs: Any) -> None:
        super().__init__(dataset, batch_sampler=_SkippingSampler(batch_sampler), **kwargs)
        self.taken = 0

    # torch declares its private iterator class.
    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Yield the remaining batches of the epoch."""
        self.taken = self.batch_sampler.skip
        for batch in super().__iter__():
            self.taken += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Return the number of batches used of this epoch; 0 after all."""
        return {"taken": self.taken % len(self)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Skip the batches that are used already, in the next epoch to be iterated."""
        self.taken = self.batch_sampler.skip = state["taken"]
