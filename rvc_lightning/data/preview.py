"""A preview of a preparation, from the headers of the recordings and without writing anything."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
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
    """A recording that would be used.

    Attributes:
        recording: Path relative to the audio folder.
        speaker: Name of the speaker.
        seconds: Length according to the header; None if the header does not contain it.
        slices: Number of slices; an estimate without silence if the recording is not sliced yet.
        slice_seconds: Length of all slices.
        is_done: Whether slices, pitch and content exist.
    """

    recording: str
    speaker: str
    seconds: float | None
    slices: int
    slice_seconds: float
    is_done: bool


@dataclass(frozen=True)
class Preview:
    """What a preparation would do.

    Attributes:
        audio: Folder or file of the recordings.
        output: Folder of the dataset.
        recordings: Recordings that would be used, sorted.
        skipped: All other files with the reason, as far as it is known without decoding them.
        needed_bytes: Estimated size of the missing files.
        free_bytes: Free space on the disk.
        notes: Remarks on the whole folder.
    """

    audio: str
    output: str
    recordings: list[PlannedRecording]
    skipped: list[SkippedFile]
    needed_bytes: int
    free_bytes: int
    notes: list[str] = field(default_factory=list)

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
        lines = [*self._recording_table(), "", *self._speaker_table(), "", *skipped_lines(self.skipped), *self.notes]
        lines += ["lengths are from the headers; silence and damage are found in the preparation", disk]
        return "\n".join([head, *(f"  {line}".rstrip() for line in lines)])

    def _recording_table(self) -> list[str]:
        rows = [
            (
                recording.recording,
                recording.speaker,
                "unknown" if recording.seconds is None else format_duration(recording.seconds),
                f"{'' if recording.is_done else '~'}{recording.slices}",
                "done" if recording.is_done else "",
            )
            for recording in self.recordings
        ]
        return format_columns([("recording", "speaker", "length", "slices", ""), *rows])

    def _speaker_table(self) -> list[str]:
        by_speaker: dict[str, list[PlannedRecording]] = defaultdict(list)
        for recording in self.recordings:
            by_speaker[recording.speaker].append(recording)
        rows = [
            (
                name,
                str(len(group)),
                f"{sum(recording.slice_seconds for recording in group) / 60:.1f}",
                str(sum(recording.slices for recording in group)),
                str(sum(recording.is_done for recording in group)),
            )
            for name, group in by_speaker.items()
        ]
        return format_columns([("speaker", "recordings", "minutes", "slices", "done"), *rows])


def preview(audio: Path, output: Path, recipe: Recipe, *, content_dim: int, precision: str) -> Preview:
    """Preview the preparation of a folder.

    If some recordings are sliced already, all are read, since recordings are identified by content.

    Args:
        audio: A folder of recordings, or one recording.
        output: Folder of the prepared dataset.
        recipe: How recordings would become a dataset; no network is loaded.
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
    """Describe a recording from its slices, or from its header as if it contained no silence."""
    result = SlicingResult.read(layout.slices, recording) if recording.folder else None
    if result is not None and not result.slices:
        return SkippedFile(recording.name, result.skip_reason)
    seconds: float | None
    if result is not None:
        seconds, slices = result.seconds, len(result.slices)
        slice_seconds = sum(entry.samples for entry in result.slices) / recipe.sample_rate
    else:
        try:
            seconds = recorded_seconds(recording.path)
        except AudioError as error:
            return SkippedFile(recording.name, str(error).removeprefix(f"'{recording.path}' "))
        slices, slice_seconds = estimate_slices(seconds or 0.0, recipe.slicing)
    return PlannedRecording(
        recording=recording.name,
        speaker=recording.speaker,
        seconds=seconds,
        slices=slices,
        slice_seconds=slice_seconds,
        is_done=result is not None and not any(missing_features(layout, recording.folder, result)),
    )
