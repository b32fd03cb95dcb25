"""What a preparation would do, told from the headers of the recordings without writing anything."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from rvc_lightning.audio.decode import recorded_seconds
from rvc_lightning.audio.discovery import SkippedFile, discover_audio, display_name
from rvc_lightning.audio.frames import CONTENT_REPEAT, FRAMES_PER_SECOND
from rvc_lightning.cli.columns import format_columns, pluralize
from rvc_lightning.data.fingerprints import Source, fingerprint_recordings
from rvc_lightning.data.layout import Layout
from rvc_lightning.data.pending import missing_features
from rvc_lightning.data.preparation import check_input, refuse_other_recordings
from rvc_lightning.data.recipe import Recipe
from rvc_lightning.data.recordings import SlicedRecording
from rvc_lightning.data.report import duration, not_used
from rvc_lightning.data.slicing import planned_spans
from rvc_lightning.errors import AudioError


@dataclass(frozen=True)
class PlannedRecording:
    """A recording that would be used.

    Attributes:
        recording: path relative to the audio folder.
        speaker: name of who speaks.
        seconds: length by its header; None where the header does not say.
        slices: how many it gave, or would give were there no silence in it.
        slice_seconds: their lengths together.
        is_done: whether slices, pitch and content are there already.
    """

    recording: str
    speaker: str
    seconds: float | None
    slices: int
    slice_seconds: float
    is_done: bool


@dataclass(frozen=True)
class Preview:
    """What would happen.

    Attributes:
        audio: the folder or file.
        output: folder of the dataset.
        recordings: that would be used, sorted.
        skipped: all other files with their reasons, as far as it shows without decoding them.
        needed_bytes: what the files would take that are not there yet, about.
        free_bytes: what the disk has.
        notes: what is worth knowing about the whole.
    """

    audio: str
    output: str
    recordings: list[PlannedRecording]
    skipped: list[SkippedFile]
    needed_bytes: int
    free_bytes: int
    notes: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """All of it in words: recordings, speakers, what is not used, disk space."""
        done = sum(recording.is_done for recording in self.recordings)
        seconds = sum(recording.seconds or 0.0 for recording in self.recordings)
        head = (
            f"'{self.audio}' would be prepared as '{self.output}': {pluralize(len(self.recordings), 'recording')}"
            f" ({duration(seconds)}), of which {done} are done. Nothing was written."
        )
        lines = [*self._recording_table(), "", *self._speaker_table(), "", *not_used(self.skipped), *self.notes]
        lines.append("lengths are those of the headers; silence and damage show only when it is done")
        lines.append(f"disk: needs about {_gigabytes(self.needed_bytes)}, has {_gigabytes(self.free_bytes)}")
        if self.needed_bytes > self.free_bytes:
            lines[-1] += ": too little, set paths.datasets=FOLDER on another disk"
        return "\n".join([head, *(f"  {line}".rstrip() for line in lines)])

    def _recording_table(self) -> list[str]:
        head = ("recording", "speaker", "length", "slices", "")
        rows = [
            (
                recording.recording,
                recording.speaker,
                "unknown" if recording.seconds is None else duration(recording.seconds),
                f"{'' if recording.is_done else '~'}{recording.slices}",
                "done" if recording.is_done else "",
            )
            for recording in self.recordings
        ]
        return format_columns([head, *rows])

    def _speaker_table(self) -> list[str]:
        by_speaker: dict[str, list[PlannedRecording]] = {}
        for recording in self.recordings:
            by_speaker.setdefault(recording.speaker, []).append(recording)
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
    """Look at the recordings, and at what is done of them.

    Recordings are read where some are done already, since what is done is known by content.

    Args:
        audio: a folder of recordings, or one recording.
        output: folder of the prepared dataset.
        recipe: what would be made of them; no network is loaded.
        content_dim: channels of the content.
        precision: of the networks, as Lightning names it.

    Raises:
        DatasetError: the input does not exist, or the dataset was made of other recordings.
    """
    check_input(audio)
    selection = recipe.selection
    found = discover_audio(audio, exclude=(output,))
    discovery = selection.apply(found)
    root = audio if audio.is_dir() else audio.parent
    layout = Layout.of(output, recipe, precision)
    sources: list[Source] = []
    if layout.slices.is_dir():
        sources, _ = fingerprint_recordings(root, discovery.recordings, selection, output, remember=False)
        refuse_other_recordings(output, audio, sources)
    done = {source.path: _done(source, layout) for source in sources}

    def one(relative: Path) -> PlannedRecording | SkippedFile:
        path, speaker = root / relative, selection.speaker(relative)
        if (planned := done.get(path)) is not None:
            return planned
        try:
            return _planned(display_name(relative), speaker, recorded_seconds(path), recipe)
        except AudioError as error:
            return SkippedFile(display_name(relative), str(error).removeprefix(f"'{path}' "))

    with ThreadPoolExecutor() as threads:
        results = list(threads.map(one, discovery.recordings))
    planned = [result for result in results if isinstance(result, PlannedRecording)]
    skipped = [*discovery.skipped, *(result for result in results if isinstance(result, SkippedFile))]
    return Preview(
        audio=str(audio),
        output=str(output),
        recordings=planned,
        skipped=sorted(skipped, key=lambda file: file.path),
        needed_bytes=_needed_bytes(planned, recipe.sample_rate, content_dim),
        free_bytes=_free_bytes(output),
        notes=selection.notes(found),
    )


def _needed_bytes(planned: Sequence[PlannedRecording], sample_rate: int, content_dim: int) -> int:
    """Room for what is not done yet: float32 audio and pitch, float16 content."""
    seconds = sum(recording.slice_seconds for recording in planned if not recording.is_done)
    per_second = 4 * (sample_rate + FRAMES_PER_SECOND) + 2 * content_dim * FRAMES_PER_SECOND // CONTENT_REPEAT
    return round(seconds * per_second)


def _done(source: Source, layout: Layout) -> PlannedRecording | SkippedFile | None:
    """What is known of a recording that is sliced; None if it is not. Done is it when no slice lacks a feature."""
    sliced = SlicedRecording.read(layout.slices, source)
    if sliced is None:
        return None
    if not sliced.slices:
        return SkippedFile(source.name, sliced.reasons)
    return PlannedRecording(
        recording=source.name,
        speaker=source.speaker,
        seconds=sliced.seconds,
        slices=len(sliced.slices),
        slice_seconds=sum(entry.samples for entry in sliced.slices) / layout.sample_rate,
        is_done=not any(missing_features(layout, source, sliced)),
    )


def _planned(name: str, speaker: str, seconds: float | None, recipe: Recipe) -> PlannedRecording:
    """A recording that is not sliced yet, as if there were no silence in it."""
    samples = round((seconds or 0.0) * recipe.sample_rate)
    spans = planned_spans(samples, recipe.sample_rate, recipe.slicing)
    slice_seconds = sum(end - start for start, end in spans) / recipe.sample_rate
    return PlannedRecording(name, speaker, seconds, len(spans), slice_seconds, is_done=False)


def _free_bytes(folder: Path) -> int:
    """What the disk has where a folder is, or would be made."""
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    return shutil.disk_usage(existing).free


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB"
