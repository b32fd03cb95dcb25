"""The experiment folders of Applio, Ultimate RVC and the WebUI: slices, pitch and content that are there already.

    filelist.txt    wav|features|coarse pitch|f0 in Hz|speaker    a line a slice; without pitch: wav|features|speaker
    config.json     sizes of the networks and of the spectrogram
    G_*.pth, D_*.pth

The list's paths are those of the machine it was made on, so files are looked for in the folder first.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile

from rvc_lightning.audio.discovery import SkippedFile
from rvc_lightning.audio.frames import FRAMES_PER_SECOND
from rvc_lightning.content import CONTENT_ENCODERS
from rvc_lightning.data.manifest import DatasetHeader, ManifestRow, write_manifest
from rvc_lightning.data.report import REPORT_NAME
from rvc_lightning.errors import DatasetError
from rvc_lightning.io.files import read_json, read_npy, write_json, write_npy
from rvc_lightning.pitch import DEFAULT_PITCH, PITCH_EXTRACTORS
from rvc_lightning.voice.rvc_format import CONTENT_DIMS, config_of_experiment, parse_rate
from rvc_lightning.voice.voice import DEFAULT_CONTENT

_NO_PITCH = "no_pitch.npy"


class _Entry(NamedTuple):
    """One line of the file list, paths as they are there."""

    audio: str
    content: str
    f0: str | None
    speaker: int


@dataclass
class Taken:
    """What became of a file list."""

    header: DatasetHeader
    rows: list[ManifestRow] = field(default_factory=list)
    skipped: list[SkippedFile] = field(default_factory=list)

    @property
    def minutes(self) -> float:
        """Audio of the rows."""
        return sum(row.seconds for row in self.rows) / 60


def read_config(experiment: Path) -> dict[str, Any]:
    """The experiment's `config.json`.

    Raises:
        DatasetError: There is none, or it is no JSON object.
    """
    path = experiment / "config.json"
    try:
        return read_json(path)
    except FileNotFoundError as error:
        raise DatasetError(
            f"'{experiment}' is no experiment folder of an RVC tool: it has no config.json; name the folder with "
            "filelist.txt and the sliced recordings (logs/NAME)"
        ) from error
    except ValueError as error:
        raise DatasetError(f"'{path}' is no JSON object: {error}") from error


def import_dataset(experiment: Path, dataset: Path) -> Taken:
    """Writes a manifest of the experiment's slices and features where they lie; nothing is computed or copied.

    Args:
        experiment: The folder of the other tool, which must stay where it is.
        dataset: Our folder: manifest, header and report.

    Raises:
        DatasetError: It is no experiment folder, or none of its lines can be used.
        VoiceError: Its `config.json` lacks a value.
    """
    sample_rate = parse_rate(config_of_experiment(read_config(experiment))[-1])
    entries, skipped = _read_list(experiment)
    rows, dims = [], set()
    silence = _silent_pitch(dataset) if any(entry.f0 is None for entry in entries) else None
    names: Counter[str] = Counter()
    for entry in entries:
        try:
            row, dim = _row(entry, experiment, dataset, sample_rate, silence)
        except (OSError, ValueError, soundfile.LibsndfileError, _UnusableError) as error:
            skipped.append(SkippedFile(entry.audio, str(error)))
            continue
        names[row.id] += 1
        # The lists repeat their silent slices; ids are unique.
        rows.append(row if names[row.id] == 1 else _renamed(row, names[row.id]))
        dims.add(dim)
    if not rows or len(dims) != 1:
        what = f"features of several sizes {sorted(dims)}" if dims else "no usable line"
        reasons = "; ".join(f"{file.path}: {file.reason}" for file in skipped[:5])
        raise DatasetError(f"'{experiment / 'filelist.txt'}' has {what}. {reasons}")
    header = _header(experiment, sample_rate, dims.pop(), rows, entries[0].f0)
    taken = Taken(header, sorted(rows, key=lambda row: row.id), sorted(skipped, key=lambda file: file.path))
    write_json(
        dataset / REPORT_NAME,
        {"experiment": str(experiment), "used": len(rows), "left_out": [vars(file) for file in taken.skipped]},
    )
    write_manifest(dataset, header, taken.rows)
    return taken


class _UnusableError(Exception):
    """Why a line of the list cannot be used."""


def _read_list(experiment: Path) -> tuple[list[_Entry], list[SkippedFile]]:
    """The lines of the file list, and those that are none."""
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
        if len(parts) not in (3, 5) or not parts[-1].isdecimal():
            skipped.append(SkippedFile(f"filelist.txt, line {number}", "is not wav|features|coarse pitch|f0|speaker"))
            continue
        entries.append(_Entry(parts[0], parts[1], parts[3] if len(parts) == 5 else None, int(parts[-1])))
    return entries, skipped


def _row(
    entry: _Entry, experiment: Path, dataset: Path, sample_rate: int, silence: Path | None
) -> tuple[ManifestRow, int]:
    """The manifest's row of a line, and the channels of its features. Raises _UnusableError with the reason."""
    audio, content = (_find(path, experiment) for path in (entry.audio, entry.content))
    f0 = silence if entry.f0 is None else _find(entry.f0, experiment)
    assert f0 is not None
    info = soundfile.info(audio)
    if info.samplerate != sample_rate or info.channels != 1:
        raise _UnusableError(f"has {info.channels} channels at {info.samplerate} Hz instead of one at {sample_rate} Hz")
    features = read_npy(content, 2)
    if features.shape[1] not in CONTENT_DIMS.values():
        raise _UnusableError(f"its features have the shape {features.shape} instead of (frames, 256 or 768)")
    if not np.isfinite(features).all():
        raise _UnusableError("its features hold NaN or infinity")
    row = ManifestRow(
        id=audio.stem,
        recording=_recording_of(audio.stem),
        speaker=entry.speaker,
        sample_rate=sample_rate,
        audio=_relative(audio, dataset),
        f0=_relative(f0, dataset),
        content=_relative(content, dataset),
        samples=info.frames,
        frames=info.frames * FRAMES_PER_SECOND // sample_rate,
        seconds=info.frames / sample_rate,
    )
    return row, features.shape[1]


def _find(path: str, experiment: Path) -> Path:
    """The file that the list means: in the folder, beside it (the shared silent slices), or where the list says."""
    parts = re.split(r"[/\\]", path)
    for candidate in (experiment.joinpath(*parts[-2:]), experiment.parent.joinpath(*parts[-3:]), Path(path)):
        if candidate.is_file():
            return candidate
    raise _UnusableError(f"there is no '{'/'.join(parts[-2:])}' in the folder")


def _recording_of(stem: str) -> str:
    """The recording that a slice was cut from: all but the last number of its name."""
    return re.sub(r"(?<=\d)_\d+$", "", stem)


def _relative(path: Path, dataset: Path) -> str:
    """`path` as seen from the dataset; absolute only where no relative path exists (another drive)."""
    try:
        return Path(os.path.relpath(path.resolve(), dataset.resolve())).as_posix()
    except ValueError:
        return path.resolve().as_posix()


def _renamed(row: ManifestRow, count: int) -> ManifestRow:
    return ManifestRow(**vars(row) | {"id": f"{row.id}-{count}"})


def _silent_pitch(dataset: Path) -> Path:
    """One file that says 'unvoiced' for slices of any length that the tools make (30 s at most)."""
    path = dataset / _NO_PITCH
    write_npy(path, np.zeros(30 * FRAMES_PER_SECOND, dtype=np.float32))
    return path


def _header(
    experiment: Path, sample_rate: int, dim: int, rows: list[ManifestRow], f0_path: str | None
) -> DatasetHeader:
    """How the experiment was made, as far as it says."""
    path = experiment / "model_info.json"
    try:
        info = read_json(path) if path.is_file() else {}
    except ValueError as error:
        raise DatasetError(f"'{path}' is no JSON object: {error}") from error
    encoder = str(info.get("embedder_model") or DEFAULT_CONTENT)
    version = next(version for version, channels in CONTENT_DIMS.items() if channels == dim)
    # Ultimate RVC names the folder after the method: f0_METHOD_voiced.
    method = re.search(r"f0_(.+)_voiced[/\\]", f0_path or "")
    pitch = "none" if f0_path is None else method[1].replace("-", "_") if method else DEFAULT_PITCH
    return DatasetHeader(
        sample_rate=sample_rate,
        pitch={"name": pitch if pitch in PITCH_EXTRACTORS else DEFAULT_PITCH, "options": {}},
        content={
            # A custom encoder is known by its folder, which whoever converts has to name.
            "name": encoder if encoder in CONTENT_ENCODERS else "hubert",
            "options": {"version": version},
            "dim": dim,
        },
        slicing={"taken_over_from": str(experiment)},
        speakers=[str(number) for number in range(max(row.speaker for row in rows) + 1)],
    )
