"""From a folder of recordings to a prepared dataset.

    recordings ──slice──▶ slices ──pitch, content──▶ features ──▶ manifest.jsonl dataset.json report.json report.png
      processes              ranks of a trainer                     the first rank

`rvc_lightning.data.layout` says where the files lie. Every name depends on what made the file, so a second run finds
what is there, a run that was killed goes on, and a changed setting or file redoes what depends on it and nothing else.

One process at a time prepares a dataset; of the ranks of one run the first slices, all find pitch and content of their
share, and the first writes the manifest. What is kept in memory of a slice is 17 bytes, of a recording less than 2 kB.
"""

from __future__ import annotations

import logging
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import numpy as np

from rvc_lightning.audio.discovery import SkippedFile, discover_audio, display_name
from rvc_lightning.audio.encode import write_audio
from rvc_lightning.content import build_content_encoder
from rvc_lightning.data.dataset import read_feature
from rvc_lightning.data.features import ExtractionConfig, Timing, extract_features, read_timings
from rvc_lightning.data.fingerprints import Source, fingerprint_recordings
from rvc_lightning.data.layout import REVISION, Layout, numbers_in, shard, slice_name
from rvc_lightning.data.manifest import DatasetHeader, ManifestRow, read_header, read_manifest, write_manifest
from rvc_lightning.data.pending import SILENCE_SECONDS, PendingSlices
from rvc_lightning.data.pitch_histogram import PitchHistogram
from rvc_lightning.data.recipe import Recipe
from rvc_lightning.data.recordings import SlicedRecording, SlicingWork, slice_recordings
from rvc_lightning.data.report import (
    REPORT_NAME,
    PreparationReport,
    UsedRecording,
    remarks_on,
    summarize_speakers,
)
from rvc_lightning.data.report_picture import PICTURE_NAME, write_picture
from rvc_lightning.data.selection import speaker_numbers
from rvc_lightning.data.slicing import LeftOut
from rvc_lightning.errors import ConfigurationError, DatasetError
from rvc_lightning.io.files import read_json, write_json
from rvc_lightning.io.locks import exclusive_lock
from rvc_lightning.pitch import build_pitch_extractor

logger = logging.getLogger(__name__)

_NOT_FINITE = "its pitch or content is not finite"
_WORK_FOLDER = ".work"
_PENDING_NAME = "pending.npz"


def prepare(
    audio: Path, output: Path, recipe: Recipe, *, trainer: lightning.Trainer, extraction: ExtractionConfig
) -> PreparationReport | None:
    """Slice all recordings, find pitch and content of the slices, and write the manifest and the report.

    The manifest numbers the speakers 0 .. n - 1, see `speaker_numbers`; the header has their names.

    Args:
        audio: a folder of recordings, or one recording.
        output: folder of the prepared dataset; what is there already is not done again.
        recipe: what is made of them.
        trainer: runs the networks through `Trainer.predict`, on all of its ranks.
        extraction: how slices are batched; its processes slice, too.

    Returns:
        What became of every file; None on all ranks but the first.

    Raises:
        DatasetError: the input is missing or holds nothing usable, or the dataset was made of other recordings; the
            message says what was found.
        ConfigurationError: settings that contradict each other or name something unknown.
    """
    audio, output = Path(audio), Path(output)
    check_input(audio)
    if output.exists() and output.samefile(audio):
        raise ConfigurationError(f"'{output}' holds the recordings: choose another folder for what is made of them")
    extractor, encoder = build_pitch_extractor(**recipe.pitch), build_content_encoder(**recipe.content)
    layout = Layout.of(output, recipe, trainer.precision)
    work = output / _WORK_FOLDER
    tasks = partial(PendingSlices.load, work / _PENDING_NAME, layout)
    extract = partial(extract_features, tasks, extractor, encoder, trainer, extraction, work)
    report = None
    if trainer.is_global_zero:
        with exclusive_lock(output):
            _say_if_older(output)
            stages = _Stages(audio, recipe, layout)
            stages.slice(extraction.num_workers)
            n_pending = stages.find_pending()
            # The other ranks are waiting even if there is nothing to do.
            if n_pending or trainer.world_size > 1:
                extract()
            report = stages.finish(encoder.dim, trainer.precision)
    else:
        extract()
    trainer.strategy.barrier("manifest")
    return report


def check_input(audio: Path) -> None:
    """Raises DatasetError if there is no such folder or file."""
    if not audio.exists():
        raise DatasetError(f"'{audio}' does not exist; give a folder of recordings, or one recording")


def refuse_other_recordings(output: Path, audio: Path, sources: Sequence[Source]) -> None:
    """Keeps a dataset from becoming that of other recordings, and a voice's name from becoming another's.

    Recordings are known by content and name, so a folder that was moved, or got more of them, is the same.

    Args:
        output: folder of the dataset.
        audio: what is to be prepared.
        sources: its recordings.

    Raises:
        DatasetError: the dataset was made of others, most of which are not among them.
    """
    try:
        before = read_json(output / REPORT_NAME)["audio"]
        earlier = set() if before == display_name(audio) else {row.id.split("/")[0] for row in read_manifest(output)}
    except (OSError, ValueError, KeyError, DatasetError):
        # Nothing was finished there.
        return
    still_there = earlier & {source.folder for source in sources}
    if len(still_there) < len(earlier) / 2:
        raise DatasetError(
            f"'{output}' was made of '{before}', and of its {len(earlier)} recordings {len(still_there)} are in "
            f"'{audio}': choose another name=NAME for these. If they are to take the others' place, delete '{output}'"
        )


@dataclass
class _Stages:
    """What the first rank does, and what it knows in between."""

    audio: Path
    recipe: Recipe
    layout: Layout
    sources: list[Source] = field(default_factory=list)
    skipped: list[SkippedFile] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    work: SlicingWork = field(default_factory=SlicingWork)

    @property
    def output(self) -> Path:
        """The folder of the dataset."""
        return self.layout.output

    @property
    def work_folder(self) -> Path:
        """Where the ranks leave notes for each other."""
        return self.output / _WORK_FOLDER

    @property
    def numbers(self) -> dict[str, int]:
        """The speakers by name."""
        return speaker_numbers(source.speaker for source in self.sources)

    def slice(self, num_workers: int) -> None:
        """Finds and slices the recordings; `sources` are then those that gave slices."""
        everything = discover_audio(self.audio, exclude=(self.output,))
        selection, sample_rate = self.recipe.selection, self.recipe.sample_rate
        discovery, self.notes = selection.apply(everything), selection.notes(everything)
        root = self.audio if self.audio.is_dir() else self.audio.parent
        found, unreadable = fingerprint_recordings(root, discovery.recordings, selection, self.output)
        refuse_other_recordings(self.output, self.audio, found)
        self.work = slice_recordings(found, self.layout.slices, sample_rate, self.recipe.slicing, num_workers)
        self.skipped = [*discovery.skipped, *unreadable, *self.work.failed.values()]
        for source in found:
            if source.folder in self.work.failed:
                continue
            done = self._marked(source)
            if done.slices:
                self.sources.append(source)
            else:
                self.skipped.append(SkippedFile(source.name, done.reasons))

    def find_pending(self) -> int:
        """Writes down for all ranks which slices lack features, and gives how many."""
        shutil.rmtree(self.work_folder, ignore_errors=True)
        audio, content = self.layout.silence
        lacks_silence = not content.exists()
        if lacks_silence:
            silence = np.zeros(round(SILENCE_SECONDS * self.layout.sample_rate), np.float32)
            write_audio(audio, silence, self.layout.sample_rate, subtype="FLOAT")
        pending = PendingSlices.find(self.layout, self._sliced())
        pending.save(self.work_folder / _PENDING_NAME)
        if n_slices := len(pending) - lacks_silence:
            logger.info("finding pitch and content of %d slices", n_slices)
        return len(pending)

    def _silence_content(self) -> str | None:
        """The content of silence, relative to the dataset; None if the encoder makes none of it."""
        _, content = self.layout.silence
        return content.relative_to(self.output).as_posix() if content.exists() else None

    def finish(self, content_dim: int, precision: str) -> PreparationReport:
        """Writes manifest and report. Raises DatasetError if nothing can be used."""
        outcome = _Outcome()
        write_manifest(self.output, self._header(content_dim, precision), self._rows(outcome))
        report = self._report(outcome)
        write_json(self.output / REPORT_NAME, report.to_dict())
        write_picture(report, self.output / PICTURE_NAME)
        shutil.rmtree(self.work_folder, ignore_errors=True)
        return report

    def _header(self, content_dim: int, precision: str) -> DatasetHeader:
        return DatasetHeader(
            sample_rate=self.recipe.sample_rate,
            pitch=_named(self.recipe.pitch),
            content={**_named(self.recipe.content), "dim": content_dim},
            slicing=asdict(self.recipe.slicing),
            speakers=list(self.numbers),
            silence=self._silence_content(),
            precision=precision,
            revision=REVISION,
        )

    def _report(self, outcome: _Outcome) -> PreparationReport:
        speeds = _speeds(self.work, read_timings(self.work_folder))
        speakers = summarize_speakers(list(self.numbers), outcome.used, outcome.pitch)
        skipped = sorted([*self.skipped, *outcome.skipped], key=lambda file: file.path)
        paths = display_name(self.audio), display_name(self.output)
        return PreparationReport(*paths, outcome.used, skipped, speakers, outcome.duplicates, self.notes, speeds)

    def _rows(self, outcome: _Outcome) -> Iterator[ManifestRow]:
        """The manifest's rows one by one; notes what became of each recording. Raises DatasetError if there is none."""
        numbers = self.numbers
        first_with: dict[str, str] = {}
        for source, done in self._sliced():
            rows = self._rows_of(source, done, numbers[source.speaker])
            if not rows:
                outcome.skipped.append(SkippedFile(source.name, f"nothing usable: {_NOT_FINITE}"))
                continue
            twin = first_with.setdefault(done.sound, source.name)
            notes = [] if twin == source.name else [f"the same sound as {twin}"]
            outcome.duplicates += [(source.name, twin)] if notes else []
            outcome.used.append(_used(source, done, rows, notes))
            for row in rows:
                outcome.pitch[row.speaker].add(read_feature(self.output / row.f0, 1))
                yield row
        if not outcome.used:
            report = self._report(outcome)
            write_json(self.output / REPORT_NAME, report.to_dict())
            raise DatasetError(_nothing_usable(report))

    def _rows_of(self, source: Source, done: SlicedRecording, speaker: int) -> list[ManifestRow]:
        """A row for every slice that has both features."""
        folder = shard(source.folder)
        whole = numbers_in(self.layout.pitch / folder) & numbers_in(self.layout.content / folder)
        rows: list[ManifestRow] = []
        for entry in done.slices:
            if entry.number not in whole:
                continue
            files = self.layout.files(source.folder, entry.number)
            audio, f0, content = (path.relative_to(self.output).as_posix() for path in files)
            row = ManifestRow(
                id=f"{source.folder}/{slice_name(entry.number)}",
                recording=source.name,
                speaker=speaker,
                sample_rate=self.layout.sample_rate,
                audio=audio,
                f0=f0,
                content=content,
                samples=entry.samples,
                frames=entry.samples // (self.layout.sample_rate // 100),
                seconds=entry.samples / self.layout.sample_rate,
            )
            rows.append(row)
        return rows

    def _sliced(self) -> Iterator[tuple[Source, SlicedRecording]]:
        for source in self.sources:
            yield source, self._marked(source)

    def _marked(self, source: Source) -> SlicedRecording:
        """What a recording gave. Raises DatasetError if that has vanished."""
        done = SlicedRecording.read(self.layout.slices, source)
        if done is None:
            raise DatasetError(
                f"the slices of '{source.name}' have vanished from '{self.layout.slices}' since they were written; is "
                "something else at work in that folder? Prepare again"
            )
        return done


@dataclass
class _Outcome:
    """What became of the recordings that gave slices.

    Attributes:
        used: those that are in the manifest.
        duplicates: (recording, an earlier one that sounds the same).
        skipped: those without features.
        pitch: of the slices by the speaker's number.
    """

    used: list[UsedRecording] = field(default_factory=list)
    duplicates: list[tuple[str, str]] = field(default_factory=list)
    skipped: list[SkippedFile] = field(default_factory=list)
    pitch: defaultdict[int, PitchHistogram] = field(default_factory=lambda: defaultdict(PitchHistogram))


def _used(source: Source, done: SlicedRecording, rows: Sequence[ManifestRow], notes: list[str]) -> UsedRecording:
    with_features = {row.id for row in rows}
    without = [
        LeftOut(entry.start_seconds, 0.0, f"slice {slice_name(entry.number)}: {_NOT_FINITE}")
        for entry in done.slices
        if f"{source.folder}/{slice_name(entry.number)}" not in with_features
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


def _speeds(slicing: SlicingWork, features: Timing) -> dict[str, float]:
    """Seconds of audio a second, of each stage that had something to do."""
    stages = {
        "slicing": (slicing.audio_seconds, slicing.seconds),
        "pitch": (features.pitch_audio_seconds, features.pitch_seconds),
        "content": (features.content_audio_seconds, features.content_seconds),
    }
    return {stage: audio / max(seconds, 1e-9) for stage, (audio, seconds) in stages.items() if audio > 0}


def _say_if_older(output: Path) -> None:
    """Says that an earlier version prepared the dataset, whose files are not used again."""
    try:
        revision = read_header(output).revision
    except DatasetError:
        return
    old = [f"'{path.name}'" for kind in ("slices", "pitch", "content") for path in sorted(output.glob(f"{kind}-*"))]
    if revision < REVISION and old:
        logger.warning(
            "'%s' was prepared by an earlier version, which kept its files otherwise: it is prepared again. What that "
            "version left can be deleted then: %s", output, ", ".join(old)
        )  # fmt: skip


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
