"""The retrieval index: content features of the recordings of a voice, which are mixed into those of a source.

See SPECIFICATION.md, section 11. This is the only file that imports faiss.

Legend: N stored vectors, F frames, C channels, K neighbours, B batch.
"""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import faiss
import numpy as np
from torch import Tensor

from rvc_lightning.config.options import Settings, option
from rvc_lightning.errors import VoiceError
from rvc_lightning.io.files import atomic_path
from rvc_lightning.retrieval.discovery import list_indexes
from rvc_lightning.retrieval.index_file import IndexHeader, read_header
from rvc_lightning.retrieval.vectors import FeatureRows

if sys.platform == "darwin":
    # Its threads crash beside those of torch, see `rvc_lightning/__init__.py`.
    faiss.omp_set_num_threads(1)

log = logging.getLogger(__name__)

Features = TypeVar("Features", np.ndarray, Tensor)

NEIGHBOURS = 8
_ROWS_PER_LIST = 39
_ADD_ROWS = 8192
# Frames per search: their neighbours take 8 · 1024 · 768 · 4 bytes, 25 MB.
_MIX_FRAMES = 1024
# Smallest squared distance, relative to a vector's squared norm: rounding errors are about 1e-7 of that.
_MIN_DISTANCE = 1e-9
# The square of its inverse is finite in float64.
_TINY = 1e-30


@dataclass(frozen=True, kw_only=True)
class IndexConfig(Settings, group="index"):
    """Contents of an index."""

    kind: str = option(
        help="auto: all features, or centres of more than max_rows; kmeans: always centres; flat: all, exact search",
        choices=("auto", "kmeans", "flat"),
    )
    max_rows: int = option(help="feature frames that auto stores as they are", min=1)
    centres: int = option(help="number of cluster centres", min=1)


def build_index(features: np.ndarray | Sequence[np.ndarray], seed: int, config: IndexConfig | None = None) -> Any:
    """Build an index that every RVC tool reads (SPECIFICATION.md, section 11.1).

    Peak memory is that of the index, a copy of its vectors, and one batch of features.

    Args:
        features: Content features of the training recordings, 20 ms each: [N, C], N >= 1, or arrays of [n, C].
        seed: Seed of the row order and the clustering.
        config: Contents of the index; None stores all features.

    Returns:
        A trained faiss `IndexIVFFlat` of the rows or of their centres, or an `IndexFlatL2` of the rows.

    Raises:
        VoiceError: There are no features, they differ in channels, or are not finite.
    """
    rows = FeatureRows(features)
    if config is None:
        return _inverted_index(rows.shuffled(seed), seed)
    if config.kind == "flat":
        flat: Any = faiss.IndexFlatL2(rows.dim)
        for values in rows:
            flat.add(values)
        return flat
    if rows.total > (config.centres if config.kind == "kmeans" else config.max_rows):
        n_centres = min(config.centres, rows.total)
        log.info("Replacing %d feature frames by %d cluster centres", rows.total, n_centres)
        return _inverted_index(rows.centres(n_centres, seed), seed)
    return _inverted_index(rows.shuffled(seed), seed)


def _inverted_index(rows: np.ndarray, seed: int) -> Any:
    """Return an `IndexIVFFlat` of [N, C]."""
    index: Any = faiss.index_factory(rows.shape[1], f"IVF{list_count(len(rows))},Flat")
    index.nprobe = 1
    index.cp.seed = seed % 2**31
    # faiss warns about short lists, which are normal for short recordings.
    index.cp.min_points_per_centroid = 1
    index.train(rows)
    for start in range(0, len(rows), _ADD_ROWS):
        index.add(rows[start : start + _ADD_ROWS])
    return index


def list_count(rows: int) -> int:
    """Return the number of inverted lists for `rows` vectors, at least one (SPECIFICATION.md, section 11.1)."""
    return max(1, min(int(16 * math.sqrt(rows)), rows // _ROWS_PER_LIST))


def save_index(index: Any, path: str | Path) -> Path:
    """Write a faiss index atomically and return its path."""
    path = Path(path)
    # faiss does not accept paths that are not UTF-8, and does not report a full disk. Its stubs lack the class.
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        faiss.write_index(index, faiss.PyCallbackIOWriter(stream.write))  # type: ignore[attr-defined]
    return path


class RetrievalIndex:
    """An index whose features are mixed into others. Its file is read on first use, so never for `index_rate=0`."""

    def __init__(self, index: Any, name: str = "the index") -> None:
        """Wrap a faiss index.

        Args:
            index: Faiss index of any kind that can reconstruct its vectors, or the path of an index file.
            name: Name for messages.

        Raises:
            VoiceError: The index is empty, or the file is not the index of a voice.
        """
        self.path = index if isinstance(index, Path) else None
        self.name = name
        header = read_header(index) if isinstance(index, Path) else IndexHeader(index.ntotal, index.d, None)
        if header.rows == 0:
            raise VoiceError(f"{name} contains no vectors; use 'added_….index' instead of 'trained_….index'")
        self.rows = header.rows
        self.content_dim = header.content_dim
        self._source = index

    @classmethod
    def load(cls, path: str | Path) -> RetrievalIndex:
        """Open an index file of this project or another RVC tool.

        Raises:
            VoiceError: The file does not exist, or is damaged, empty or not the index of a voice.
        """
        path = Path(path)
        if not path.is_file():
            raise VoiceError(f"index not found: '{path}'{_list_candidates(path)}")
        return cls(path, f"the index '{path}'")

    @property
    def vectors(self) -> np.ndarray:
        """A copy of the stored vectors, [N, C], in insertion order."""
        return self._index.reconstruct_n(0, self.rows)

    @cached_property
    def _index(self) -> Any:
        """The faiss index. Raises VoiceError if it cannot be read or contains NaN or infinity."""
        with self._damage_as_error():
            index = self._source
            if self.path is not None:
                with self.path.open("rb") as stream:
                    index = faiss.read_index(faiss.PyCallbackIOReader(stream.read))  # type: ignore[attr-defined]
            blocks = (
                index.reconstruct_n(start, min(_ADD_ROWS, self.rows - start))
                for start in range(0, self.rows, _ADD_ROWS)
            )
            if not all(np.isfinite(block).all() for block in blocks):
                raise ValueError("it contains NaN or infinity")
        return index

    @contextmanager
    def _damage_as_error(self) -> Iterator[None]:
        """Convert the errors of faiss and numpy for damaged files."""
        try:
            yield
        except (RuntimeError, MemoryError, ValueError) as error:
            # faiss puts its source location before the reason.
            reason = str(error).rsplit("failed: ", 1)[-1].strip().split("\n")[0] or type(error).__name__
            raise VoiceError(f"{self.name} cannot be read as an index: {reason}; build it again") from error

    def check_fits(self, content_dim: int) -> None:
        """Raise VoiceError if the voice uses another number of channels."""
        if self.content_dim != content_dim:
            raise VoiceError(
                f"{self.name} has features of {self.content_dim} channels, but the voice uses {content_dim}; it "
                "belongs to another voice"
            )

    def mix(self, content: Features, index_rate: float) -> Features:
        """Move features towards their nearest stored vectors (SPECIFICATION.md, section 11.3).

        The 8 nearest vectors are weighted by the inverse square of their squared distance. A feature equal to a stored
        vector becomes that vector. A feature without neighbours in the searched list is unchanged.

        Args:
            content: [F, C] or [B, F, C].
            index_rate: Share of the retrieved features, 0 to 1.

        Returns:
            Mixed features of the same shape and type as `content`.
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
        """Return weighted means of the nearest vectors, [F, C], and whether any were found, [F, 1]."""
        with self._damage_as_error():
            distance, ids, vectors = self._index.search_and_reconstruct(query, NEIGHBOURS)
        floor = _MIN_DISTANCE * np.square(query, dtype=np.float64).sum(axis=1, keepdims=True)
        weight = np.maximum(distance, np.maximum(floor, _TINY), dtype=np.float64) ** -2
        weight[ids < 0] = 0
        # faiss fills missing neighbours with NaN.
        vectors[ids < 0] = 0
        total = weight.sum(axis=1, keepdims=True)
        share = np.divide(weight, total, out=np.zeros_like(weight), where=total > 0).astype(np.float32)
        return (share[:, None, :] @ vectors)[:, 0], total > 0


def _list_candidates(path: Path) -> str:
    """Return a hint for a path without an index file: the indexes in the folder."""
    folder = path if path.is_dir() else path.parent
    names = ", ".join(index.name for index in list_indexes(folder))
    hint = " (it is a folder)" if path.is_dir() else ""
    return f"{hint}; choose one of those in '{folder}': {names}" if names else hint
