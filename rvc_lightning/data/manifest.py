"""The manifest of a prepared dataset: one JSON line a slice, and a header that describes how all were made.

    manifest.jsonl    one `ManifestRow` a line
    dataset.json      the `DatasetHeader`

Paths are relative to the folder of the manifest, with forward slashes, so a dataset can be moved.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from types import NoneType
from typing import Any, overload

import numpy as np

from rvc_lightning.audio.frames import FRAMES_PER_SECOND
from rvc_lightning.cli.columns import pluralize
from rvc_lightning.errors import DatasetError
from rvc_lightning.io.files import atomic_path, read_json, write_json

MANIFEST_NAME = "manifest.jsonl"
HEADER_NAME = "dataset.json"

# More than a year of frames, and more samples than a WAV file can hold.
_MAX_NUMBER = 2**40


@dataclass(frozen=True)
class ManifestRow:
    """One slice.

    Attributes:
        id: Name of the slice, unique in the dataset.
        recording: Source file, relative to the audio folder; the same for all slices of a recording.
        speaker: Row of the speaker table, 0 .. number of speakers - 1.
        sample_rate: Rate of the audio in Hz.
        audio: Path of the audio, float32 WAV [samples].
        f0: Path of the pitch, npy, f0_hz float32 at 100 Hz, at least `frames` values; 0 = unvoiced.
        content: Path of the content, npy, float16 [about frames / 2, C] at 50 Hz.
        samples: Length of the audio in samples.
        frames: Length of the audio in whole frames of 10 ms.
        seconds: Length of the audio in seconds.
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


_TYPES: dict[str, Any] = {
    one.name: {"str": str, "int": int, "float": (int, float)}[str(one.type)] for one in fields(ManifestRow)
}


_HEADER_TYPES: dict[str, Any] = {
    "sample_rate": int,
    "pitch": Mapping,
    "content": Mapping,
    "slicing": Mapping,
    "speakers": list,
    "precision": str,
    "revision": int,
    "silence": (str, NoneType),
    "slices": (int, NoneType),
}
_MAX_RATE = 768_000
_MAX_CONTENT_DIM = 2**16


@dataclass(frozen=True)
class DatasetHeader:
    """How a dataset was made.

    Attributes:
        sample_rate: Rate of the slices in Hz.
        pitch: {"name": ..., "options": {...}}.
        content: {"name": ..., "options": {...}, "dim": C}.
        slicing: The fields of `SlicingConfig`.
        speakers: Name of each speaker, by its number.
        precision: Precision of the networks for pitch and content, as Lightning names it.
        revision: Revision of the layout; 0 for datasets that other tools have made.
        silence: Path of the content of three seconds of silence, npy; None for datasets without it.
        slices: Number of rows of the manifest; None in datasets of earlier versions.

    Raises:
        TypeError: A value has the wrong type, or is out of range.
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
        types = {name: isinstance(getattr(self, name), expected) for name, expected in _HEADER_TYPES.items()}
        values = {
            "sample_rate": types["sample_rate"] and 0 < self.sample_rate <= _MAX_RATE,
            "content": types["content"] and self.content.get("dim", 1) in range(1, _MAX_CONTENT_DIM),
            "speakers": types["speakers"] and all(isinstance(name, str) for name in self.speakers),
        }
        for name, is_valid in (types | values).items():
            if not is_valid:
                raise TypeError(f"{name} is {getattr(self, name)!r}")


def write_manifest(folder: Path | str, header: DatasetHeader, rows: Iterable[ManifestRow]) -> None:
    """Write manifest and header, so that a reader never finds one without the other, or a part of the rows."""
    n_rows, path = 0, Path(folder) / HEADER_NAME
    with atomic_path(Path(folder) / MANIFEST_NAME) as temporary:
        with temporary.open("w", encoding="utf-8") as stream:
            for row in rows:
                stream.write(_line(row))
                n_rows += 1
        header = replace(header, slices=n_rows)
        if not _is_stored(path, header):
            # A header describes the manifest beside it, so the old one is deleted before the manifest is replaced.
            path.unlink(missing_ok=True)
    write_json(path, asdict(header))


def _is_stored(path: Path, header: DatasetHeader) -> bool:
    try:
        return read_header(path.parent) == header
    except DatasetError:
        return False


def read_header(folder: Path | str) -> DatasetHeader:
    """Read how a dataset was made.

    Raises:
        DatasetError: There is no header, or it is damaged.
    """
    path = Path(folder) / HEADER_NAME
    try:
        return DatasetHeader(**read_json(path))
    except FileNotFoundError as error:
        raise _not_prepared(folder, HEADER_NAME) from error
    except (ValueError, TypeError) as error:
        raise DatasetError(f"'{path}' is damaged or of another version ({error}); prepare the dataset again") from error


def read_manifest(folder: Path | str) -> Manifest:
    """Read and check all rows of a prepared dataset.

    Raises:
        DatasetError: There is no manifest, a line is not a row, or rows are missing; the message names file, line and
            defect.
    """
    path = Path(folder) / MANIFEST_NAME
    try:
        manifest = Manifest(path.read_bytes(), f"'{path}'")
    except FileNotFoundError as error:
        raise _not_prepared(folder, MANIFEST_NAME) from error
    header = read_header(folder)
    unknown = np.flatnonzero(manifest.speaker >= len(header.speakers))
    if len(unknown):
        raise DatasetError(
            f"'{path}', line {unknown[0] + 1}: speaker is {manifest.speaker[unknown[0]]}, but '{HEADER_NAME}' has "
            f"{pluralize(len(header.speakers), 'speaker')}; prepare the dataset again"
        )
    if header.slices not in (None, len(manifest)):
        raise DatasetError(
            f"'{path}' has {len(manifest)} slices, but {header.slices} were written: it was truncated or edited; "
            "prepare the dataset again"
        )
    return manifest


class Manifest(Sequence[ManifestRow]):
    """The rows of a manifest as a sequence; a row is parsed when it is accessed.

    All rows are kept as the bytes of the file, about 600 a row, which forked workers of data loaders share. So do
    selections of rows.

    Attributes:
        speaker: Speaker of each slice, int64 [N].
        frames: Frames of each slice, int64 [N].
        seconds: Length of each slice in seconds, float64 [N].
        recording: Hash of the name of each slice's recording, uint64 [N].
    """

    def __init__(self, text: bytes, source: str = "manifest") -> None:
        """Check and index the lines of a manifest.

        Args:
            text: Content of the file.
            source: Name of the file for error messages.

        Raises:
            DatasetError: A line is not a row.
        """
        starts, speaker, frames, seconds, recording = array("q"), array("q"), array("q"), array("d"), array("Q")
        start = number = 0
        while start < len(text):
            number += 1
            end = _line_end(text, start)
            values = _parse(text[start:end], f"{source}, line {number}")
            starts.append(start)
            speaker.append(values["speaker"])
            frames.append(values["frames"])
            seconds.append(values["seconds"])
            recording.append(_hash(values["recording"]))
            start = end + 1
        self._text = text
        self._starts, self.speaker = np.array(starts), np.array(speaker)
        self.frames, self.seconds, self.recording = np.array(frames), np.array(seconds), np.array(recording)

    @classmethod
    def of(cls, rows: Iterable[ManifestRow]) -> Manifest:
        """Return a manifest of the given rows."""
        return cls("".join(map(_line, rows)).encode())

    def select(self, rows: np.ndarray) -> Manifest:
        """Return the rows with the given indices, or for which a boolean array is true."""
        selection = copy(self)
        for column in ("_starts", "speaker", "frames", "seconds", "recording"):
            setattr(selection, column, getattr(self, column)[rows])
        return selection

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> ManifestRow: ...
    @overload
    def __getitem__(self, index: slice) -> Manifest: ...
    def __getitem__(self, index: int | slice) -> ManifestRow | Manifest:
        if isinstance(index, slice):
            return self.select(np.arange(len(self))[index])
        start = int(self._starts[index])
        return ManifestRow(**json.loads(self._text[start : _line_end(self._text, start)]))


def _not_prepared(folder: Path | str, missing: str) -> DatasetError:
    return DatasetError(f"'{folder}' is not a prepared dataset: it has no {missing}; prepare it first")


def _line_end(text: bytes, start: int) -> int:
    end = text.find(b"\n", start)
    return len(text) if end < 0 else end


def _line(row: ManifestRow) -> str:
    return json.dumps(vars(row), ensure_ascii=False) + "\n"


def _hash(recording: str) -> int:
    """Return 64 bits that depend on the name alone; a collision would only keep two recordings together."""
    return int.from_bytes(hashlib.sha256(recording.encode()).digest()[:8], "big")


def _parse(line: bytes, source: str) -> dict[str, Any]:
    """Return the fields of a row. Raises DatasetError if the line is not a row."""
    try:
        values = json.loads(line)
        defect = _defect(values)
    except (ValueError, RecursionError) as error:
        defect = f"not JSON in UTF-8 ({error})"
    if defect:
        raise DatasetError(f"{source}: {defect}; prepare the dataset again")
    return values


def _defect(values: Any) -> str | None:
    """Return why a parsed line is not a row, or None."""
    if not isinstance(values, dict):
        return f"expected an object, got {type(values).__name__}"
    if missing := _TYPES.keys() - values.keys():
        return f"missing {', '.join(sorted(missing))}"
    if unknown := values.keys() - _TYPES.keys():
        return f"unknown {', '.join(sorted(unknown))}"
    for name, expected in _TYPES.items():
        value = values[name]
        if not isinstance(value, expected) or isinstance(value, bool):
            return f"{name} is {value!r}"
        if expected is not str and not 0 <= value < _MAX_NUMBER:
            return f"{name} is {value!r}, out of range"
    if values["frames"] * values["sample_rate"] > values["samples"] * FRAMES_PER_SECOND:
        return f"frames is {values['frames']}, more than {values['samples']} samples contain"
    return None
