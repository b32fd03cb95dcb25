"""The retrieval index: features of the voice's own recordings, to mix into those of a source (specification 11).

This is the only file that knows faiss.

Legend: N stored vectors, F frames, C channels, K neighbours, B batch.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, count
from pathlib import Path
from typing import Any, TypeVar

import faiss
import numpy as np
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor

from rvc_lightning.config.validation import check_types
from rvc_lightning.errors import ConfigurationError, VoiceError
from rvc_lightning.io.files import atomic_path
from rvc_lightning.retrieval.index_file import IndexHeader, read_header

log = logging.getLogger(__name__)

Features = TypeVar("Features", np.ndarray, Tensor)

NEIGHBOURS = 8
_KINDS = ("auto", "kmeans", "flat")
_ROWS_PER_LIST = 39
_ADD_ROWS = 8192
# Vectors of an array that stand for a slice of a dataset.
_PIECE_ROWS = 64
# What clustering sees: fewer leave centres where they began, more move them by less than the voice shows.
_ROWS_PER_CENTRE = 100
_LEAST_BATCH = 4096
# Frames that are mixed at a time: their neighbours take 8 · 1024 · 768 · 4 bytes, 25 MB.
_MIX_FRAMES = 1024
# Distances are squared. Rounding leaves about 1e-7 of a vector's own square; nothing closer can be told apart.
_LEAST_DISTANCE = 1e-9
# Squares of it are still normal numbers in float64.
_TINY = 1e-30
# What faiss and numpy were seen to raise for files with bytes missing or changed.
_DAMAGE = (RuntimeError, MemoryError, ValueError)


@dataclass(frozen=True)
class IndexConfig:
    """What an index holds of the features it is made of."""

    kind: str = "auto"
    """'auto', all features or cluster centres of very many; 'kmeans', centres; 'flat', all, searched exactly."""
    most_rows: int = 200_000
    """More features than this are replaced by centres, with 'auto'."""
    centres: int = 10_000
    """How many centres."""

    def __post_init__(self) -> None:
        check_types(self)
        if self.kind not in _KINDS:
            raise ConfigurationError(f"index.kind={self.kind}; choose one of: {', '.join(_KINDS)}")
        for name in ("most_rows", "centres"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"index.{name}={getattr(self, name)} must be at least 1")


_DEFAULT = IndexConfig()


def build_index(features: np.ndarray | Sequence[np.ndarray], seed: int, config: IndexConfig = _DEFAULT) -> Any:
    """An index of `features`, as every RVC tool reads it (specification 11.1).

    Memory is that of the index, of another copy of its vectors, and of one block of features: pieces are read when
    they are needed and not kept.

    Args:
        features: Content features of the training recordings, 20 ms each, [N, C], N >= 1, or pieces of them.
        seed: Of the order of the rows and the clustering.
        config: What of them is kept.

    Returns:
        A trained faiss `IndexIVFFlat` with the rows or with centres of them, or an `IndexFlatL2` with the rows.

    Raises:
        VoiceError: There are no features, they differ in size, or are not finite.
    """
    pieces = _pieces(features) if isinstance(features, np.ndarray) else features
    counts, content_dim = _sizes(pieces)
    rows = int(counts.sum())
    if config.kind == "flat":
        flat: Any = faiss.IndexFlatL2(content_dim)
        for piece in pieces:
            flat.add(_floats(piece))
        return flat
    if rows > (config.centres if config.kind == "kmeans" else config.most_rows):
        log.info("Replacing %d feature frames by %d centres", rows, min(config.centres, rows))
        return _inverted_index(_centres(pieces, counts, seed, min(config.centres, rows)), seed)
    return _inverted_index(_shuffled(pieces, counts, content_dim, seed), seed)


def _inverted_index(rows: np.ndarray, seed: int) -> Any:
    """An `IndexIVFFlat` of [N, C]."""
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


def _pieces(features: np.ndarray) -> list[np.ndarray]:
    """[N, C] -> views of a few rows each. Raises VoiceError for another shape."""
    if features.ndim != 2 or 0 in features.shape:
        raise VoiceError(f"features of shape {features.shape} make no index; expected [frames, channels]")
    return [features[start : start + _PIECE_ROWS] for start in range(0, len(features), _PIECE_ROWS)]


def _sizes(pieces: Sequence[np.ndarray]) -> tuple[np.ndarray, int]:
    """Rows of each piece, int64, and the channels of all. Raises VoiceError if there are none, or several sizes."""
    shapes = [piece.shape for piece in pieces]
    dims = {shape[1] for shape in shapes}
    counts = np.array([shape[0] for shape in shapes], dtype=np.int64)
    if len(dims) != 1 or 0 in dims or counts.sum() == 0:
        raise VoiceError(f"{counts.sum()} feature frames of {sorted(dims)} channels make no index")
    return counts, dims.pop()


def _floats(piece: np.ndarray) -> np.ndarray:
    """The values of a piece, float32. Raises VoiceError if one is not finite."""
    values = np.ascontiguousarray(piece, dtype=np.float32)
    if not np.isfinite(values).all():
        raise VoiceError("the features hold NaN or infinity and make no index")
    return values


def _shuffled(pieces: Sequence[np.ndarray], counts: np.ndarray, content_dim: int, seed: int) -> np.ndarray:
    """All rows in random order, [N, C]."""
    total = int(counts.sum())
    place = np.empty(total, dtype=np.int64)
    place[np.random.default_rng(seed).permutation(total)] = np.arange(total)
    rows = np.empty((total, content_dim), dtype=np.float32)
    ends = np.cumsum(counts)
    for piece, start, end in zip(pieces, ends - counts, ends, strict=True):
        rows[place[start:end]] = _floats(piece)
    return rows


def _centres(pieces: Sequence[np.ndarray], counts: np.ndarray, seed: int, n_centres: int) -> np.ndarray:
    """Cluster centres of all rows, [n_centres, C], from one block of them at a time (Sculley 2010)."""
    draws = np.random.default_rng(seed)
    clusters = MiniBatchKMeans(
        n_clusters=n_centres,
        init=_random_rows(pieces, counts, n_centres, draws),
        n_init=1,
        compute_labels=False,
        random_state=seed % 2**32,
    )
    block_rows = max(_LEAST_BATCH, n_centres)
    for block in _random_blocks(pieces, block_rows, -(-_ROWS_PER_CENTRE * n_centres // block_rows), draws):
        clusters.partial_fit(block)
    return clusters.cluster_centers_.astype(np.float32)


def _random_rows(pieces: Sequence[np.ndarray], counts: np.ndarray, n_rows: int, draws: np.random.Generator) -> Any:
    """`n_rows` different rows of all, [n_rows, C]; only their pieces are read."""
    chosen = np.sort(draws.choice(int(counts.sum()), n_rows, replace=False))
    ends = np.cumsum(counts)
    owner = np.searchsorted(ends, chosen, side="right")
    inside = chosen - (ends - counts)[owner]
    owners, starts = np.unique(owner, return_index=True)
    groups = np.split(inside, starts[1:])
    return np.concatenate([_floats(pieces[i][rows]) for i, rows in zip(owners.tolist(), groups, strict=True)])


def _random_blocks(
    pieces: Sequence[np.ndarray], block_rows: int, n_blocks: int, draws: np.random.Generator
) -> Iterator[np.ndarray]:
    """`n_blocks` times rows of pieces in random order, [block_rows, C]; passes follow each other without end."""
    waiting, rows = [], 0
    for i in chain.from_iterable(draws.permutation(len(pieces)).tolist() for _ in count()):
        if n_blocks == 0:
            return
        waiting.append(_floats(pieces[i]))
        rows += len(waiting[-1])
        while rows >= block_rows and n_blocks:
            joined = np.concatenate(waiting)
            yield joined[:block_rows]
            waiting, rows, n_blocks = [joined[block_rows:]], rows - block_rows, n_blocks - 1


def save_index(index: Any, path: str | Path) -> Path:
    """Writes a faiss index, whole or not at all; gives the path back."""
    path = Path(path)
    with atomic_path(path) as temporary:
        faiss.write_index(index, str(temporary))
    return path


class RetrievalIndex:
    """An index to mix features from. One of a file is read when it is first needed: `index_rate=0` never does."""

    def __init__(self, index: Any, name: str = "the index") -> None:
        """Wraps a faiss index, in memory or not yet read.

        Args:
            index: A faiss index with the vectors in it, of any kind that can list them; or the path of its file.
            name: What to call it in messages.

        Raises:
            VoiceError: It has no vectors, or the file is none of an index of a voice.
        """
        self.path = index if isinstance(index, Path) else None
        self.name = name
        header = read_header(index) if isinstance(index, Path) else IndexHeader(index.ntotal, index.d, None)
        if header.rows == 0:
            raise VoiceError(
                f"{name} holds no vectors; of a pair 'trained_….index' and 'added_….index' take the latter"
            )
        self.rows = header.rows
        self.content_dim = header.content_dim
        self._source = index

    @classmethod
    def load(cls, path: str | Path) -> RetrievalIndex:
        """The index in a file of this project or of any other RVC tool.

        Raises:
            VoiceError: There is no such file, it is no index of a voice, damaged, or empty.
        """
        path = Path(path)
        if not path.is_file():
            raise VoiceError(f"there is no index at '{path}'" + (" (that is a folder)" if path.is_dir() else ""))
        return cls(path, f"the index '{path}'")

    @property
    def vectors(self) -> np.ndarray:
        """A copy of the vectors it holds, [N, C], in the order in which they were added."""
        return self._listed(self._index, 0, self.rows)

    @cached_property
    def _index(self) -> Any:
        """The index in memory, of finite vectors. Raises VoiceError if it cannot be read, or holds others."""
        index = self._source if self.path is None else _read(self.path)
        for start in range(0, self.rows, _ADD_ROWS):
            if not np.isfinite(self._listed(index, start, min(_ADD_ROWS, self.rows - start))).all():
                raise VoiceError(f"{self.name} holds NaN or infinity; build it again")
        return index

    def check_fits(self, content_dim: int) -> None:
        """Raises VoiceError if the features of the voice, of `content_dim` channels, are of another size."""
        if self.content_dim != content_dim:
            raise VoiceError(
                f"{self.name} holds features of {self.content_dim} channels, but the voice takes {content_dim};"
                " it belongs to another voice"
            )

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
        if index_rate == 0:
            return content
        if isinstance(content, Tensor):
            mixed = self._mix(content.detach().float().cpu().numpy(), index_rate)
            return content.new_tensor(mixed)
        return self._mix(content, index_rate)

    def _mix(self, content: np.ndarray, index_rate: float) -> np.ndarray:
        query = np.ascontiguousarray(content.reshape(-1, self.content_dim), dtype=np.float32)
        mixed = np.empty_like(query)
        for start in range(0, len(query), _MIX_FRAMES):
            frames = query[start : start + _MIX_FRAMES]
            retrieved, found = self._retrieve(frames)
            mixed[start : start + _MIX_FRAMES] = np.where(
                found, index_rate * retrieved + (1 - index_rate) * frames, frames
            )
        return mixed.reshape(content.shape)

    def _retrieve(self, query: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """[F, C] -> weighted means of the nearest vectors [F, C], and whether there are any [F, 1]."""
        try:
            distance, ids, vectors = self._index.search_and_reconstruct(query, NEIGHBOURS)
        except _DAMAGE as error:
            raise VoiceError(f"{self.name} is damaged ({_reason(error)}); build it again") from error
        floor = _LEAST_DISTANCE * np.square(query, dtype=np.float64).sum(axis=1, keepdims=True)
        weight = np.maximum(distance, np.maximum(floor, _TINY), dtype=np.float64) ** -2
        weight[ids < 0] = 0
        # faiss fills what it has not found with NaN.
        vectors[ids < 0] = 0
        total = weight.sum(axis=1, keepdims=True)
        share = np.divide(weight, total, out=np.zeros_like(weight), where=total > 0).astype(np.float32)
        return (share[:, None, :] @ vectors)[:, 0], total > 0

    def _listed(self, index: Any, start: int, rows: int) -> np.ndarray:
        """`rows` vectors of the index from `start` on. Raises VoiceError if it cannot list them."""
        try:
            return index.reconstruct_n(start, rows)
        except _DAMAGE as error:
            raise VoiceError(f"{self.name} cannot list its vectors ({_reason(error)}); build it again") from error


def _read(path: Path) -> Any:
    """The faiss index in a file. Raises VoiceError if faiss cannot read it."""
    try:
        return faiss.read_index(str(path))
    except _DAMAGE as error:
        raise VoiceError(f"'{path}' cannot be read as an index; it may be cut short ({_reason(error)})") from error


def _reason(error: BaseException) -> str:
    """What faiss says, without the place in its sources."""
    return str(error).rsplit("failed: ", 1)[-1].strip().split("\n")[0] or type(error).__name__
