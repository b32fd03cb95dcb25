"""Preparation of a folder of recordings as a dataset.

    recordings ──slice──▶ slices ──pitch, content──▶ features ──▶ manifest.jsonl dataset.json report.json report.png
      processes              ranks of a trainer                     the first rank

`rvc_lightning.data.layout` describes the files. Every path depends on the settings and the input of the file, so a
second run reuses existing files, a killed run is resumed, and a changed setting or recording only recomputes
the files that depend on it.

One process at a time prepares a dataset. The first of its ranks slices, all ranks extract pitch and content of their
share, and the first writes the manifest. Memory grows by about 2 kB per slice.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import numpy as np

from rvc_lightning.audio.discovery import SkippedFile, display_name
from rvc_lightning.audio.encode import write_audio
from rvc_lightning.audio.frames import hop_samples
from rvc_lightning.cli.columns import pluralize
from rvc_lightning.content import build_content_encoder
from rvc_lightning.data.dataset import read_feature
from rvc_lightning.data.features import ExtractionConfig, FeatureTask, extract_features, missing_features
from rvc_lightning.data.layout import REVISION, SILENCE, Layout
from rvc_lightning.data.manifest import DatasetHeader, ManifestRow, read_manifest, write_manifest
from rvc_lightning.data.pitch_histogram import PitchHistogram
from rvc_lightning.data.recipe import Recipe
from rvc_lightning.data.recordings import Recording, RecordingList, add_fingerprints, list_recordings
from rvc_lightning.data.report import REPORT_NAME, PreparationReport, UsedRecording, summarize_speakers
from rvc_lightning.data.report_picture import PICTURE_NAME, write_picture
from rvc_lightning.data.selection import speaker_numbers
from rvc_lightning.data.slice_files import SlicingResult, slice_recordings
from rvc_lightning.data.slicing import SkippedPart
from rvc_lightning.errors import DatasetError
from rvc_lightning.io.files import TEMPORARY_PREFIX, read_json, remove_leftovers, write_json
from rvc_lightning.io.locks import exclusive_lock
from rvc_lightning.pitch import build_pitch_extractor
from rvc_lightning.separation.store import PartStore

logger = logging.getLogger(__name__)

_NOT_FINITE = "its pitch or content is not finite"
_MIN_CLIPPED_SHARE = 1e-3
# Length of the silent clip, as in other RVC tools (SPECIFICATION.md, section 14.4).
_SILENCE_SECONDS = 3.0


def prepare(
    audio: Path,
    output: Path,
    recipe: Recipe,
    *,
    trainer: lightning.Trainer,
    extraction: ExtractionConfig,
    parts: PartStore | None = None,
) -> PreparationReport | None:
    """Slice all recordings, extract pitch and content, and write the manifest and the report.

    Args:
        audio: A folder of recordings, or one recording.
        output: Folder of the prepared dataset; existing files are reused.
        recipe: Settings of the dataset.
        trainer: Runs the networks through `Trainer.predict`, on all of its ranks.
        extraction: How slices are batched; `num_workers` also applies to slicing.
        parts: Separated parts of recordings, on the first rank; required if `recipe.slicing.separate` names one.

    Returns:
        The report on the first rank, None on all others.

    Raises:
        DatasetError: The input is missing or contains nothing usable, or the dataset was made from other recordings.
        ConfigurationError: Settings are unknown or contradict each other.
    """
    audio, output = Path(audio), Path(output)
    listed = list_recordings(audio, output, recipe.selection)
    if not listed.recordings:
        raise DatasetError(_nothing_usable(display_name(audio), listed.skipped))
    extractor, encoder = build_pitch_extractor(**recipe.pitch), build_content_encoder(**recipe.content)
    extract = partial(extract_features, pitch=extractor, encoder=encoder, trainer=trainer, config=extraction)
    if not trainer.is_global_zero:
        extract([])
        if error_of_first := trainer.strategy.broadcast(None):
            raise error_of_first
        return None
    with exclusive_lock(output):
        for folder in {path.parent for path in output.rglob(f"{TEMPORARY_PREFIX}*")}:
            remove_leftovers(folder)
        work = _FirstRank(audio, recipe, Layout.of(output, recipe, trainer.precision))
        work.slice(identify(listed, audio, output), extraction.num_workers, parts)
        tasks = work.tasks()
        # The other ranks wait for this one in `extract`, even if no slice lacks features.
        if tasks or trainer.world_size > 1:
            work.speeds |= extract(tasks)
        with _failure_on_all_ranks(trainer):
            return work.write(encoder.dim, trainer.precision)


@contextmanager
def _failure_on_all_ranks(trainer: lightning.Trainer) -> Iterator[None]:
    """Broadcast the error of the block, or None, to the ranks that wait: no RankWatch ends them after `extract`."""
    failure = None
    try:
        yield
    except Exception as error:
        failure = error
        raise
    finally:
        trainer.strategy.broadcast(failure)


def identify(listed: RecordingList, audio: Path, output: Path, update_cache: bool = True) -> RecordingList:
    """Identify recordings of the input by their content, and check that an existing dataset was made from them.

    Raises:
        DatasetError: The dataset was made from other recordings, most of which are not among these. Since recordings
            are identified by content and path, a folder that was moved or extended is the same.
    """
    found = add_fingerprints(listed.recordings, output, update_cache)
    try:
        previous = read_json(output / REPORT_NAME)["audio"]
        earlier = set() if previous == display_name(audio) else {row.id.split("/")[0] for row in read_manifest(output)}
    except (OSError, ValueError, KeyError, DatasetError):
        # No finished dataset.
        earlier = set()
    remaining = earlier & {recording.folder for recording in found.recordings}
    if len(remaining) < len(earlier) / 2:
        raise DatasetError(
            f"'{output}' was made from '{previous}', and only {len(remaining)} of its {len(earlier)} recordings are in "
            f"'{audio}': choose another name=NAME for these, or delete '{output}' to replace the dataset"
        )
    return RecordingList(found.recordings, [*listed.skipped, *found.skipped], listed.notes)


def is_prepared_by(header: DatasetHeader, recipe: Recipe) -> bool:
    """Return whether a dataset was prepared with the settings of a recipe, except for the selection of recordings."""
    content = {key: value for key, value in header.content.items() if key != "dim"}
    prepared = header.sample_rate, header.pitch, content, header.slicing, header.content_speeds
    pitch, wanted_content = _with_options(recipe.pitch), _with_options(recipe.content)
    wanted = recipe.sample_rate, pitch, wanted_content, asdict(recipe.slicing), list(recipe.content_speeds)
    return prepared == wanted


class _FirstRank:
    """Work of the first rank: slice, list slices that lack features, and write manifest and report."""

    def __init__(self, audio: Path, recipe: Recipe, layout: Layout) -> None:
        self.audio, self.recipe, self.layout = audio, recipe, layout
        self.sliced: list[tuple[Recording, SlicingResult]] = []
        self.skipped: list[SkippedFile] = []
        self.notes: list[str] = []
        self.speeds: dict[str, float] = {}

    def slice(self, found: RecordingList, num_workers: int, parts: PartStore | None) -> None:
        """Slice the recordings, and store those with at least one slice in `self.sliced`."""
        results, speed = slice_recordings(
            found.recordings, self.layout.slices, self.recipe.sample_rate, self.recipe.slicing, num_workers, parts
        )
        if speed is not None:
            self.speeds["slicing"] = speed
        self.skipped, self.notes = list(found.skipped), found.notes
        for recording, result in zip(found.recordings, results, strict=True):
            if isinstance(result, SkippedFile):
                self.skipped.append(result)
            elif result.slices:
                self.sliced.append((recording, result))
            else:
                self.skipped.append(SkippedFile(recording.name, result.skip_reason))

    def tasks(self) -> list[FeatureTask]:
        """Write the silent clip, and return the slices that lack features."""
        tasks = [
            task
            for recording, result in self.sliced
            for task in missing_features(self.layout, recording.folder, result, self.recipe.content_speeds)
        ]
        if tasks:
            logger.info("extracting pitch and content of %s", pluralize(len({task.audio for task in tasks}), "slice"))
        audio, _, content = self.layout.slice_paths(SILENCE, 0)
        if not content.exists():
            silence = np.zeros(round(_SILENCE_SECONDS * self.layout.sample_rate), np.float32)
            write_audio(audio, silence, self.layout.sample_rate, subtype="FLOAT")
            tasks.append(FeatureTask(str(audio), _SILENCE_SECONDS, None, str(content)))
        return tasks

    def write(self, content_dim: int, precision: str) -> PreparationReport:
        """Write manifest and report. Raises DatasetError if nothing can be used."""
        output = self.layout.output
        ids = {item.speaker: item.speaker_id for item, _ in self.sliced if item.speaker_id is not None}
        speakers = speaker_numbers((recording.speaker for recording, _ in self.sliced), ids)
        rows, used = self._collect_rows(speakers)
        report = self._report(rows, used, list(speakers))
        write_json(output / REPORT_NAME, report.to_dict())
        if not rows:
            listed = f"'{output / REPORT_NAME}' lists every file. "
            raise DatasetError(_nothing_usable(report.audio, report.skipped, listed))
        silence = self.layout.slice_paths(SILENCE, 0)[2]
        header = DatasetHeader(
            sample_rate=self.recipe.sample_rate,
            pitch=_with_options(self.recipe.pitch),
            content={**_with_options(self.recipe.content), "dim": content_dim},
            slicing=asdict(self.recipe.slicing),
            content_speeds=list(self.recipe.content_speeds),
            speakers=list(speakers),
            silence=self._relative(silence) if silence.exists() else None,
            precision=precision,
            revision=REVISION,
        )
        write_manifest(output, header, rows)
        write_picture(report, output / PICTURE_NAME)
        return report

    def _collect_rows(self, speakers: Mapping[str, int]) -> tuple[list[ManifestRow], list[UsedRecording]]:
        """Return the rows of the manifest and the recordings in it, and add all others to the skipped files."""
        rows: list[ManifestRow] = []
        used: list[UsedRecording] = []
        for recording, result in self.sliced:
            new = self._rows(recording, result, speakers[recording.speaker])
            rows += new
            if new:
                used.append(_used(recording, result, new))
            else:
                self.skipped.append(SkippedFile(recording.name, f"nothing usable: {_NOT_FINITE}"))
        return rows, used

    def _rows(self, recording: Recording, result: SlicingResult, speaker: int) -> list[ManifestRow]:
        """Return a row for every slice that has both features."""
        missing = missing_features(self.layout, recording.folder, result, self.recipe.content_speeds)
        incomplete = {task.audio for task in missing}
        rows: list[ManifestRow] = []
        for entry in result.slices:
            audio, f0, content = self.layout.slice_paths(recording.folder, entry.number)
            if str(audio) in incomplete:
                continue
            row = ManifestRow(
                id=_slice_id(recording, entry.number),
                recording=recording.name,
                speaker=speaker,
                sample_rate=self.layout.sample_rate,
                audio=self._relative(audio),
                f0=self._relative(f0),
                content=self._relative(content),
                samples=entry.samples,
                frames=entry.samples // hop_samples(self.layout.sample_rate),
                seconds=entry.samples / self.layout.sample_rate,
                repeats=recording.repeats,
            )
            rows.append(row)
        return rows

    def _relative(self, path: Path) -> str:
        return path.relative_to(self.layout.output).as_posix()

    def _report(
        self, rows: Sequence[ManifestRow], used: list[UsedRecording], speakers: Sequence[str]
    ) -> PreparationReport:
        """Return the report, with a note for each recording that sounds the same as an earlier one."""
        originals: dict[str, str] = {}
        duplicates: list[tuple[str, str]] = []
        sounds = {source.name: result.sound for source, result in self.sliced}
        for recording in used:
            original = originals.setdefault(sounds[recording.recording], recording.recording)
            if original != recording.recording:
                duplicates.append((recording.recording, original))
                recording.notes.append(f"the same sound as {original}")
        pitch: defaultdict[int, PitchHistogram] = defaultdict(PitchHistogram)
        for row in rows:
            pitch[row.speaker].add(read_feature(self.layout.output / row.f0, 1))
        return PreparationReport(
            audio=display_name(self.audio),
            output=display_name(self.layout.output),
            used=used,
            skipped=sorted(self.skipped, key=lambda file: file.path),
            speakers=summarize_speakers(speakers, used, pitch),
            duplicates=duplicates,
            notes=self.notes,
            speeds=self.speeds,
        )


def _slice_id(recording: Recording, number: int) -> str:
    return f"{recording.folder}/{number:04}"


def _used(recording: Recording, result: SlicingResult, rows: Sequence[ManifestRow]) -> UsedRecording:
    ids = {row.id for row in rows}
    incomplete = [
        SkippedPart(entry.start_seconds, 0.0, f"slice {entry.number:04}: {_NOT_FINITE}")
        for entry in result.slices
        if _slice_id(recording, entry.number) not in ids
    ]
    notes = [result.warning] if result.warning else []
    if (clipped := result.levels.clipped_share) >= _MIN_CLIPPED_SHARE:
        notes.append(f"clipped: {clipped:.2%} of its samples are at full scale; record it at a lower level")
    return UsedRecording(
        recording=recording.name,
        speaker=rows[0].speaker,
        seconds=result.seconds,
        slices=len(rows),
        slice_seconds=sum(row.seconds for row in rows),
        silence_seconds=result.silence_seconds,
        levels=result.levels,
        left_out=[*result.left_out, *incomplete],
        notes=notes,
    )


def _nothing_usable(audio: str, skipped: Sequence[SkippedFile], where_listed: str = "") -> str:
    examples = [f"{file.path}: {file.reason}" for file in skipped[:5]]
    if more := len(skipped) - len(examples):
        examples.append(f"and {more} more")
    return (
        f"'{audio}' contains nothing to train on; found: {'; '.join(examples) or 'no files'}. {where_listed}"
        "Choose a folder with recordings of speech (wav, flac, mp3, m4a, ...)"
    )


def _with_options(component: Mapping[str, Any]) -> dict[str, Any]:
    """Convert {"name": ..., **options} to {"name": ..., "options": {...}}."""
    return {"name": component["name"], "options": {key: value for key, value in component.items() if key != "name"}}
