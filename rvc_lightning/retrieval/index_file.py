"""Headers of index files, checked before faiss reads them.

faiss trusts the sizes in a file, so they are first compared with the length of the file. The following kinds of index,
which RVC tools write, are supported:

    IwFl    header, nlist i64, nprobe i64, quantizer (a flat index), direct map, inverted lists
    IxF2    header, values i64, values × f32
    header  C i32, N i64, 2 × i64 unused, trained u8, metric i32
    lists   "ilar", nlist i64, bytes of a vector i64, "full" or "sprs" and the sizes, then the vectors and ids of each
            list

All numbers are little-endian. Legend: N stored vectors, C channels.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import BinaryIO, NoReturn

import numpy as np

from rvc_lightning.errors import VoiceError
from rvc_lightning.io.kinds import describe_kind

INDEX_SUFFIX = ".index"

_INVERTED = b"IwFl"
_FLAT = (b"IxF2", b"IxFl")
_L2 = 1
_MAX_CHANNELS = 65536
_OTHER_KINDS = {
    b"IxFI": "a flat index by inner product",
    b"IxPq": "product-quantized vectors",
    b"IwPQ": "product-quantized lists",
    b"IwQR": "product-quantized lists",
    b"IwSq": "scalar-quantized lists",
    b"IxSQ": "scalar-quantized vectors",
    b"IHNf": "a navigable graph (HNSW)",
    b"IxHf": "a navigable graph (HNSW)",
    b"IxPT": "transformed vectors",
    b"IxMp": "an index with custom ids",
    b"IxM2": "an index with custom ids",
    b"IvFL": "an inverted file of faiss before version 1.4",
}
"""Other kinds of faiss indexes, by their first four bytes."""

_HEADER = Struct("<iqqqBi")
_SIZE = Struct("<q")


@dataclass(frozen=True)
class IndexHeader:
    """Sizes in an index file that agree with the size of the file."""

    rows: int
    """N, number of stored vectors."""
    content_dim: int
    """C, number of channels."""
    lists: int | None
    """Number of inverted lists; None for a flat index."""


def read_header(path: Path) -> IndexHeader:
    """Check an index file without faiss.

    Raises:
        VoiceError: The file is not an index of a kind that RVC tools write, or its header and its size disagree.
    """
    with path.open("rb") as stream:
        reader = _Reader(stream, f"'{path}' cannot be read as an index")
        kind = reader.take(min(4, reader.left))
        if kind == _INVERTED:
            header = _read_inverted(reader)
        elif kind in _FLAT:
            header = _read_flat(reader)
        elif kind in _OTHER_KINDS:
            reader.fail(f"it is {_OTHER_KINDS[kind]} ('{kind.decode()}'); expected an inverted file of flat vectors")
        else:
            reader.fail(f"it is {describe_kind(path) or 'not a faiss index'}")
        if reader.left:
            reader.fail(f"{reader.left} bytes follow its end")
    return header


class _Reader:
    """Sequential reader of a file, which compares the sizes in it with the bytes left."""

    def __init__(self, stream: BinaryIO, message: str) -> None:
        self._stream, self._message = stream, message
        self.left = os.fstat(stream.fileno()).st_size

    def fail(self, reason: str) -> NoReturn:
        """Raise VoiceError with a reason."""
        raise VoiceError(f"{self._message}: {reason}")

    def skip(self, count: int, content: str) -> None:
        """Skip `count` bytes of `content`."""
        if not 0 <= count <= self.left:
            self.fail(f"it is truncated or damaged: {count} bytes of {content} are expected, {self.left} are left")
        self._stream.seek(count, os.SEEK_CUR)
        self.left -= count

    def take(self, count: int, content: str = "its header") -> bytes:
        """Return the next `count` bytes."""
        self.skip(count, content)
        self._stream.seek(-count, os.SEEK_CUR)
        return self._stream.read(count)

    def size(self, content: str, max: int | None = None) -> int:
        """Return a count of `content` from 0 to `max`, by default the number of bytes left."""
        value = int(_SIZE.unpack(self.take(_SIZE.size, content))[0])
        if not 0 <= value <= (self.left if max is None else max):
            self.fail(f"it is damaged: it claims {value} {content}")
        return value

    def numbers(self, count: int, content: str) -> np.ndarray:
        """Return the next `count` whole numbers, int64."""
        return np.frombuffer(self.take(_SIZE.size * count, content), dtype="<i8")


def _read_dimensions(reader: _Reader) -> tuple[int, int]:
    """Return rows and channels."""
    content_dim, rows, _, _, _, metric = _HEADER.unpack(reader.take(_HEADER.size))
    if metric != _L2:
        reader.fail(f"its faiss metric is {metric}; retrieval requires L2 ({_L2})")
    if not 0 < content_dim <= _MAX_CHANNELS or rows < 0:
        reader.fail(f"it is damaged: it claims {rows} vectors of {content_dim} channels")
    return rows, content_dim


def _read_flat(reader: _Reader) -> IndexHeader:
    rows, content_dim = _read_dimensions(reader)
    values = reader.size("values")
    if values != rows * content_dim:
        reader.fail(f"it is damaged: {rows} vectors of {content_dim} channels, but {values} values")
    reader.skip(4 * values, "vectors")
    return IndexHeader(rows, content_dim, None)


def _read_inverted(reader: _Reader) -> IndexHeader:
    rows, content_dim = _read_dimensions(reader)
    lists = reader.size("lists")
    probed = reader.size("lists to search", max=2**31)
    if reader.take(4) not in _FLAT:
        reader.fail("its quantizer is not a flat index")
    quantizer = _read_flat(reader)
    if (quantizer.rows, quantizer.content_dim) != (lists, content_dim) or (rows and not probed):
        reader.fail(f"it is damaged: {lists} lists of {content_dim} channels, but {quantizer.rows} centres")
    _skip_direct_map(reader, rows)
    _skip_lists(reader, rows, content_dim, lists)
    return IndexHeader(rows, content_dim, lists)


def _skip_direct_map(reader: _Reader, rows: int) -> None:
    kind = reader.take(1)[0]
    entries = reader.size("places of vectors")
    if kind > 1 or entries not in (0, rows):
        reader.fail(f"it is damaged or of another kind: a direct map of kind {kind} with {entries} entries")
    reader.skip(_SIZE.size * entries, "places of vectors")


def _skip_lists(reader: _Reader, rows: int, content_dim: int, lists: int) -> None:
    """Skip the inverted lists, which contain each vector once, numbered 0 to N - 1."""
    if reader.take(4) != b"ilar" or reader.size("lists") != lists or reader.size("bytes", max=2**31) != 4 * content_dim:
        reader.fail("it is damaged or of another kind: its inverted lists and its header disagree")
    sizes = _read_list_sizes(reader, lists)
    if (sizes < 0).any() or (sizes > rows).any() or int(sizes.sum()) != rows:
        reader.fail(f"it is damaged: its header claims {rows} vectors, its lists {int(sizes.sum())}")
    ids = []
    for size in sizes[sizes > 0].tolist():
        reader.skip(4 * content_dim * size, "vectors")
        ids.append(reader.numbers(size, "ids"))
    if ids and not np.array_equal(np.sort(np.concatenate(ids)), np.arange(rows)):
        reader.fail("it is damaged: its vectors are not numbered from 0 on")


def _read_list_sizes(reader: _Reader, lists: int) -> np.ndarray:
    """Return the sizes of the lists; sparse lists are in the order of the file."""
    kind = reader.take(4)
    numbers = reader.numbers(reader.size("sizes of lists"), "sizes of lists")
    if kind == b"full" and len(numbers) == lists:
        return numbers
    if kind == b"sprs" and len(numbers) % 2 == 0:
        positions, sizes = numbers.reshape(-1, 2).T
        if ((positions >= 0) & (positions < lists)).all() and len(np.unique(positions)) == len(positions):
            return sizes
    reader.fail(f"it is damaged: it has no sizes of its {lists} lists")
