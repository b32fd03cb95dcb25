"""From a folder of recordings to a prepared dataset.

    recordings ──slice──▶ slices ──pitch, content──▶ features ──▶ manifest.jsonl dataset.json report.json report.png
      processes              ranks of a trainer                     the first rank

`rvc_lightning.data.layout` describes the files. Every path depends on the settings and the input that a file was made
from, so a second run reuses existing files, a killed run is resumed, and a changed setting or recording only recomputes
the files that depend on it.

One process at a time prepares a dataset. The first of its ranks slices, all ranks extract pitch and content of their
share, and the first writes the manifest. Memory grows by 18 bytes a slice and by less than 2 kB a recording.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
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
from rvc_lightning.data.features import ExtractionConfig, extract_features
from rvc_lightning.data.layout import REVISION, SILENCE, Layout, existing_slices, recording_path
from rvc_lightning.data.manifest import DatasetHeader, ManifestRow, read_header, read_manifest, write_manifest
from rvc_lightning.data.pending import SILENCE_SECONDS, PendingSlices
from rvc_lightning.data.pitch_histogram import PitchHistogram
from rvc_lightning.data.recipe import Recipe
from rvc_lightning.data.recordings import Recording, RecordingList, add_fingerprints, list_recordings
from rvc_lightning.data.report import REPORT_NAME, PreparationReport, UsedRecording, summarize_speakers
from rvc_lightning.data.report_picture import PICTURE_NAME, write_picture
from rvc_lightning.data.selection import speaker_numbers
from rvc_lightning.data.slice_files import SlicingResult, slice_recordings
from rvc_lightning.data.slicing import SkippedPart
from rvc_lightning.errors import DatasetError
from rvc_lightning.io.files import read_json, write_json
from rvc_lightning.io.locks import exclusive_lock
from rvc_lightning.pitch import build_pitch_extractor

logger = logging.getLogger(__name__)

_NOT_FINITE = "its pitch or content is not finite"
_MIN_CLIPPED_SHARE = 1e-3


def prepare(
    audio: Path, output: Path, recipe: Recipe, *, trainer: lightning.Trainer, extraction: ExtractionConfig
) -> PreparationReport | None:
    """Slice all recordings, extract pitch and content, and write the manifest and the report.

    Args:
        audio: A folder of recordings, or one recording.
        output: Folder of the prepared dataset; existing files are reused.
        recipe: How recordings become a dataset.
        trainer: Runs the networks through `Trainer.predict`, on all of its ranks.
        extraction: How slices are batched; `num_workers` also applies to slicing.

    Returns:
        The report on the first rank, None on all others.

    Raises:
        DatasetError: The input is missing or contains nothing usable, or the dataset was made from other recordings.
        ConfigurationError: Settings are unknown or contradict each other.
    """
    audio, output = Path(audio), Path(output)
    listed = list_recordings(audio, output, recipe.selection)
    extractor, encoder = build_pitch_extractor(**recipe.pitch), build_content_encoder(**recipe.content)
    extract = partial(extract_features, pitch=extractor, encoder=encoder, trainer=trainer, config=extraction)
    report = None
    if trainer.is_global_zero:
        with exclusive_lock(output):
            _warn_if_older(output)
            work = _FirstRank(audio, recipe, Layout.of(output, recipe, trainer.precision))
            work.slice(identify(listed, audio, output), extraction.num_workers)
            pending = work.find_pending()
            # With several ranks, the others wait even if there is nothing to do.
            if len(pending) or trainer.world_size > 1:
                work.speeds |= extract(pending)
            report = work.write(encoder.dim, trainer.precision)
    else:
        extract(None)
    trainer.strategy.barrier("manifest")
    return report


def identify(listed: RecordingList, audio: Path, output: Path, update_cache: bool = True) -> RecordingList:
    """Identify recordings by their content, and check that an existing dataset was made from them.

    Args:
        listed: The recordings of the input.
        audio: The input.
        output: Folder of the dataset.
        update_cache: Whether to write the cache of digests.

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
            f"'{output}' was made from '{previous}', and of its {len(earlier)} recordings {len(remaining)} are in "
            f"'{audio}': choose another name=NAME for these, or delete '{output}' to replace the dataset"
        )
    return RecordingList(found.recordings, [*listed.skipped, *found.skipped], listed.notes)


class _FirstRank:
    """The work of the first rank: it slices, finds what lacks features, and writes manifest and report."""

    def __init__(self, audio: Path, recipe: Recipe, layout: Layout) -> None:
        self.audio, self.recipe, self.layout = audio, recipe, layout
        self.recordings: list[Recording] = []
        self.skipped: list[SkippedFile] = []
        self.notes: list[str] = []
        self.speeds: dict[str, float] = {}
        self.used: list[UsedRecording] = []
        self.duplicates: list[tuple[str, str]] = []
        self.pitch: defaultdict[int, PitchHistogram] = defaultdict(PitchHistogram)

    def slice(self, found: RecordingList, num_workers: int) -> None:
        """Slice the recordings; `self.recordings` are then those with slices."""
        run = slice_recordings(
            found.recordings, self.layout.slices, self.recipe.sample_rate, self.recipe.slicing, num_workers
        )
        if run.speed is not None:
            self.speeds["slicing"] = run.speed
        self.skipped, self.notes = [*found.skipped, *run.failed.values()], found.notes
        for recording in found.recordings:
            if recording.folder in run.failed:
                continue
            result = self._read_result(recording)
            if result.slices:
                self.recordings.append(recording)
            else:
                self.skipped.append(SkippedFile(recording.name, result.skip_reason))

    def find_pending(self) -> PendingSlices:
        """Write the silent clip, and return the slices that lack features."""
        audio, _, content = self.layout.slice_paths(SILENCE, 0)
        if not content.exists():
            silence = np.zeros(round(SILENCE_SECONDS * self.layout.sample_rate), np.float32)
            write_audio(audio, silence, self.layout.sample_rate, subtype="FLOAT")
        results = ((recording, self._read_result(recording)) for recording in self.recordings)
        pending = PendingSlices.find(self.layout, results)
        if len(pending):
            logger.info("extracting pitch and content of %s", pluralize(len(pending), "slice"))
        return pending

    def write(self, content_dim: int, precision: str) -> PreparationReport:
        """Write manifest and report. Raises DatasetError if nothing can be used."""
        output = self.layout.output
        speakers = speaker_numbers(recording.speaker for recording in self.recordings)
        silence = self.layout.slice_paths(SILENCE, 0)[2]
        header = DatasetHeader(
            sample_rate=self.recipe.sample_rate,
            pitch=_with_options(self.recipe.pitch),
            content={**_with_options(self.recipe.content), "dim": content_dim},
            slicing=asdict(self.recipe.slicing),
            speakers=list(speakers),
            silence=self._relative(silence) if silence.exists() else None,
            precision=precision,
            revision=REVISION,
        )
        write_manifest(output, header, self._rows(speakers))
        report = self._report(list(speakers))
        write_json(output / REPORT_NAME, report.to_dict())
        write_picture(report, output / PICTURE_NAME)
        return report

    def _rows(self, speakers: Mapping[str, int]) -> Iterator[ManifestRow]:
        """Yield the rows of the manifest, and collect the figures of the report."""
        originals: dict[str, str] = {}
        for recording in self.recordings:
            result, speaker = self._read_result(recording), speakers[recording.speaker]
            rows = self._recording_rows(recording, result, speaker)
            if not rows:
                self.skipped.append(SkippedFile(recording.name, f"nothing usable: {_NOT_FINITE}"))
                continue
            used = _used(recording, result, rows)
            original = originals.setdefault(result.sound, recording.name)
            if original != recording.name:
                self.duplicates.append((recording.name, original))
                used.notes.append(f"the same sound as {original}")
            self.used.append(used)
            for row in rows:
                self.pitch[speaker].add(read_feature(self.layout.output / row.f0, 1))
                yield row
        if not self.used:
            report = self._report([])
            write_json(self.layout.output / REPORT_NAME, report.to_dict())
            raise DatasetError(_nothing_usable(report))

    def _recording_rows(self, recording: Recording, result: SlicingResult, speaker: int) -> list[ManifestRow]:
        """Return a row for every slice that has both features."""
        folder, sample_rate = recording_path(recording.folder), self.layout.sample_rate
        complete = existing_slices(self.layout.pitch / folder) & existing_slices(self.layout.content / folder)
        rows: list[ManifestRow] = []
        for entry in result.slices:
            if entry.number not in complete:
                continue
            audio, f0, content = map(self._relative, self.layout.slice_paths(recording.folder, entry.number))
            row = ManifestRow(
                id=_slice_id(recording, entry.number),
                recording=recording.name,
                speaker=speaker,
                sample_rate=sample_rate,
                audio=audio,
                f0=f0,
                content=content,
                samples=entry.samples,
                frames=entry.samples // hop_samples(sample_rate),
                seconds=entry.samples / sample_rate,
            )
            rows.append(row)
        return rows

    def _relative(self, path: Path) -> str:
        return path.relative_to(self.layout.output).as_posix()

    def _report(self, speakers: Sequence[str]) -> PreparationReport:
        return PreparationReport(
            audio=display_name(self.audio),
            output=display_name(self.layout.output),
            used=self.used,
            skipped=sorted(self.skipped, key=lambda file: file.path),
            speakers=summarize_speakers(speakers, self.used, self.pitch),
            duplicates=self.duplicates,
            notes=self.notes,
            speeds=self.speeds,
        )

    def _read_result(self, recording: Recording) -> SlicingResult:
        result = SlicingResult.read(self.layout.slices, recording)
        if result is None:
            raise DatasetError(
                f"the slices of '{recording.name}' were removed from '{self.layout.slices}' during the preparation; "
                "prepare again"
            )
        return result


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


def _warn_if_older(output: Path) -> None:
    """Log the folders that an earlier version left and this one does not use."""
    try:
        revision = read_header(output).revision
    except DatasetError:
        return
    old = [f"'{path.name}'" for kind in ("slices", "pitch", "content") for path in sorted(output.glob(f"{kind}-*"))]
    if revision < REVISION and old:
        logger.warning(
            "'%s' was prepared by an earlier version with another layout and is prepared again. These folders can be "
            "deleted afterwards: %s", output, ", ".join(old)
        )  # fmt: skip


def _nothing_usable(report: PreparationReport) -> str:
    examples = [f"{file.path}: {file.reason}" for file in report.skipped[:5]]
    more = len(report.skipped) - len(examples)
    found = "; ".join([*examples, *([f"and {more} more"] if more else [])]) or "no files"
    return (
        f"'{report.audio}' contains nothing to train on; found: {found}. '{Path(report.output) / REPORT_NAME}' lists "
        "every file. Choose a folder with recordings of speech (wav, flac, mp3, m4a, ...)"
    )


def _with_options(component: Mapping[str, Any]) -> dict[str, Any]:
    """Convert {"name": ..., **options} to {"name": ..., "options": {...}}."""
    return {"name": component["name"], "options": {key: value for key, value in component.items() if key != "name"}}
