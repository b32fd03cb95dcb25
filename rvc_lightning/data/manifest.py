"""The manifest of a prepared dataset: one JSON line a slice, and a header that says how all of them were made.

    manifest.jsonl    one `ManifestRow` a line
    dataset.json      the `DatasetHeader`

Paths in it are relative to the folder of the manifest and have forward slashes, so a dataset can be moved.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, overload

import numpy as np

from rvc_lightning.errors import DatasetError
from rvc_lightning.io.files import atomic_path, read_json, write_json

MANIFEST_NAME = "manifest.jsonl"
HEADER_NAME = "dataset.json"

_NUMBERS: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float)}
# Beyond a year of frames, and more samples than a wav file holds.
_TOO_LARGE = 2**40
_BLOCK_LINES = 32


@dataclass(frozen=True)
class ManifestRow:
    """One slice.

    Attributes:
        id: unique in the dataset.
        recording: the source file, relative to the audio folder; slices of one recording share it.
        speaker: 0 .. number of speakers - 1.
        sample_rate: Hz.
        audio: float32 wav [samples].
        f0: npy, f0_hz float32 at 100 Hz, at least `frames` values; 0 = unvoiced.
        content: npy, float16 [about frames / 2, C] at 50 Hz.
        samples: length of the audio.
        frames: whole frames of 10 ms in the audio.
        seconds: length of the audio in seconds.
    """

    id: str
    recording: str
    speaker: int
    sample_rate: int
    audio: str
    f0: str
    content: str
    samples: int
    frames: int
    seconds: float


_EXPECTED = {item.name for item in fields(ManifestRow)}
_TEXTS = [item.name for item in fields(ManifestRow) if item.type == "str"]
_TYPES = {item.name: _NUMBERS[str(item.type)] for item in fields(ManifestRow) if item.type != "str"}


@dataclass(frozen=True)
class DatasetHeader:
    """How a dataset was made.

    Attributes:
        sample_rate: Hz.
        pitch: {"name": ..., "options": {...}}.
        content: {"name": ..., "options": {...}, "dim": C}.
        slicing: the fields of `SlicingConfig`.
        speakers: name of each speaker, by its number.
        precision: of the networks that found pitch and content, as Lightning names it.
        revision: of the folders' layout; 0 where other tools have made them.
        silence: npy, the content of three seconds of silence; None where there is none, as in datasets taken over.
        slices: rows of the manifest, see `write_manifest`; None where an earlier version has not counted them.

    Raises:
        TypeError: a value is of another type.
    """

    sample_rate: int
    pitch: dict[str, Any]
    content: dict[str, Any]
    slicing: dict[str, Any] = field(default_factory=dict)
    speakers: list[str] = field(default_factory=lambda: ["0"])
    precision: str = "32-true"
    revision: int = 0
    silence: str | None = None
    slices: int | None = None

    def __post_init__(self) -> None:
        kinds = {"sample_rate": int, "pitch": Mapping, "content": Mapping, "slicing": Mapping, "speakers": list}
        for name, kind in kinds.items():
            if not isinstance(value := getattr(self, name), kind):
                raise TypeError(f"{name} is {value!r}")


def write_manifest(folder: Path | str, header: DatasetHeader, rows: Iterable[ManifestRow]) -> None:
    """Write manifest and header, with the number of rows, so that none is used without the other, or in part."""
    n_rows, path = 0, Path(folder) / HEADER_NAME
    with atomic_path(Path(folder) / MANIFEST_NAME) as temporary:
        with temporary.open("w", encoding="utf-8") as stream:
            for row in rows:
                stream.write(_line(row))
                n_rows += 1
        header = replace(header, slices=n_rows)
        if not _is_at(path, header):
            # A header speaks of the manifest beside it: while that is replaced there is none.
            path.unlink(missing_ok=True)
    write_json(path, asdict(header))


def _is_at(path: Path, header: DatasetHeader) -> bool:
    try:
        return read_header(path.parent) == header
    except DatasetError:
        return False


def read_manifest(folder: Path | str) -> Iterator[ManifestRow]:
    """Read the rows one by one.

    Args:
        folder: of the prepared dataset.

    Raises:
        DatasetError: no manifest, or a line that is no row; the message names file, line and what is wrong. At the
            end, if there are less rows than the header says, or more.
    """
    number = 0
    with _opened(folder) as stream:
        for number, line in enumerate(stream, start=1):
            yield ManifestRow(**_values(line, f"'{stream.name}', line {number}"))
    _check_count(folder, number)


def _opened(folder: Path | str) -> BinaryIO:
    try:
        return (Path(folder) / MANIFEST_NAME).open("rb")
    except FileNotFoundError as error:
        raise DatasetError(f"'{folder}' is no prepared dataset: it has no {MANIFEST_NAME}; prepare it first") from error


class ManifestTable(Sequence[ManifestRow]):
    """All rows of a manifest, or some of them, however many: some 150 bytes each, and little to do for most questions.

    A sequence of rows, each made of its line when it is asked for; what is asked of all of them is there as arrays.
    Parts of a table share its lines.

    Attributes:
        frames: of each slice, int64 [N].
        seconds: of each slice, float64 [N].
        recording: a number of its recording, which hangs on the recording's name alone, uint64 [N].
    """

    def __init__(self, lines: _Lines, columns: _Columns) -> None:
        """Takes what `open_manifest` and `ManifestTable.of` have read."""
        self._lines, self._columns = lines, columns

    @classmethod
    def of(cls, rows: Iterable[ManifestRow]) -> ManifestTable:
        """The table of rows that are there already."""
        return cls._read((_line(row).encode() for row in rows), "row")

    @classmethod
    def _read(cls, lines: Iterable[bytes], where: str) -> ManifestTable:
        """Parses every line once. Raises DatasetError, which says `where`, if one is no row."""
        kept = _Lines()
        columns = array("q"), array("d"), array("Q")
        for number, line in enumerate(lines, start=1):
            values = _values(line, f"{where}, line {number}")
            of_row = values["frames"], values["seconds"], _number_of(values["recording"])
            for column, value in zip(columns, of_row, strict=True):
                column.append(value)  # type: ignore[attr-defined]
            kept.append(line)
        frames, seconds, recording = map(np.array, columns)
        return cls(kept, _Columns(np.arange(len(frames)), frames, seconds, recording))

    @property
    def frames(self) -> np.ndarray:
        """Whole frames of each slice."""
        return self._columns.frames

    @property
    def seconds(self) -> np.ndarray:
        """Seconds of each slice."""
        return self._columns.seconds

    @property
    def recording(self) -> np.ndarray:
        """Number of each slice's recording."""
        return self._columns.recording

    def part(self, chosen: np.ndarray) -> ManifestTable:
        """The rows at these indices, or those where this is true."""
        return ManifestTable(self._lines, _Columns(*(column[chosen] for column in self._columns)))

    def __len__(self) -> int:
        return len(self._columns.line)

    @overload
    def __getitem__(self, index: int) -> ManifestRow: ...
    @overload
    def __getitem__(self, index: slice) -> ManifestTable: ...
    def __getitem__(self, index: int | slice) -> ManifestRow | ManifestTable:
        """A row, or a part."""
        if isinstance(index, slice):
            return self.part(np.arange(len(self))[index])
        return ManifestRow(**json.loads(self._lines[int(self._columns.line[index])]))


class _Columns(NamedTuple):
    """Arrays [N]: the number of each row's line, and what is asked of all rows."""

    line: np.ndarray
    frames: np.ndarray
    seconds: np.ndarray
    recording: np.ndarray


class _Lines:
    """Lines of a manifest, compressed some at a time: each repeats most of itself and of the one before."""

    def __init__(self) -> None:
        self._packed, self._ends = bytearray(), array("Q", [0])
        self._last: list[bytes] = []
        self._read: tuple[int, list[bytes]] = -1, []

    def append(self, line: bytes) -> None:
        """Adds a line, which may end with a newline."""
        self._last.append(line.rstrip(b"\n"))
        if len(self._last) == _BLOCK_LINES:
            self._packed += zlib.compress(b"\n".join(self._last), level=1)
            self._ends.append(len(self._packed))
            self._last = []

    def __getitem__(self, index: int) -> bytes:
        """A line by its number from 0, without a newline."""
        block, place = divmod(index, _BLOCK_LINES)
        if block == len(self._ends) - 1:
            return self._last[place]
        # Kept for who reads one line after the other.
        number, lines = self._read
        if number != block:
            packed = memoryview(self._packed)[self._ends[block] : self._ends[block + 1]]
            lines = zlib.decompress(packed).split(b"\n")
            self._read = block, lines
        return lines[place]


def _number_of(recording: str) -> int:
    """A number of 64 bits: millions of recordings have different ones but for bad luck, which no result hangs on."""
    return int.from_bytes(hashlib.sha256(recording.encode()).digest()[:8], "big")


def open_manifest(folder: Path | str) -> ManifestTable:
    """Read and check all rows, into a table that has room for millions.

    Raises:
        DatasetError: as in `read_manifest`.
    """
    with _opened(folder) as stream:
        table = ManifestTable._read(stream, f"'{stream.name}'")
    _check_count(folder, len(table))
    return table


def _check_count(folder: Path | str, n_rows: int) -> None:
    """Raises DatasetError if there are not as many rows as were written: the end was cut off, or it was edited."""
    expected = read_header(folder).slices
    if expected not in (None, n_rows):
        raise DatasetError(
            f"'{Path(folder) / MANIFEST_NAME}' has {n_rows} slices where {expected} were written: it was cut short or "
            "changed; prepare the dataset again"
        )


def read_header(folder: Path | str) -> DatasetHeader:
    """Read how a dataset was made.

    Raises:
        DatasetError: no header, or not one that this version reads.
    """
    path = Path(folder) / HEADER_NAME
    try:
        return DatasetHeader(**read_json(path))
    except FileNotFoundError as error:
        raise DatasetError(f"'{folder}' is no prepared dataset: it has no {HEADER_NAME}; prepare it first") from error
    except (ValueError, TypeError) as error:
        raise DatasetError(f"'{path}' is damaged or of another version ({error}); prepare the dataset again") from error


def _line(row: ManifestRow) -> str:
    return json.dumps(vars(row), ensure_ascii=False) + "\n"


def _values(line: bytes, where: str) -> dict[str, Any]:
    """The fields of a row. Raises DatasetError if the line is none."""
    try:
        values = json.loads(line)
    except UnicodeDecodeError as error:
        raise DatasetError(f"{where}: not UTF-8 text ({error}); prepare the dataset again") from error
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{where}: not JSON ({error}); prepare the dataset again") from error
    problem = _problem(values)
    if problem:
        raise DatasetError(f"{where}: {problem}; prepare the dataset again")
    return values


def _problem(values: object) -> str | None:
    """What keeps a parsed line from being a row."""
    if not isinstance(values, Mapping):
        return f"expected an object, got {type(values).__name__}"
    if values.keys() != _EXPECTED:
        missing, unknown = sorted(_EXPECTED - values.keys()), sorted(values.keys() - _EXPECTED)
        return f"missing {', '.join(missing)}" if missing else f"unknown {', '.join(unknown)}"
    for name in _TEXTS:
        if type(values[name]) is not str:
            return f"{name} is {values[name]!r}, not str"
    for name, types in _TYPES.items():
        value = values[name]
        if type(value) not in types:
            return f"{name} is {value!r}, not {types[-1].__name__}"
        if not 0 <= value < _TOO_LARGE:
            return f"{name} is {value!r}, below 0" if value < 0 else f"{name} is {value!r}, which no slice has"
    return None
