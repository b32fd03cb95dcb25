"""Index files as they lie on the disk: found beside their voice, and checked before faiss reads a byte of them.

faiss trusts the sizes that a file states. Here they are added up first, for the kinds that RVC tools write:

    IwFl    header, nlist i64, nprobe i64, quantizer (a flat index), direct map, inverted lists
    IxF2    header, values i64, values × f32
    header  C i32, N i64, 2 × i64 unused, trained u8, metric i32
    lists   "ilar", nlist i64, bytes of a vector i64, "full" or "sprs" and the sizes, then of each list its vectors
            and ids

All numbers are little-endian. Legend: N stored vectors, C channels.
"""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import BinaryIO, NoReturn

import numpy as np

from rvc_lightning.errors import VoiceError

log = logging.getLogger(__name__)

INDEX_SUFFIX = ".index"

_INVERTED = b"IwFl"
_FLAT = (b"IxF2", b"IxFl")
_L2 = 1
_MOST_CHANNELS = 65536
_OTHER_KINDS = {
    b"IxFI": "a flat index by inner product",
    b"IxPq": "product-quantized vectors",
    b"IwPQ": "product-quantized lists",
    b"IwQR": "product-quantized lists",
    b"IwPQR": "product-quantized lists",
    b"IwSq": "scalar-quantized lists",
    b"IxSQ": "scalar-quantized vectors",
    b"IHNf": "a navigable graph (HNSW)",
    b"IxHf": "a navigable graph (HNSW)",
    b"IxPT": "transformed vectors",
    b"IxMp": "an index with ids of its own",
    b"IxM2": "an index with ids of its own",
    b"IvFL": "an inverted file of faiss before version 1.4",
}
"""Other indexes that faiss writes, by their first four bytes."""

_HEADER = Struct("<iqqqBi")
_SIZE = Struct("<q")


@dataclass(frozen=True)
class IndexHeader:
    """What an index file says of itself, found to agree with its size."""

    rows: int
    """N, vectors stored."""
    content_dim: int
    """C, channels of each."""
    lists: int | None
    """Inverted lists; None for a flat index."""


def read_header(path: Path) -> IndexHeader:
    """Checks an index file without faiss.

    Raises:
        VoiceError: It is no index of a kind that RVC tools write, or its header and its size disagree.
    """
    with path.open("rb") as stream:
        reader = _Reader(stream, f"'{path}' cannot be read as an index")
        kind = reader.take(4)
        if kind == _INVERTED:
            header = _inverted(reader)
        elif kind in _FLAT:
            header = _flat(reader)
        else:
            other = _OTHER_KINDS.get(kind)
            told = f"{other} ('{kind.decode()}')" if other else "no index of faiss"
            reader.refuse(f"it is {told}; voices have an inverted file of flat vectors ('IwFl', 'IVF…,Flat')")
        if reader.left:
            reader.refuse(f"{reader.left} bytes follow its end")
    return header


class _Reader:
    """A file read from front to back; what it claims is compared with what is left of it."""

    def __init__(self, stream: BinaryIO, complaint: str) -> None:
        self._stream, self._complaint = stream, complaint
        self.left = os.fstat(stream.fileno()).st_size

    def refuse(self, reason: str) -> NoReturn:
        """Raises VoiceError."""
        raise VoiceError(f"{self._complaint}: {reason}")

    def skip(self, count: int, what: str) -> None:
        """Passes over `count` bytes of `what`."""
        if not 0 <= count <= self.left:
            self.refuse(f"it is cut short or damaged: it claims {count} bytes of {what}, {self.left} are left")
        self._stream.seek(count, os.SEEK_CUR)
        self.left -= count

    def take(self, count: int, what: str = "its header") -> bytes:
        """The next `count` bytes."""
        self.skip(count, what)
        self._stream.seek(-count, os.SEEK_CUR)
        return self._stream.read(count)

    def size(self, what: str, most: int | None = None) -> int:
        """A count of `what`, not below 0 and at most `most`, by default as many bytes as are left."""
        value = int(_SIZE.unpack(self.take(_SIZE.size, what))[0])
        if not 0 <= value <= (self.left if most is None else most):
            self.refuse(f"it is damaged: it claims {value} {what}")
        return value

    def numbers(self, count: int, what: str) -> np.ndarray:
        """The next `count` whole numbers, int64."""
        return np.frombuffer(self.take(_SIZE.size * count, what), dtype="<i8")


def _header(reader: _Reader) -> tuple[int, int]:
    """Rows and channels."""
    content_dim, rows, _, _, _, metric = _HEADER.unpack(reader.take(_HEADER.size))
    if metric != _L2:
        reader.refuse(f"it measures similarity by faiss's metric {metric}; the retrieval of voices needs L2 ({_L2})")
    if not 0 < content_dim <= _MOST_CHANNELS or rows < 0:
        reader.refuse(f"it is damaged: it claims {rows} vectors of {content_dim} channels")
    return rows, content_dim


def _flat(reader: _Reader) -> IndexHeader:
    rows, content_dim = _header(reader)
    values = reader.size("values")
    if values != rows * content_dim:
        reader.refuse(f"it is damaged: {rows} vectors of {content_dim} channels, but {values} values")
    reader.skip(4 * values, "vectors")
    return IndexHeader(rows, content_dim, None)


def _inverted(reader: _Reader) -> IndexHeader:
    rows, content_dim = _header(reader)
    lists = reader.size("lists")
    probed = reader.size("lists to search", most=2**31)
    if reader.take(4) not in _FLAT:
        reader.refuse("its lists are found by another index than a flat one")
    quantizer = _flat(reader)
    if (quantizer.rows, quantizer.content_dim) != (lists, content_dim) or (rows and not probed):
        reader.refuse(f"it is damaged: {lists} lists of {content_dim} channels, but {quantizer.rows} centres")
    _direct_map(reader, rows)
    _lists(reader, rows, content_dim, lists)
    return IndexHeader(rows, content_dim, lists)


def _direct_map(reader: _Reader, rows: int) -> None:
    kind = reader.take(1)[0]
    entries = reader.size("places of vectors")
    if kind > 1 or entries not in (0, rows):
        reader.refuse(f"it is damaged or of another kind: a direct map of kind {kind} with {entries} entries")
    reader.skip(_SIZE.size * entries, "places of vectors")


def _lists(reader: _Reader, rows: int, content_dim: int, lists: int) -> None:
    """The inverted lists: every vector in one of them, numbered 0 to N - 1."""
    if (
        reader.take(4) != b"ilar"
        or reader.size("lists") != lists
        or reader.size("bytes", most=2**31) != 4 * content_dim
    ):
        reader.refuse("it is damaged or of another kind: its inverted lists do not fit its header")
    sizes = _list_sizes(reader, lists)
    if (sizes < 0).any() or (sizes > rows).any() or int(sizes.sum()) != rows:
        reader.refuse(f"it is damaged: its header claims {rows} vectors, its lists {int(sizes.sum())}")
    ids = []
    for size in sizes[sizes > 0].tolist():
        reader.skip(4 * content_dim * size, "vectors")
        ids.append(reader.numbers(size, "ids"))
    if ids and not np.array_equal(np.sort(np.concatenate(ids)), np.arange(rows)):
        reader.refuse("it is damaged: its vectors are not numbered from 0 on")


def _list_sizes(reader: _Reader, lists: int) -> np.ndarray:
    kind = reader.take(4)
    if kind not in (b"full", b"sprs"):
        reader.refuse("it is damaged: the sizes of its lists are in no known form")
    numbers = reader.numbers(reader.size("sizes of lists"), "sizes of lists")
    if kind == b"full":
        if len(numbers) != lists:
            reader.refuse(f"it is damaged: {len(numbers)} sizes of {lists} lists")
        return numbers
    if len(numbers) % 2:
        reader.refuse("it is damaged: the sizes of its lists come in pairs")
    place, sizes = numbers.reshape(-1, 2).T
    if len(place) and not (place.min() >= 0 and place.max() < lists and len(np.unique(place)) == len(place)):
        reader.refuse(f"it is damaged: sizes of lists that are not among its {lists}")
    return sizes


# An export of training: NAME_e100_s2000 (WebUI), NAME_100e_2000s (Applio), NAME_best (ultimate-rvc).
_EXPORT = re.compile(r"(?P<name>.+?)(_e\d+_s\d+|_\d+e_\d+s|_best)+", re.IGNORECASE)


def find_index(voice: Path) -> Path | None:
    """The index that lies beside a voice, by the names that RVC tools give them (specification 11.1).

    In the order in which they are preferred, for a voice NAME.pth:

        NAME.index
        added_IVF…_Flat_nprobe_…_NAME_v2.index and added_NAME_v2.index
        NAME_IVF…_Flat_nprobe_….index

    then the same for NAME without what training appends to a name, as in NAME_e100_s2000. Never `trained_….index`,
    which has no vectors. Of several that fit equally well the last by name is taken, and the log says so.
    """
    names = [voice.stem]
    if match := _EXPORT.fullmatch(voice.stem):
        names.append(match["name"])
    files = sorted(path for path in voice.parent.glob(f"*{INDEX_SUFFIX}") if path.is_file())
    for name in names:
        for pattern in _patterns(name):
            if found := [path for path in files if pattern.fullmatch(path.stem)]:
                if len(found) > 1:
                    log.warning(
                        "Several indexes fit '%s': %s; the last is used. Another can be named by index=FILE",
                        voice.name,
                        ", ".join(path.name for path in found),
                    )
                return found[-1]
    return None


def _patterns(name: str) -> list[re.Pattern[str]]:
    """Names of the index of a voice called `name`, without the ending, best first; case does not matter."""
    escaped = re.escape(name)
    lists, version = r"IVF\d+_Flat(_nprobe_\d+)?", r"(_v\d+)?"
    spellings = (
        escaped,
        rf"added_({lists}_)?{escaped}{version}",
        rf"{escaped}_({lists})(_{escaped})?{version}",
    )
    return [re.compile(spelling, re.IGNORECASE) for spelling in spellings]
