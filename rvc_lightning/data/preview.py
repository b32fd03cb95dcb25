"""Preview of a preparation: an estimate from the headers of the recordings, without writing anything."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path

from rvc_lightning.audio.decode import recorded_seconds
from rvc_lightning.audio.discovery import SkippedFile
from rvc_lightning.audio.frames import CONTENT_REPEAT, FRAMES_PER_SECOND
from rvc_lightning.cli.columns import format_columns, pluralize
from rvc_lightning.data.features import missing_features
from rvc_lightning.data.layout import Layout
from rvc_lightning.data.preparation import identify
from rvc_lightning.data.recipe import Recipe
from rvc_lightning.data.recordings import Recording, list_recordings
from rvc_lightning.data.report import format_duration, skipped_lines
from rvc_lightning.data.slice_files import SlicingResult
from rvc_lightning.data.slicing import estimate_slices
from rvc_lightning.errors import AudioError


@dataclass(frozen=True)
class PlannedRecording:
    """A recording that would be used."""

    recording: str
    """Path relative to the audio folder."""
    speaker: str
    seconds: float | None
    """Length according to the header; None if the header does not contain it."""
    slices: int
    """Number of slices; an estimate without silence if the recording is not sliced yet."""
    slice_seconds: float
    is_done: bool
    """Whether slices, pitch and content exist."""


@dataclass(frozen=True)
class Preview:
    """Estimated result of a preparation."""

    audio: str
    output: str
    recordings: list[PlannedRecording]
    skipped: list[SkippedFile]
    """All other files with the reason, if known without decoding them."""
    needed_bytes: int
    """Estimated size of the missing files."""
    free_bytes: int
    """Free space on the disk."""
    notes: list[str]
    """Remarks on the whole folder."""

    def summary(self) -> str:
        """Return recordings, speakers, skipped files and disk space as text."""
        n_done = sum(recording.is_done for recording in self.recordings)
        seconds = sum(recording.seconds or 0.0 for recording in self.recordings)
        head = (
            f"'{self.audio}' would be prepared as '{self.output}': {pluralize(len(self.recordings), 'recording')}"
            f" ({format_duration(seconds)}), {n_done} done. Nothing was written."
        )
        disk = f"disk: needs about {self.needed_bytes / 1e9:.2f} GB, has {self.free_bytes / 1e9:.2f} GB"
        if self.needed_bytes > self.free_bytes:
            disk += ": not enough, choose a folder on another disk with paths.datasets=FOLDER"
        lines = [*_recording_table(self.recordings), "", *_speaker_table(self.recordings), ""]
        lines += [*skipped_lines(self.skipped), *self.notes]
        lines += ["lengths are from the headers; silence and damage are found in the preparation", disk]
        return "\n".join([head, *(f"  {line}".rstrip() for line in lines)])


def _recording_table(recordings: Sequence[PlannedRecording]) -> list[str]:
    rows: list[tuple[str, ...]] = [("recording", "speaker", "length", "slices", "")]
    for planned in recordings:
        length = "unknown" if planned.seconds is None else format_duration(planned.seconds)
        slices, state = (str(planned.slices), "done") if planned.is_done else (f"~{planned.slices}", "")
        rows.append((planned.recording, planned.speaker, length, slices, state))
    return format_columns(rows)


def _speaker_table(recordings: Sequence[PlannedRecording]) -> list[str]:
    by_speaker: dict[str, list[PlannedRecording]] = defaultdict(list)
    for planned in recordings:
        by_speaker[planned.speaker].append(planned)
    rows: list[tuple[str, ...]] = [("speaker", "recordings", "minutes", "slices", "done")]
    for name, group in by_speaker.items():
        minutes = sum(planned.slice_seconds for planned in group) / 60
        n_slices = sum(planned.slices for planned in group)
        n_done = sum(planned.is_done for planned in group)
        rows.append((name, str(len(group)), f"{minutes:.1f}", str(n_slices), str(n_done)))
    return format_columns(rows)


def preview(audio: Path, output: Path, recipe: Recipe, *, content_dim: int, precision: str) -> Preview:
    """Preview the preparation of a folder.

    If some recordings are sliced already, all are read, since recordings are identified by content.

    Args:
        audio: A folder of recordings, or one recording.
        output: Folder of the prepared dataset.
        recipe: Settings of the dataset; no network is loaded.
        content_dim: Channels of the content.
        precision: Precision of the networks, as Lightning names it.

    Raises:
        DatasetError: The input does not exist, or the dataset was made from other recordings.
    """
    found = list_recordings(audio, output, recipe.selection)
    layout = Layout.of(output, recipe, precision)
    if layout.slices.is_dir():
        found = identify(found, audio, output, update_cache=False)
    with ThreadPool() as threads:
        results = threads.map(partial(_plan, layout=layout, recipe=recipe), found.recordings)
    planned = [result for result in results if isinstance(result, PlannedRecording)]
    skipped = [*found.skipped, *(result for result in results if isinstance(result, SkippedFile))]
    existing = next(folder for folder in (output, *output.absolute().parents) if folder.exists())
    return Preview(
        audio=str(audio),
        output=str(output),
        recordings=planned,
        skipped=sorted(skipped, key=lambda file: file.path),
        needed_bytes=_needed_bytes(planned, recipe.sample_rate, content_dim),
        free_bytes=shutil.disk_usage(existing).free,
        notes=found.notes,
    )


def _needed_bytes(planned: Sequence[PlannedRecording], sample_rate: int, content_dim: int) -> int:
    """Estimate the size of the missing files: float32 audio and pitch, float16 content."""
    seconds = sum(recording.slice_seconds for recording in planned if not recording.is_done)
    per_second = 4 * (sample_rate + FRAMES_PER_SECOND) + 2 * content_dim * FRAMES_PER_SECOND // CONTENT_REPEAT
    return round(seconds * per_second)


def _plan(recording: Recording, layout: Layout, recipe: Recipe) -> PlannedRecording | SkippedFile:
    """Describe a recording by its slices, or estimate them from its header as if it contained no silence."""
    result = SlicingResult.read(layout.slices, recording) if recording.folder else None
    if result is None:
        try:
            seconds = recorded_seconds(recording.path)
        except AudioError as error:
            return recording.skipped(error)
        estimate = estimate_slices(seconds or 0.0, recipe.slicing)
        return PlannedRecording(recording.name, recording.speaker, seconds, *estimate, is_done=False)
    if not result.slices:
        return SkippedFile(recording.name, result.skip_reason)
    slice_seconds = sum(entry.samples for entry in result.slices) / recipe.sample_rate
    is_done = not any(missing_features(layout, recording.folder, result, recipe.content_speeds))
    return PlannedRecording(
        recording.name, recording.speaker, result.seconds, len(result.slices), slice_seconds, is_done
    )
