"""A loader that continues a half-finished epoch with the very next batch."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from torch.utils.data import DataLoader, Dataset, Sampler


class _Skipping(Sampler[list[int]]):
    """The batches of another sampler, without the first `skip` of one epoch."""

    def __init__(self, batches: Sampler[list[int]]) -> None:
        self.batches, self.skip = batches, 0

    @property
    def sampler(self) -> Sampler[list[int]]:
        """The sampler whose epoch Lightning sets."""
        return self.batches

    def __len__(self) -> int:
        return len(self.batches)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[list[int]]:
        # A generator, so that iterators which torch makes and never uses leave the count alone.
        skip, self.skip = self.skip, 0
        yield from islice(iter(self.batches), skip, None)


class ResumableLoader(DataLoader):
    """Counts the batches that training took of an epoch; a restored loader leaves just these out.

    Lightning saves and restores the state of loaders that have one. What workers have prefetched is not counted.
    """

    def __init__(self, dataset: Dataset, *, batch_sampler: Sampler[list[int]], **kwargs: Any) -> None:
        super().__init__(dataset, batch_sampler=_Skipping(batch_sampler), **kwargs)
        self.taken = 0

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Batches of the epoch, from where it was left."""
        assert isinstance(self.batch_sampler, _Skipping)
        self.taken = self.batch_sampler.skip
        for batch in super().__iter__():
            self.taken += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """How many batches of the epoch were taken; none once all were."""
        return {"taken": self.taken % len(self)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Leaves out as many batches of the next epoch that is begun."""
        assert isinstance(self.batch_sampler, _Skipping)
        self.batch_sampler.skip = state["taken"]
