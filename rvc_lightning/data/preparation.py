"""From a folder of recordings to a prepared dataset.

    OUTPUT/
      slices-HASH/RECORDING/0000.wav ...    float32, at the rate to train at; HASH: slicing settings and rate
      slices-HASH/RECORDING/recording.json  written last: this recording is done
      pitch-NAME-HASH/RECORDING/0000.npy    f0_hz float32 [F] at 100 Hz; HASH: pitch settings and slices
      content-NAME-HASH/RECORDING/0000.npy  float16 [F / 2, C] at 50 Hz; HASH: content settings and slices
      slices-HASH/silence.wav content-NAME-HASH/silence.npy  what the encoder makes of three seconds of nothing
      manifest.jsonl dataset.json report.json report.png

RECORDING is the file's stem with a hash of its content and its path. Every name depends on what made the file, so a
second run finds what is there, and a changed setting or file redoes what depends on it and nothing else.
"""

from __future__ import annotations

import itertools
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning
import numpy as np

from rvc_lightning.audio.decode import write_audio
from rvc_lightning.audio.discovery import SkippedFile, discover_audio
from rvc_lightning.content import build_content_encoder
from rvc_lightning.data.features import FeatureTask, extract_features
from rvc_lightning.data.manifest import DatasetHeader, ManifestRow, write_manifest
from rvc_lightning.data.pitch_histogram import PitchHistogram
from rvc_lightning.data.recordings import SlicedRecording, Source, fingerprint_recordings, hash8, slice_recordings
from rvc_lightning.data.report import (
    REPORT_NAME,
    PreparationReport,
    UsedRecording,
    remarks_on,
    summarize_speakers,
)
from rvc_lightning.data.report_picture import PICTURE_NAME, write_picture
from rvc_lightning.data.selection import SelectionConfig, speaker_numbers
from rvc_lightning.data.slicing import LeftOut, SlicingConfig
from rvc_lightning.errors import ConfigurationError, DatasetError
from rvc_lightning.files import read_npy, write_json
from rvc_lightning.pitch import build_pitch_extractor

__all__ = ["PreparationReport", "SlicingConfig", "prepare"]

logger = logging.getLogger(__name__)

# Part of every fingerprint: raise it when the same settings begin to give other files.
_REVISION = 1
# As long as the silent clips of the other RVC tools (specification 14.4).
_SILENCE, _SILENCE_SECONDS = "silence", 3.0
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
    selection: SelectionConfig | None = None,
) -> PreparationReport:
    """Slice all recordings, find pitch and content of the slices, and write the manifest and the report.

    The manifest numbers the speakers 0 .. n - 1, see `speaker_numbers`; the header has their names.

    Args:
        audio: a folder of recordings, or one recording.
        output: folder of the prepared dataset; what is there already is not done again.
        sample_rate: of the slices, Hz; a multiple of 100, as one frame is 10 ms.
        slicing: how to clean, level and cut.
        pitch: {"name": ..., options}, see `rvc_lightning.pitch`.
        content: {"name": ..., options}, see `rvc_lightning.content`.
        trainer: runs the content encoder through `Trainer.predict`.
        num_workers: processes that slice and find pitch; 0 does all in this process.
        selection: which recordings are used, and who speaks in them; by default all, and speakers by number.

    Returns:
        What became of every file.

    Raises:
        DatasetError: the input is missing or holds nothing usable; the message says what was found.
        ConfigurationError: settings that contradict each other or name something unknown.
    """
    audio, output = Path(audio), Path(output)
    check_input(audio, sample_rate)
    extractor, encoder = build_pitch_extractor(**pitch), build_content_encoder(**content)
    selection = selection or SelectionConfig()
    found = discover_audio(audio, exclude=(output,))
    discovery = selection.apply(found)
    sources, unreadable = fingerprint_recordings(audio if audio.is_dir() else audio.parent, discovery, selection)
    layout = Layout.of(output, sample_rate, slicing, pitch, content)
    sliced, unusable = slice_recordings(sources, layout.slices, sample_rate, slicing, num_workers)
    sources = [source for source in sources if source.folder in sliced]
    tasks = [task for source in sources for task in layout.missing_features(source, sliced[source.folder])]
    if tasks:
        logger.info("finding pitch and content of %d slices", len(tasks))
    if tasks := [*tasks, *layout.silence_tasks()]:
        extract_features(tasks, extractor, encoder, trainer, num_workers)

    numbers = speaker_numbers(source.speaker for source in sources)
    rows = {source.folder: layout.rows(source, sliced[source.folder], numbers[source.speaker]) for source in sources}
    used, duplicates, without_features = _outcome(sources, sliced, rows)
    skipped = [*discovery.skipped, *unreadable, *unusable, *without_features]
    skipped.sort(key=lambda file: file.path)
    speakers = summarize_speakers(list(numbers), used, _pitch_by_speaker(output, rows.values()))
    report = PreparationReport(
        str(audio), str(output), used, skipped, speakers, duplicates, notes=selection.notes(found)
    )
    write_json(output / REPORT_NAME, report.to_dict())
    if not used:
        raise DatasetError(_nothing_usable(report))
    write_picture(report, output / PICTURE_NAME)
    header = DatasetHeader(
        sample_rate=sample_rate,
        pitch=_named(pitch),
        content={**_named(content), "dim": encoder.dim},
        slicing=asdict(slicing),
        speakers=list(numbers),
        silence=layout.silence_content(),
    )
    write_manifest(output, header, (row for source in sources for row in rows[source.folder]))
    return report


def check_input(audio: Path, sample_rate: int) -> None:
    """Refuses what cannot be prepared at all.

    Raises:
        DatasetError: there is no such folder or file.
        ConfigurationError: a frame of 10 ms has no whole number of samples at this rate.
    """
    if sample_rate <= 0 or sample_rate % 100:
        raise ConfigurationError(f"sample_rate must be a multiple of 100 Hz: a frame is 10 ms; got {sample_rate}")
    if not audio.exists():
        raise DatasetError(f"'{audio}' does not exist; give a folder of recordings, or one recording")


@dataclass(frozen=True)
class Layout:
    """The folders of the dataset under the present settings.

    Attributes:
        output: of the dataset.
        sample_rate: of the slices, Hz.
        slices: of the audio.
        pitch: of f0_hz.
        content: of the content features.
    """

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
    ) -> Layout:
        """The folders for settings as `prepare` takes them."""
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

    def silence_tasks(self) -> list[FeatureTask]:
        """The content of silence, if it is not there yet."""
        content, audio = self.content / f"{_SILENCE}.npy", self.slices / f"{_SILENCE}.wav"
        if content.exists():
            return []
        if not audio.exists():
            silence = np.zeros(round(_SILENCE_SECONDS * self.sample_rate), np.float32)
            write_audio(audio, silence, self.sample_rate, subtype="FLOAT")
        return [FeatureTask(audio, _SILENCE_SECONDS, f0=None, content=content)]

    def silence_content(self) -> str | None:
        """The content of silence, relative to the dataset; None if the encoder makes none of it."""
        content = self.content / f"{_SILENCE}.npy"
        return content.relative_to(self.output).as_posix() if content.exists() else None

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


def _pitch_by_speaker(output: Path, groups: Iterable[Sequence[ManifestRow]]) -> dict[int, PitchHistogram]:
    """The pitch of all slices, counted one by one."""
    counted: dict[int, PitchHistogram] = defaultdict(PitchHistogram)
    for row in itertools.chain.from_iterable(groups):
        counted[row.speaker].add(read_npy(output / row.f0, 1))
    return counted


def _outcome(
    sources: Sequence[Source], sliced: Mapping[str, SlicedRecording], rows: Mapping[str, list[ManifestRow]]
) -> tuple[list[UsedRecording], list[tuple[str, str]], list[SkippedFile]]:
    """What became of the recordings that gave slices, and which sound the same; those without features are skipped."""
    used: list[UsedRecording] = []
    duplicates: list[tuple[str, str]] = []
    skipped: list[SkippedFile] = []
    first_with: dict[str, str] = {}
    for source in sources:
        if not rows[source.folder]:
            skipped.append(SkippedFile(source.name, f"nothing usable: {_NOT_FINITE}"))
            continue
        done = sliced[source.folder]
        twin = first_with.setdefault(done.sound, source.name)
        notes = [] if twin == source.name else [f"the same sound as {twin}"]
        duplicates += [(source.name, twin)] if notes else []
        used.append(_used(source, done, rows[source.folder], notes))
    return used, duplicates, skipped


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
        levels=done.levels,
        left_out=[*done.left_out, *without],
        notes=[*([done.warning] if done.warning else []), *remarks_on(done.levels), *notes],
    )


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
