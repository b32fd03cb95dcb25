"""From a folder of recordings to a prepared dataset.

    OUTPUT/
      slices-HASH/RECORDING/0000.wav ...    float32, at the rate to train at; HASH: slicing settings and rate
      slices-HASH/RECORDING/recording.json  written last: this recording is done
      pitch-NAME-HASH/RECORDING/0000.npy    f0_hz float32 [F] at 100 Hz; HASH: pitch settings and slices
      content-NAME-HASH/RECORDING/0000.npy  float16 [F / 2, C] at 50 Hz; HASH: content settings and slices
      manifest.jsonl dataset.json report.json

RECORDING is the file's stem with a hash of its content and its path. Every name depends on what made the file, so a
second run finds what is there, and a changed setting or file redoes what depends on it and nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning

from rvc_lightning.audio.discovery import SkippedFile, discover_audio
from rvc_lightning.content import build_content_encoder
from rvc_lightning.data.features import FeatureTask, extract_features
from rvc_lightning.data.manifest import DatasetHeader, ManifestRow, write_manifest
from rvc_lightning.data.recordings import SlicedRecording, Source, fingerprint_recordings, hash8, slice_recordings
from rvc_lightning.data.report import REPORT_NAME, PreparationReport, UsedRecording
from rvc_lightning.data.slicing import LeftOut, SlicingConfig
from rvc_lightning.errors import ConfigurationError, DatasetError
from rvc_lightning.files import write_json
from rvc_lightning.pitch import build_pitch_extractor

__all__ = ["PreparationReport", "SlicingConfig", "prepare"]

logger = logging.getLogger(__name__)

# Part of every fingerprint: raise it when the same settings begin to give other files.
_REVISION = 1
_NOT_FINITE = "its pitch or content is not finite"


def prepare(
    audio: Path,
    output: Path,
    *,
    sample_rate: int,
    slicing: SlicingConfig,
    pitch: Mapping[str, Any],
    content: Mapping[str, Any],
    trainer: lightning.Trainer,
    num_workers: int,
) -> PreparationReport:
    """Slice all recordings, find pitch and content of the slices, and write the manifest.

    Speakers: recordings in a sub-folder whose name is a whole number belong to the speaker of that number, all others
    to speaker 0; the manifest numbers them 0 .. n - 1 in that order.

    Args:
        audio: a folder of recordings, or one recording.
        output: folder of the prepared dataset; what is there already is not done again.
        sample_rate: of the slices, Hz; a multiple of 100, as one frame is 10 ms.
        slicing: how to cut and level.
        pitch: {"name": ..., options}, see `rvc_lightning.pitch`.
        content: {"name": ..., options}, see `rvc_lightning.content`.
        trainer: runs the content encoder through `Trainer.predict`.
        num_workers: processes that slice and find pitch; 0 does all in this process.

    Returns:
        What became of every file.

    Raises:
        DatasetError: the input is missing or holds nothing usable; the message says what was found.
        ConfigurationError: settings that contradict each other or name something unknown.
    """
    audio, output = Path(audio), Path(output)
    if sample_rate <= 0 or sample_rate % 100:
        raise ConfigurationError(f"sample_rate must be a multiple of 100 Hz: a frame is 10 ms; got {sample_rate}")
    extractor, encoder = build_pitch_extractor(**pitch), build_content_encoder(**content)
    if not audio.exists():
        raise DatasetError(f"'{audio}' does not exist; give a folder of recordings, or one recording")
    discovery = discover_audio(audio, exclude=(output,))
    sources, unreadable = fingerprint_recordings(audio if audio.is_dir() else audio.parent, discovery)
    layout = _Layout.of(output, sample_rate, slicing, pitch, content)
    sliced, unusable = slice_recordings(sources, layout.slices, sample_rate, slicing, num_workers)
    sources = [source for source in sources if source.folder in sliced]
    tasks = [task for source in sources for task in layout.missing_features(source, sliced[source.folder])]
    if tasks:
        logger.info("finding pitch and content of %d slices", len(tasks))
        extract_features(tasks, extractor, encoder, trainer, num_workers)

    speaker_ids = sorted({source.speaker_id for source in sources})
    numbers = {speaker: number for number, speaker in enumerate(speaker_ids)}
    rows = {source.folder: layout.rows(source, sliced[source.folder], numbers[source.speaker_id]) for source in sources}
    used, without_features = _outcome(sources, sliced, rows)
    skipped = [*discovery.skipped, *unreadable, *unusable, *without_features]
    skipped.sort(key=lambda file: file.path)
    report = PreparationReport(str(audio), str(output), used, skipped, _folder_notes(sources))
    write_json(output / REPORT_NAME, report.to_dict())
    if not used:
        raise DatasetError(_nothing_usable(report))
    header = DatasetHeader(
        sample_rate=sample_rate,
        pitch=_named(pitch),
        content={**_named(content), "dim": encoder.dim},
        slicing=asdict(slicing),
        speakers=[str(speaker) for speaker in speaker_ids],
    )
    write_manifest(output, header, (row for source in sources for row in rows[source.folder]))
    return report


@dataclass(frozen=True)
class _Layout:
    """The folders of the dataset under the present settings."""

    output: Path
    sample_rate: int
    slices: Path
    pitch: Path
    content: Path

    @classmethod
    def of(
        cls,
        output: Path,
        sample_rate: int,
        slicing: SlicingConfig,
        pitch: Mapping[str, Any],
        content: Mapping[str, Any],
    ) -> _Layout:
        slices = f"slices-{hash8(_REVISION, sample_rate, asdict(slicing))}"
        return cls(
            output=output,
            sample_rate=sample_rate,
            slices=output / slices,
            pitch=output / f"pitch-{pitch['name']}-{hash8(_REVISION, slices, dict(pitch))}",
            content=output / f"content-{content['name']}-{hash8(_REVISION, slices, dict(content))}",
        )

    def files(self, source: Source, name: str) -> tuple[Path, Path, Path]:
        """Audio, pitch and content of a slice."""
        return (
            self.slices / source.folder / f"{name}.wav",
            self.pitch / source.folder / f"{name}.npy",
            self.content / source.folder / f"{name}.npy",
        )

    def missing_features(self, source: Source, done: SlicedRecording) -> list[FeatureTask]:
        """A task for every slice that lacks its pitch or its content."""
        tasks: list[FeatureTask] = []
        for entry in done.slices:
            audio, f0, content = self.files(source, entry.name)
            lacking = [None if path.exists() else path for path in (f0, content)]
            if any(lacking):
                tasks.append(FeatureTask(audio, entry.samples / self.sample_rate, *lacking))
        return tasks

    def rows(self, source: Source, done: SlicedRecording, speaker: int) -> list[ManifestRow]:
        """A row for every slice that has both features."""
        rows: list[ManifestRow] = []
        for entry in done.slices:
            files = self.files(source, entry.name)
            if not all(path.exists() for path in files):
                continue
            audio, f0, content = (path.relative_to(self.output).as_posix() for path in files)
            row = ManifestRow(
                id=f"{source.folder}/{entry.name}",
                recording=source.name,
                speaker=speaker,
                sample_rate=self.sample_rate,
                audio=audio,
                f0=f0,
                content=content,
                samples=entry.samples,
                frames=entry.samples // (self.sample_rate // 100),
                seconds=entry.samples / self.sample_rate,
            )
            rows.append(row)
        return rows


def _outcome(
    sources: Sequence[Source], sliced: Mapping[str, SlicedRecording], rows: Mapping[str, list[ManifestRow]]
) -> tuple[list[UsedRecording], list[SkippedFile]]:
    """What became of the recordings that gave slices; those without any features are skipped."""
    used: list[UsedRecording] = []
    skipped: list[SkippedFile] = []
    first_with: dict[str, str] = {}
    for source in sources:
        if not rows[source.folder]:
            skipped.append(SkippedFile(source.name, f"nothing usable: {_NOT_FINITE}"))
            continue
        twin = first_with.setdefault(source.digest, source.name)
        notes = [] if twin == source.name else [f"the same content as {twin}"]
        used.append(_used(source, sliced[source.folder], rows[source.folder], notes))
    return used, skipped


def _used(source: Source, done: SlicedRecording, rows: Sequence[ManifestRow], notes: list[str]) -> UsedRecording:
    with_features = {row.id for row in rows}
    without = [
        LeftOut(entry.start_seconds, 0.0, f"slice {entry.name}: {_NOT_FINITE}")
        for entry in done.slices
        if f"{source.folder}/{entry.name}" not in with_features
    ]
    return UsedRecording(
        recording=source.name,
        speaker=rows[0].speaker,
        seconds=done.seconds,
        slices=len(rows),
        slice_seconds=sum(row.seconds for row in rows),
        silence_seconds=done.silence_seconds,
        left_out=[*done.left_out, *without],
        notes=[done.warning, *notes] if done.warning else notes,
    )


def _folder_notes(sources: Sequence[Source]) -> list[str]:
    """Sub-folders whose names may have been meant as speakers."""
    parts = (Path(source.name).parts for source in sources)
    folders = sorted({path[0] for path in parts if len(path) > 1 and not path[0].isdecimal()})
    if not folders:
        return []
    names = ", ".join(folders)
    return [f"sub-folders belong to speaker 0 unless their name is a whole number; these do: {names}"]


def _nothing_usable(report: PreparationReport) -> str:
    examples = [f"{file.path}: {file.reason}" for file in report.skipped[:5]]
    more = len(report.skipped) - len(examples)
    found = "; ".join([*examples, *([f"and {more} more"] if more else [])]) or "no file at all"
    return (
        f"nothing in '{report.audio}' can be trained on; found: {found}. Every file is named in"
        f" '{Path(report.output) / REPORT_NAME}'. Give a folder with recordings of speech (wav, flac, mp3, m4a, ...)"
    )


def _named(settings: Mapping[str, Any]) -> dict[str, Any]:
    """{"name": ..., "options": {...}} from {"name": ..., **options}."""
    return {"name": settings["name"], "options": {key: value for key, value in settings.items() if key != "name"}}
