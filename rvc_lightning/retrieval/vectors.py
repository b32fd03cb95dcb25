"""Feature vectors for an index: all rows in random order, or their cluster centres.

Features are a sequence of arrays, one per slice of a dataset. Arrays are read on access and not cached.

Legend: N vectors, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, count
from typing import Any

import numpy as np

from rvc_lightning.errors import VoiceError

# Training rows per centre: fewer leave centres near their start, more move them by a negligible amount.
_ROWS_PER_CENTRE = 100
_MIN_BATCH = 4096


class FeatureRows:
    """Rows of the features of a dataset, float32."""

    def __init__(self, features: np.ndarray | Sequence[np.ndarray]) -> None:
        """Count the rows.

        Args:
            features: [N, C], or arrays of [n, C] that are read on access.

        Raises:
            VoiceError: There are no rows, or arrays differ in C.
        """
        self.slices = [features] if isinstance(features, np.ndarray) else features
        shapes = [piece.shape for piece in self.slices]
        dims = {shape[1] for shape in shapes}
        self.counts = np.array([shape[0] for shape in shapes], dtype=np.int64)
        self.total = int(self.counts.sum())
        if len(dims) != 1 or 0 in dims or self.total == 0:
            raise VoiceError(
                f"an index cannot be built from {self.total} feature frames of {sorted(dims)} channels; expected one "
                "or more frames of equal size"
            )
        self.dim = dims.pop()

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self._read(i) for i in range(len(self.slices)))

    def _read(self, i: int, rows: Any = ...) -> np.ndarray:
        """Return rows of a slice. Raises VoiceError if a value is not finite."""
        values = np.ascontiguousarray(self.slices[i][rows], dtype=np.float32)
        if not np.isfinite(values).all():
            raise VoiceError("an index cannot be built from features with NaN or infinity; prepare the dataset again")
        return values

    def shuffled(self, seed: int) -> np.ndarray:
        """Return all rows in random order, [N, C]."""
        positions = np.empty(self.total, dtype=np.int64)
        positions[np.random.default_rng(seed).permutation(self.total)] = np.arange(self.total)
        rows = np.empty((self.total, self.dim), dtype=np.float32)
        ends = np.cumsum(self.counts)
        for values, start, end in zip(self, ends - self.counts, ends, strict=True):
            rows[positions[start:end]] = values
        return rows

    def centres(self, n_centres: int, seed: int) -> np.ndarray:
        """Return cluster centres of all rows, [n_centres, C], from one batch of rows at a time (Sculley 2010)."""
        # Imported here: a second that conversions do not need.
        from sklearn.cluster import MiniBatchKMeans

        rng = np.random.default_rng(seed)
        clusters = MiniBatchKMeans(
            n_clusters=n_centres,
            init=self._random_rows(n_centres, rng),
            n_init=1,
            compute_labels=False,
            random_state=seed % 2**32,
        )
        batch_rows = max(_MIN_BATCH, n_centres)
        for batch in self._random_batches(batch_rows, -(-_ROWS_PER_CENTRE * n_centres // batch_rows), rng):
            clusters.partial_fit(batch)
        return clusters.cluster_centers_.astype(np.float32)

    def _random_rows(self, n_rows: int, rng: np.random.Generator) -> np.ndarray:
        """Return different rows, [n_rows, C]; only their slices are read."""
        chosen = np.sort(rng.choice(self.total, n_rows, replace=False))
        ends = np.cumsum(self.counts)
        owner = np.searchsorted(ends, chosen, side="right")
        inside = chosen - (ends - self.counts)[owner]
        owners, starts = np.unique(owner, return_index=True)
        groups = np.split(inside, starts[1:])
        return np.concatenate([self._read(i, rows) for i, rows in zip(owners.tolist(), groups, strict=True)])

    def _random_batches(self, batch_rows: int, n_batches: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
        """Yield batches of slices in random order, [batch_rows, C]; passes over the slices repeat as needed."""
        pending, rows = [], 0
        for i in chain.from_iterable(rng.permutation(len(self.slices)).tolist() for _ in count()):
            if n_batches == 0:
                return
            pending.append(self._read(i))
            rows += len(pending[-1])
            while rows >= batch_rows and n_batches:
                joined = np.concatenate(pending)
                yield joined[:batch_rows]
                pending, rows, n_batches = [joined[batch_rows:]], rows - batch_rows, n_batches - 1
