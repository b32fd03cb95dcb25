"""The manifest of a prepared dataset: one JSON line a slice, and a header that says how all of them were made.

    manifest.jsonl    one `ManifestRow` a line
    dataset.json      the `DatasetHeader`

Paths in it are relative to the folder of the manifest and have forward slashes, so a dataset can be moved.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from rvc_lightning.errors import DatasetError
from rvc_lightning.files import atomic_path, read_json, write_json

MANIFEST_NAME = "manifest.jsonl"
HEADER_NAME = "dataset.json"

_ACCEPTED: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float)}


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


@dataclass(frozen=True)
class DatasetHeader:
    """How a dataset was made.

    Attributes:
        sample_rate: Hz.
        pitch: {"name": ..., "options": {...}}.
        content: {"name": ..., "options": {...}, "dim": C}.
        slicing: the fields of `SlicingConfig`.
        speakers: name of each speaker, by its number.
        silence: npy, the content of three seconds of silence; None where there is none, as in datasets taken over.
    """

    sample_rate: int
    pitch: dict[str, Any]
    content: dict[str, Any]
    slicing: dict[str, Any] = field(default_factory=dict)
    speakers: list[str] = field(default_factory=lambda: ["0"])
    silence: str | None = None


def write_manifest(folder: Path | str, header: DatasetHeader, rows: Iterable[ManifestRow]) -> None:
    """Write manifest and header, each atomically."""
    with atomic_path(Path(folder) / MANIFEST_NAME) as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows)
    write_json(Path(folder) / HEADER_NAME, asdict(header))


def read_manifest(folder: Path | str) -> Iterator[ManifestRow]:
    """Read the rows one by one.

    Args:
        folder: of the prepared dataset.

    Raises:
        DatasetError: no manifest, or a line that is no row; the message names file, line and what is wrong.
    """
    path = Path(folder) / MANIFEST_NAME
    try:
        with path.open(encoding="utf-8") as stream:
            for number, line in enumerate(stream, start=1):
                yield _parse(line, f"'{path}', line {number}")
    except FileNotFoundError as error:
        raise DatasetError(f"'{folder}' is no prepared dataset: it has no {MANIFEST_NAME}; prepare it first") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"'{path}' is not UTF-8 text ({error}); prepare the dataset again") from error


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


def _parse(line: str, where: str) -> ManifestRow:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{where}: not JSON ({error}); prepare the dataset again") from error
    problem = _problem(values)
    if problem:
        raise DatasetError(f"{where}: {problem}; prepare the dataset again")
    return ManifestRow(**values)


def _problem(values: object) -> str | None:
    """What keeps a parsed line from being a row."""
    if not isinstance(values, Mapping):
        return f"expected an object, got {type(values).__name__}"
    expected = {item.name: _ACCEPTED[str(item.type)] for item in fields(ManifestRow)}
    if missing := expected.keys() - values.keys():
        return f"missing {', '.join(sorted(missing))}"
    if unknown := values.keys() - expected.keys():
        return f"unknown {', '.join(sorted(unknown))}"
    for name, types in expected.items():
        value = values[name]
        if not isinstance(value, types) or isinstance(value, bool):
            return f"{name} is {value!r}, not {types[-1].__name__}"
        if isinstance(value, (int, float)) and value < 0:
            return f"{name} is {value!r}, below 0"
    return None
