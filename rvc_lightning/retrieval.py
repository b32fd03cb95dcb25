"""The retrieval index: features of the voice's own recordings, to mix into those of a source (specification 11).

This is the only file that knows faiss.

Legend: N stored vectors, F frames, C channels, K neighbours, B batch.
"""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any, TypeVar

import faiss
import numpy as np
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor

from rvc_lightning.errors import VoiceError
from rvc_lightning.files import atomic_path
from rvc_lightning.index_file import check_channels, read_header

log = logging.getLogger(__name__)

Features = TypeVar("Features", np.ndarray, Tensor)

NEIGHBOURS = 8
MOST_ROWS = 200_000
"""More vectors than this are replaced by `CENTRES` cluster centres."""
CENTRES = 10_000
_CENTRES_BATCH = 4096
_ROWS_PER_LIST = 39
_ADD_ROWS = 8192
# Distances are squared. Rounding leaves about 1e-7 of a vector's own square; nothing closer can be told apart.
_LEAST_DISTANCE = 1e-9
# Squares of it are still normal numbers in float64.
_TINY = 1e-30
# What faiss and numpy were seen to raise for files with bytes missing or changed.
_DAMAGE = (RuntimeError, MemoryError, ValueError)


def build_index(features: np.ndarray, seed: int) -> Any:
    """An index of `features`, as every RVC tool reads it (specification 11.1).

    Args:
        features: Content features of the training recordings, 20 ms each, float32 [N, C], N >= 1.
        seed: Of the order of the rows and the clustering.

    Returns:
        A trained faiss `IndexIVFFlat` with the rows, or with 10 000 centres of more than 200 000 rows.

    Raises:
        VoiceError: There are no features, or not only finite ones.
    """
    if features.ndim != 2 or 0 in features.shape:
        raise VoiceError(f"features of shape {features.shape} make no index; expected [frames, channels]")
    if not np.isfinite(features).all():
        raise VoiceError("the features hold NaN or infinity and make no index")
    rows = np.random.default_rng(seed).permutation(features.astype(np.float32, copy=False))
    rows = _centres(rows, seed) if len(rows) > MOST_ROWS else rows
    index: Any = faiss.index_factory(rows.shape[1], f"IVF{list_count(len(rows))},Flat")
    index.nprobe = 1
    index.cp.seed = seed % 2**31
    # A list of fewer rows is wanted for short recordings and no reason to warn.
    index.cp.min_points_per_centroid = 1
    index.train(rows)
    for start in range(0, len(rows), _ADD_ROWS):
        index.add(rows[start : start + _ADD_ROWS])
    return index


def list_count(rows: int) -> int:
    """Inverted lists of an index of `rows` vectors, at least one (defect X2)."""
    return max(1, min(int(16 * math.sqrt(rows)), rows // _ROWS_PER_LIST))


def _centres(rows: np.ndarray, seed: int) -> np.ndarray:
    """[N, C] -> [CENTRES, C]."""
    log.info("Replacing %d feature frames by %d centres", len(rows), CENTRES)
    clusters = MiniBatchKMeans(
        n_clusters=min(CENTRES, len(rows)),
        batch_size=_CENTRES_BATCH,
        init="random",
        n_init=1,
        compute_labels=False,
        random_state=seed % 2**32,
    )
    return clusters.fit(rows).cluster_centers_.astype(np.float32)


def save_index(index: Any, path: str | Path) -> Path:
    """Writes a faiss index, whole or not at all; gives the path back."""
    path = Path(path)
    with atomic_path(path) as temporary:
        faiss.write_index(index, str(temporary))
    return path


class RetrievalIndex:
    """An index with its vectors at hand."""

    def __init__(self, index: Any, name: str = "the index") -> None:
        """Wraps a faiss index.

        Args:
            index: With the vectors in it, in any kind faiss can list.
            name: What to call it in messages.

        Raises:
            VoiceError: It has no vectors, or they cannot be listed.
        """
        if index.ntotal == 0:
            raise VoiceError(
                f"{name} holds no vectors; of a pair 'trained_….index' and 'added_….index' take the latter"
            )
        self.name = name
        self._index = index
        try:
            self.vectors: np.ndarray = index.reconstruct_n(0, index.ntotal)
        except _DAMAGE as error:
            raise VoiceError(f"{name} cannot list its vectors ({_reason(error)}); build it again") from error
        if not np.isfinite(self.vectors).all():
            raise VoiceError(f"{name} holds NaN or infinity; build it again")

    @classmethod
    def load(cls, path: str | Path) -> RetrievalIndex:
        """Reads an index of this project or of any other RVC tool.

        Raises:
            VoiceError: There is no such file, it is no index of a voice, damaged, or empty.
        """
        path = Path(path)
        if not path.is_file():
            raise VoiceError(f"there is no index at '{path}'" + (" (that is a folder)" if path.is_dir() else ""))
        read_header(path)
        try:
            index = faiss.read_index(str(path))
        except _DAMAGE as error:
            raise VoiceError(f"'{path}' cannot be read as an index; it may be cut short ({_reason(error)})") from error
        return cls(index, f"the index '{path}'")

    @property
    def content_dim(self) -> int:
        """C, channels of the features it holds."""
        return int(self._index.d)

    def check_fits(self, content_dim: int) -> None:
        """Raises VoiceError if the features of the voice, of `content_dim` channels, are of another size."""
        check_channels(self.name, self.content_dim, content_dim)

    def mix(self, content: Features, index_rate: float) -> Features:
        """Moves features towards the nearest ones of the voice (specification 11.3).

        The 8 nearest vectors are weighted by the inverse square of their squared distance. A feature equal to a
        stored vector becomes that vector (defect X1), and one with no neighbours in reach stays as it is (X4).

        Args:
            content: [F, C] or [B, F, C].
            index_rate: Share of the retrieved features, 0 to 1.

        Returns:
            Like `content`.
        """
        if isinstance(content, Tensor):
            mixed = self._mix(content.detach().float().cpu().numpy(), index_rate)
            return content.new_tensor(mixed)
        return self._mix(content, index_rate)

    def _mix(self, content: np.ndarray, index_rate: float) -> np.ndarray:
        query = np.ascontiguousarray(content.reshape(-1, self.content_dim), dtype=np.float32)
        distance, ids = self._search(query)
        floor = _LEAST_DISTANCE * np.square(query, dtype=np.float64).sum(axis=1, keepdims=True)
        weight = np.maximum(distance, np.maximum(floor, _TINY), dtype=np.float64) ** -2
        weight[ids < 0] = 0
        total = weight.sum(axis=1, keepdims=True)
        found = total > 0
        share = np.divide(weight, total, out=np.zeros_like(weight), where=found).astype(np.float32)
        retrieved = np.einsum("fk,fkc->fc", share, self.vectors[ids])
        mixed = np.where(found, index_rate * retrieved + (1 - index_rate) * query, query)
        return mixed.astype(np.float32).reshape(content.shape)

    def _search(self, query: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """[F, C] -> squared distances and ids of the nearest vectors, [F, K]; id -1 where there are fewer."""
        try:
            distance, ids = self._index.search(query, NEIGHBOURS)
        except _DAMAGE as error:
            raise VoiceError(f"{self.name} is damaged ({_reason(error)}); build it again") from error
        if ids.max(initial=-1) >= len(self.vectors):
            raise VoiceError(f"{self.name} is damaged: it finds vectors that it does not hold; build it again")
        return distance, ids


def _reason(error: BaseException) -> str:
    """What faiss says, without the place in its sources."""
    return str(error).rsplit("failed: ", 1)[-1].strip().split("\n")[0] or type(error).__name__
