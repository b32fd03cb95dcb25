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
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile

from rvc_lightning.audio.discovery import SkippedFile
from rvc_lightning.audio.frames import FRAMES_PER_SECOND
from rvc_lightning.audio.soundfile_reader import sound_path
from rvc_lightning.content import encoder_name
from rvc_lightning.data.manifest import DatasetHeader, ManifestRow, write_manifest
from rvc_lightning.data.report import REPORT_NAME
from rvc_lightning.errors import DatasetError, RVCError
from rvc_lightning.importers.pair import Pair, newest_pair
from rvc_lightning.io.files import map_npy, read_json, read_npy, write_json, write_npy
from rvc_lightning.models import SynthesizerConfig
from rvc_lightning.pitch import DEFAULT_PITCH, PITCH_EXTRACTORS
from rvc_lightning.pitch.none import NoPitch
from rvc_lightning.voice.entries import MALFORMED, as_count, as_text, explain
from rvc_lightning.voice.rvc_format import CONTENT_DIMS, VoiceKind, config_from_list, config_of_experiment
from rvc_lightning.voice.voice import DEFAULT_CONTENT

_NO_PITCH = "no_pitch.npy"
_LEARNING_RATE = 1e-4
_LR_DECAY = 0.999875
_MALFORMED_FOLDER = (OSError, *(kind for kind in MALFORMED if kind is not RVCError))
"""Errors of code that reads missing or malformed files, and that do not name the folder."""


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


class ImportedExperiment(NamedTuple):
    """The dataset of an experiment, and the networks to continue with."""

    dataset: ImportedDataset
    pair: Pair | None
    """None before the first checkpoint."""
    sizes: SynthesizerConfig
    """Sizes of the networks of the pair, or of those that the experiment would train."""
    learning_rate: float
    """Learning rate after the epochs of the pair."""


def import_experiment(experiment: Path, dataset: Path) -> ImportedExperiment:
    """Write a manifest of the slices and features of an experiment, which are used in place, and read its networks.

    Args:
        experiment: Folder of the other tool, which must not be moved afterwards.
        dataset: Folder for manifest, header and report.

    Raises:
        DatasetError: The folder is not an experiment, or has no usable slice.
        VoiceError: A checkpoint is damaged or of an unknown kind.
        ConfigurationError: The sizes of the networks are invalid.
    """
    try:
        blocks, pair = read_json(experiment / "config.json"), newest_pair(experiment)
        values = config_of_experiment(blocks)
        imported = _read_dataset(_Folder(experiment, dataset, values[-1], as_count(values[-3]) or 0))
        sizes = _configured_sizes(values, imported.header) if pair is None else pair.synthesizer
        learning_rate = learning_rate_after(0 if pair is None else pair.epoch, blocks)
    except _MALFORMED_FOLDER as error:
        raise DatasetError(
            f"'{experiment}' cannot be imported: {explain(error)}; choose the folder of the voice (logs/NAME), with "
            "config.json, and with filelist.txt, which its tool writes when it has extracted features"
        ) from error
    skipped = [vars(file) for file in imported.skipped]
    report = {"experiment": str(experiment), "used": len(imported.rows), "left_out": skipped}
    write_json(dataset / REPORT_NAME, report)
    write_manifest(dataset, imported.header, imported.rows)
    return ImportedExperiment(imported, pair, sizes, learning_rate)


def _read_dataset(folder: _Folder) -> ImportedDataset:
    """Read the lines of the file list; lines that cannot be used are skipped."""
    rows, dims = [], set()
    skipped: list[SkippedFile] = []
    ids: Counter[str] = Counter()
    lines = (folder.experiment / "filelist.txt").read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(filter(str.strip, lines), start=1):
        audio, *others = line.strip().split("|")
        try:
            row, dim = folder.row(audio, others)
        except (OSError, ValueError, soundfile.LibsndfileError) as error:
            skipped.append(SkippedFile(audio, f"line {number}: {explain(error)}"))
            continue
        ids[row.id] += 1
        # The lists repeat their silent slices, but ids are unique.
        rows.append(row if ids[row.id] == 1 else replace(row, id=f"{row.id}-{ids[row.id]}"))
        dims.add(dim)
    if len(dims) != 1:
        problem = f"features of several sizes {sorted(dims)}" if dims else "no usable line"
        reasons = "; ".join(f"{file.path}: {file.reason}" for file in skipped[:5])
        raise DatasetError(f"'{folder.experiment / 'filelist.txt'}' has {problem}. {reasons}")
    header = _header(folder, dims.pop(), rows)
    return ImportedDataset(header, sorted(rows, key=attrgetter("id")), sorted(skipped, key=attrgetter("path")))


class _Folder(NamedTuple):
    """An experiment folder and the dataset to write."""

    experiment: Path
    dataset: Path
    sample_rate: int
    speaker_rows: int

    def row(self, audio: str, others: list[str]) -> tuple[ManifestRow, int]:
        """Return the row of a slice and the channels of its features. Raises ValueError if it cannot be used."""
        content, *pitch, speaker = others
        _, f0 = pitch or (None, None)
        paths = self.find(audio), self.silent_pitch() if f0 is None else self.find(f0), self.find(content)
        info, _, features = soundfile.info(sound_path(paths[0])), map_npy(paths[1], 1), read_npy(paths[2], 2)
        problems = {
            f"speaker {speaker} is not in the speaker table of {self.speaker_rows} rows": int(speaker)
            not in range(self.speaker_rows),
            f"{info.channels} channels at {info.samplerate} Hz instead of one at {self.sample_rate} Hz": (
                info.samplerate != self.sample_rate or info.channels != 1
            ),
            f"features of the shape {features.shape} instead of (frames, 256 or 768)": features.shape[1]
            not in CONTENT_DIMS.values(),
            "the features contain NaN or infinity": not np.isfinite(features).all(),
        }
        if problem := next((problem for problem, is_true in problems.items() if is_true), None):
            raise ValueError(problem)
        stored = [_relative(path, self.dataset) for path in paths]
        row = ManifestRow(
            id=paths[0].stem,
            # The name of the slice without its last number.
            recording=re.sub(r"(?<=\d)_\d+$", "", paths[0].stem),
            speaker=int(speaker),
            sample_rate=self.sample_rate,
            audio=stored[0],
            f0=stored[1],
            content=stored[2],
            samples=info.frames,
            frames=info.frames * FRAMES_PER_SECOND // self.sample_rate,
            seconds=info.frames / self.sample_rate,
        )
        return row, features.shape[1]

    def find(self, path: str) -> Path:
        """Return a file of the list: in the folder, beside it (the shared silent slices), or at its original path."""
        parts = re.split(r"[/\\]", path)
        in_folder, beside = self.experiment.joinpath(*parts[-2:]), self.experiment.parent.joinpath(*parts[-3:])
        return next((file for file in (in_folder, beside, Path(path)) if file.is_file()), in_folder)

    def silent_pitch(self) -> Path:
        """Return a file of unvoiced pitch for slices of any length that the tools make (at most 30 s)."""
        path = self.dataset / _NO_PITCH
        if not path.exists():
            write_npy(path, np.zeros(30 * FRAMES_PER_SECOND, dtype=np.float32))
        return path


def _relative(path: Path, dataset: Path) -> str:
    """Return `path` relative to the dataset; absolute if it is on another drive."""
    try:
        return Path(os.path.relpath(path.resolve(), dataset.resolve())).as_posix()
    except ValueError:
        return path.resolve().as_posix()


def _header(folder: _Folder, dim: int, rows: list[ManifestRow]) -> DatasetHeader:
    """Return the header, with the content encoder and pitch extractor if they are known."""
    path = folder.experiment / "model_info.json"
    info = read_json(path) if path.is_file() else {}
    version = next(version for version, channels in CONTENT_DIMS.items() if channels == dim)
    pitch = NoPitch.name
    if rows[0].f0 != _NO_PITCH:
        # Ultimate RVC names the folder after the method: f0_METHOD_voiced.
        method = re.search(r"f0_(.+)_voiced/", rows[0].f0)
        pitch = method[1].replace("-", "_") if method else DEFAULT_PITCH
    return DatasetHeader(
        sample_rate=folder.sample_rate,
        pitch={"name": pitch if pitch in PITCH_EXTRACTORS else DEFAULT_PITCH, "options": {}},
        content={
            "name": encoder_name(as_text(info.get("embedder_model")) or DEFAULT_CONTENT),
            "options": {"version": version},
            "dim": dim,
        },
        slicing={"imported_from": str(folder.experiment)},
        speakers=[str(number) for number in range(max(row.speaker for row in rows) + 1)],
    )


def _configured_sizes(values: list[Any], header: DatasetHeader) -> SynthesizerConfig:
    """Return the sizes that an experiment without a pair would train; errors as of `config_from_list`."""
    kind = VoiceKind(header.content["options"]["version"], "HiFi-GAN", header.pitch["name"] != NoPitch.name)
    return config_from_list(values, kind, len(header.speakers))


def learning_rate_after(epoch: int, blocks: Mapping[str, Any]) -> float:
    """Return the learning rate after `epoch` epochs by the block `train` of a `config.json`."""
    train = blocks.get("train", {})
    return float(train.get("learning_rate", _LEARNING_RATE)) * float(train.get("lr_decay", _LR_DECAY)) ** epoch
