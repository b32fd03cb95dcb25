"""Import of the slices and features of an experiment folder of Applio, Ultimate RVC or the WebUI.

    filelist.txt    one line per slice: wav|features|coarse pitch|f0 in Hz|speaker; wav|features|speaker without pitch
    config.json     sizes of the networks and of the spectrogram
    G_*.pth, D_*.pth

Paths in the list are those of the machine that wrote it, so files are looked up in the folder first.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile

from rvc_lightning.audio.discovery import SkippedFile
from rvc_lightning.audio.frames import FRAMES_PER_SECOND
from rvc_lightning.content import encoder_name
from rvc_lightning.data.manifest import DatasetHeader, ManifestRow, write_manifest
from rvc_lightning.data.report import REPORT_NAME
from rvc_lightning.errors import DatasetError
from rvc_lightning.io.files import read_json, read_npy, write_json, write_npy
from rvc_lightning.pitch import DEFAULT_PITCH, PITCH_EXTRACTORS
from rvc_lightning.voice.entries import as_count, as_text
from rvc_lightning.voice.rvc_format import CONTENT_DIMS, config_of_experiment, parse_rate
from rvc_lightning.voice.voice import DEFAULT_CONTENT

_NO_PITCH = "no_pitch.npy"
_SPEAKER = re.compile(r"[0-9]{1,4}")
"""A speaker number; the tables of all tools have fewer than 10,000 rows."""


class _Entry(NamedTuple):
    """One line of the file list, with paths as written there."""

    audio: str
    content: str
    f0: str | None
    speaker: int


@dataclass
class ImportedDataset:
    """Header, rows and skipped files of an imported dataset."""

    header: DatasetHeader
    rows: list[ManifestRow] = field(default_factory=list)
    skipped: list[SkippedFile] = field(default_factory=list)

    @property
    def minutes(self) -> float:
        """Duration of the audio."""
        return sum(row.seconds for row in self.rows) / 60


def read_config(experiment: Path) -> dict[str, Any]:
    """Read the `config.json` of an experiment.

    Raises:
        DatasetError: The file is missing or not a JSON object.
    """
    path = experiment / "config.json"
    try:
        return read_json(path)
    except FileNotFoundError as error:
        raise DatasetError(
            f"'{experiment}' is not an experiment folder of an RVC tool: it has no config.json; name the folder with "
            "filelist.txt and the sliced recordings (logs/NAME)"
        ) from error
    except ValueError as error:
        raise DatasetError(f"'{path}' is not a JSON object: {error}") from error


def import_dataset(experiment: Path, dataset: Path) -> ImportedDataset:
    """Write a manifest of the slices and features of an experiment, which are used in place.

    Args:
        experiment: Folder of the other tool, which must not be moved afterwards.
        dataset: Folder for manifest, header and report.

    Raises:
        DatasetError: The folder is not an experiment, or has no usable slice.
        VoiceError: A value in `config.json` is missing.
    """
    values = config_of_experiment(read_config(experiment))
    folder = _Folder(experiment, dataset, sample_rate=parse_rate(values[-1]), speaker_rows=as_count(values[-3]) or 0)
    entries, skipped = _read_list(experiment)
    rows, dims = [], set()
    ids: Counter[str] = Counter()
    for entry in entries:
        try:
            row, dim = folder.row(entry)
        except (OSError, ValueError, soundfile.LibsndfileError) as error:
            skipped.append(SkippedFile(entry.audio, str(error)))
            continue
        ids[row.id] += 1
        # The lists repeat their silent slices, but ids are unique.
        rows.append(row if ids[row.id] == 1 else replace(row, id=f"{row.id}-{ids[row.id]}"))
        dims.add(dim)
    if not rows or len(dims) != 1:
        problem = f"features of several sizes {sorted(dims)}" if dims else "no usable line"
        reasons = "; ".join(f"{file.path}: {file.reason}" for file in skipped[:5])
        raise DatasetError(f"'{experiment / 'filelist.txt'}' has {problem}. {reasons}")
    header = _header(experiment, folder.sample_rate, dims.pop(), rows, entries[0].f0)
    imported = ImportedDataset(header, sorted(rows, key=attrgetter("id")), sorted(skipped, key=attrgetter("path")))
    _write(imported, experiment, dataset)
    return imported


def _write(imported: ImportedDataset, experiment: Path, dataset: Path) -> None:
    skipped = [vars(file) for file in imported.skipped]
    report = {"experiment": str(experiment), "used": len(imported.rows), "left_out": skipped}
    write_json(dataset / REPORT_NAME, report)
    write_manifest(dataset, imported.header, imported.rows)


def _read_list(experiment: Path) -> tuple[list[_Entry], list[SkippedFile]]:
    """Return the entries of the file list, and its malformed lines."""
    path = experiment / "filelist.txt"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise DatasetError(
            f"'{experiment}' has no filelist.txt: its tool has not extracted features yet. Prepare the recordings "
            "here instead: python -m rvc_lightning.train audio=FOLDER"
        ) from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"'{path}' is not UTF-8 text: {error}") from error
    entries: list[_Entry] = []
    skipped: list[SkippedFile] = []
    for number, line in enumerate(filter(str.strip, lines), start=1):
        parts = line.strip().split("|")
        if len(parts) not in (3, 5) or not _SPEAKER.fullmatch(parts[-1]):
            skipped.append(SkippedFile(f"filelist.txt, line {number}", "is not wav|features|coarse pitch|f0|speaker"))
            continue
        entries.append(_Entry(parts[0], parts[1], parts[3] if len(parts) == 5 else None, int(parts[-1])))
    return entries, skipped


class _Folder(NamedTuple):
    """An experiment folder and the dataset to write."""

    experiment: Path
    dataset: Path
    sample_rate: int
    speaker_rows: int

    def row(self, entry: _Entry) -> tuple[ManifestRow, int]:
        """Return the row of a slice and the channels of its features. Raises ValueError if it cannot be used."""
        if entry.speaker >= self.speaker_rows:
            raise ValueError(f"speaker {entry.speaker} is not in the speaker table of {self.speaker_rows} rows")
        audio, content = self.find(entry.audio), self.find(entry.content)
        f0 = self.silent_pitch() if entry.f0 is None else self.find(entry.f0)
        info = soundfile.info(audio)
        if info.samplerate != self.sample_rate or info.channels != 1:
            found = f"{info.channels} channels at {info.samplerate} Hz"
            raise ValueError(f"it has {found} instead of one at {self.sample_rate} Hz")
        dim = _check_content(content)
        row = ManifestRow(
            id=audio.stem,
            recording=_recording_of(audio.stem),
            speaker=entry.speaker,
            sample_rate=self.sample_rate,
            audio=_relative(audio, self.dataset),
            f0=_relative(f0, self.dataset),
            content=_relative(content, self.dataset),
            samples=info.frames,
            frames=info.frames * FRAMES_PER_SECOND // self.sample_rate,
            seconds=info.frames / self.sample_rate,
        )
        return row, dim

    def find(self, path: str) -> Path:
        """Return a file of the list: in the folder, beside it (the shared silent slices), or at its original path."""
        parts = re.split(r"[/\\]", path)
        in_folder, beside = self.experiment.joinpath(*parts[-2:]), self.experiment.parent.joinpath(*parts[-3:])
        for candidate in (in_folder, beside, Path(path)):
            if candidate.is_file():
                return candidate
        raise ValueError(f"there is no '{'/'.join(parts[-2:])}' in the folder")

    def silent_pitch(self) -> Path:
        """Return a file of unvoiced pitch for slices of any length that the tools make (at most 30 s)."""
        path = self.dataset / _NO_PITCH
        if not path.exists():
            write_npy(path, np.zeros(30 * FRAMES_PER_SECOND, dtype=np.float32))
        return path


def _check_content(path: Path) -> int:
    """Return the channels of the features in a file. Raises ValueError if they are invalid."""
    features = read_npy(path, 2)
    if features.shape[1] not in CONTENT_DIMS.values():
        raise ValueError(f"its features have the shape {features.shape} instead of (frames, 256 or 768)")
    if not np.isfinite(features).all():
        raise ValueError("its features contain NaN or infinity")
    return features.shape[1]


def _recording_of(stem: str) -> str:
    """Return the recording of a slice: its name without the last number."""
    return re.sub(r"(?<=\d)_\d+$", "", stem)


def _relative(path: Path, dataset: Path) -> str:
    """Return `path` relative to the dataset; absolute if it is on another drive."""
    try:
        return Path(os.path.relpath(path.resolve(), dataset.resolve())).as_posix()
    except ValueError:
        return path.resolve().as_posix()


def _header(
    experiment: Path, sample_rate: int, dim: int, rows: list[ManifestRow], f0_path: str | None
) -> DatasetHeader:
    """Return the header, with the content encoder and pitch extractor if they are known."""
    path = experiment / "model_info.json"
    try:
        info = read_json(path) if path.is_file() else {}
    except ValueError as error:
        raise DatasetError(f"'{path}' is not a JSON object: {error}") from error
    encoder = as_text(info.get("embedder_model")) or DEFAULT_CONTENT
    version = next(version for version, channels in CONTENT_DIMS.items() if channels == dim)
    # Ultimate RVC names the folder after the method: f0_METHOD_voiced.
    method = re.search(r"f0_(.+)_voiced[/\\]", f0_path or "")
    pitch = "none" if f0_path is None else method[1].replace("-", "_") if method else DEFAULT_PITCH
    return DatasetHeader(
        sample_rate=sample_rate,
        pitch={"name": pitch if pitch in PITCH_EXTRACTORS else DEFAULT_PITCH, "options": {}},
        content={
            "name": encoder_name(encoder),
            "options": {"version": version},
            "dim": dim,
        },
        slicing={"imported_from": str(experiment)},
        speakers=[str(number) for number in range(max(row.speaker for row in rows) + 1)],
    )
