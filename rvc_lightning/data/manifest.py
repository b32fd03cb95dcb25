"""The manifest of a prepared dataset: one JSON line per slice, and a header with the settings of the preparation.

    manifest.jsonl    one `ManifestRow` per line
    dataset.json      the `DatasetHeader`
    excluded.txt      optional, edited by hand or by the page: `audio` of slices not to train on, one per line

Paths are relative to the folder of the manifest, with forward slashes, so a dataset can be moved.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from rvc_lightning.audio.frames import FRAMES_PER_SECOND
from rvc_lightning.config.options import Settings, option
from rvc_lightning.errors import ConfigurationError, DatasetError
from rvc_lightning.io.files import atomic_path, read_json, write_json

MANIFEST_NAME = "manifest.jsonl"
HEADER_NAME = "dataset.json"
EXCLUDED_NAME = "excluded.txt"

# More than a year of frames, and more samples than a WAV file can hold.
_MAX_NUMBER = 2**40
_MAX_CONTENT_DIM = 2**16


@dataclass(frozen=True, slots=True)
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
        repeats: Times that the slice is used in an epoch of training.

    Raises:
        ValueError: A value has the wrong type, or is out of range.
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
    repeats: int = 1

    def __post_init__(self) -> None:
        wrong = [name for name, kinds in _KINDS.items() if not _is_valid(getattr(self, name), kinds)]
        if not wrong and self.frames * self.sample_rate > self.samples * FRAMES_PER_SECOND:
            wrong = ["frames", "samples"]
        if wrong:
            raise ValueError(", ".join(f"{name} is {getattr(self, name)!r}" for name in wrong))


_KINDS: dict[str, tuple[type, ...]] = {
    definition.name: {"str": (str,), "int": (int,), "float": (float, int)}[str(definition.type)]
    for definition in fields(ManifestRow)
}


def _is_valid(value: Any, kinds: tuple[type, ...]) -> bool:
    return type(value) in kinds and (isinstance(value, str) or 0 <= value < _MAX_NUMBER)


@dataclass(frozen=True)
class DatasetHeader(Settings):
    """Settings that a dataset was prepared with.

    Raises:
        ConfigurationError: A value has the wrong type, or is out of range.
    """

    sample_rate: int = option(help="Rate of the slices", unit="Hz", min=1, max=768_000)
    pitch: dict[str, Any] = option(help='{"name": ..., "options": {...}}')
    content: dict[str, Any] = option(help='{"name": ..., "options": {...}, "dim": C}')
    slicing: dict[str, Any] = option({}, "The fields of `SlicingConfig`")
    content_speeds: list[float] = option([], "Other speeds of playback at which the content was extracted")
    speakers: list[str] = option(["0"], "Name of each speaker, by its number")
    precision: str = option("32-true", "Precision of the networks for pitch and content, as Lightning names it")
    revision: int = option(0, "Revision of the layout; 0 for datasets of other tools")
    silence: str | None = option(None, "Path of the content of three seconds of silence, npy; null without it")
    slices: int | None = option(None, "Number of rows of the manifest; null in datasets of earlier versions")

    def __post_init__(self) -> None:
        super().__post_init__()
        are_names = all(isinstance(name, str) for name in self.speakers)
        if not are_names or self.content.get("dim", 1) not in range(1, _MAX_CONTENT_DIM):
            raise ConfigurationError(
                f"speakers={self.speakers!r}, content={self.content!r}: choose names, and 1 to {_MAX_CONTENT_DIM - 1} "
                "channels"
            )


def write_manifest(folder: Path | str, header: DatasetHeader, rows: Iterable[ManifestRow]) -> None:
    """Write manifest and header atomically; a reader never finds a part of the rows, or the header of other rows."""
    n_rows, path = 0, Path(folder) / HEADER_NAME
    with atomic_path(Path(folder) / MANIFEST_NAME) as temporary:
        with temporary.open("w", encoding="utf-8") as stream:
            for row in rows:
                stream.write(json.dumps(asdict(row), ensure_ascii=False) + "\n")
                n_rows += 1
        header = replace(header, slices=n_rows)
        with suppress(DatasetError):
            # The old header does not describe the new manifest, so it is deleted before the manifest is replaced.
            if read_header(folder) != header:
                path.unlink()
    write_json(path, asdict(header))


def read_header(folder: Path | str) -> DatasetHeader:
    """Read the header of a prepared dataset.

    Raises:
        DatasetError: The header is missing or damaged.
    """
    path = Path(folder) / HEADER_NAME
    try:
        return DatasetHeader(**read_json(path))
    except (FileNotFoundError, ValueError, TypeError, ConfigurationError) as error:
        raise _unreadable(path, f"'{path}'", error) from error


def read_manifest(folder: Path | str) -> list[ManifestRow]:
    """Read all rows of a prepared dataset.

    Raises:
        DatasetError: The manifest is missing, a line is not a row, or rows are missing; the message includes the line.
    """
    path, rows = Path(folder) / MANIFEST_NAME, []
    try:
        with path.open("rb") as stream:
            for line in stream:
                rows.append(ManifestRow(**json.loads(line)))
    except (FileNotFoundError, ValueError, TypeError, RecursionError) as error:
        raise _unreadable(path, f"'{path}', line {len(rows) + 1}", error) from error
    header, n_speakers = read_header(folder), max((row.speaker + 1 for row in rows), default=0)
    if header.slices not in (None, len(rows)) or n_speakers > len(header.speakers):
        raise DatasetError(
            f"'{path}' has {len(rows)} slices of {n_speakers} speakers, but '{HEADER_NAME}' describes {header.slices} "
            f"slices of {len(header.speakers)} speakers: one was truncated or edited; prepare the dataset again"
        )
    return rows


def read_used_rows(folder: Path | str) -> list[ManifestRow]:
    """Read the rows that are not excluded by hand.

    Raises:
        DatasetError: As in `read_manifest` and `read_excluded`.
    """
    excluded = read_excluded(folder)
    return [row for row in read_manifest(folder) if row.audio not in excluded]


def read_excluded(folder: Path | str) -> set[str]:
    """Return the paths of the slices that are excluded by hand. Raises DatasetError if the file is not UTF-8 text."""
    path = Path(folder) / EXCLUDED_NAME
    if not path.is_file():
        return set()
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise DatasetError(f"'{path}' is not UTF-8 text ({error}): save it as UTF-8, or delete it") from error
    # `echo` of Windows writes the space before `>>` as well.
    return {line.strip() for line in lines} - {""}


def exclude_slice(folder: Path | str, audio: str, *, excluded: bool) -> None:
    """Exclude a slice from training, or restore it.

    Args:
        folder: Folder of the dataset.
        audio: Path of the slice as in its row.
        excluded: Whether to exclude it.
    """
    paths = read_excluded(folder) - {audio} | ({audio} if excluded else set())
    with atomic_path(Path(folder) / EXCLUDED_NAME) as temporary:
        temporary.write_text("".join(f"{path}\n" for path in sorted(paths)), encoding="utf-8")


def _unreadable(path: Path, place: str, error: Exception) -> DatasetError:
    """Return the error for a file of a dataset that is missing or damaged."""
    if isinstance(error, FileNotFoundError):
        return DatasetError(
            f"'{path.parent}' is not a prepared dataset: it has no {path.name}; prepare it first, audio=FOLDER"
        )
    return DatasetError(f"{place} is damaged or of another version ({error}); prepare the dataset again")
