"""Conversion of a file or of everything in a folder, by one device or by several that share it."""

from __future__ import annotations

import logging
import os
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm.contrib.logging import logging_redirect_tqdm

from rvc_lightning.audio.decode import WRITE_SUBTYPES, seconds_of, write_blocks
from rvc_lightning.audio.discovery import SkippedFile, discover_audio, display_name
from rvc_lightning.conversion.converter import VoiceConverter
from rvc_lightning.conversion.journal import JOURNAL_NAME, Entry, Journal
from rvc_lightning.conversion.options import ConversionOptions
from rvc_lightning.conversion.prediction import Task
from rvc_lightning.conversion.reel import reel_folder
from rvc_lightning.conversion.source import Recording
from rvc_lightning.errors import AudioError, ConfigurationError, RVCError, unknown_choice
from rvc_lightning.files import digest

log = logging.getLogger(__name__)


@dataclass
class ConversionReport:
    """What became of every file of the input."""

    converted: list[Path] = field(default_factory=list)
    """What was written."""
    kept: list[Path] = field(default_factory=list)
    """What was there already, made of the same recording by the same voice and settings."""
    skipped: list[SkippedFile] = field(default_factory=list)
    """What is no recording."""
    failed: list[SkippedFile] = field(default_factory=list)
    """What could not be converted."""


def convert_files(
    converter: VoiceConverter,
    source: str | Path,
    output: str | Path,
    options: ConversionOptions,
    extension: str = ".wav",
    *,
    redo: bool = False,
) -> ConversionReport:
    """Converts a recording, or every recording below a folder.

    A file that fails does not stop the others. Of a folder, what an earlier run has done is not done again, and several
    ranks share what is left.

    Args:
        converter: With the voice.
        source: A file or a folder.
        output: For a file, the file to write or the folder to write `NAME.wav` to; for a folder, the folder that gets
            the same sub-folders. Existing files are replaced, but never one of the source.
        options: How.
        extension: Of the files in an output folder, one of `WRITE_SUBTYPES`.
        redo: Whether to do again what is done.

    Raises:
        AudioError: There is no such source or nothing in it; or, when all else is done, a file has failed: the first
            rank raises it for all.
        ConfigurationError: The output would replace a file of the source, or cannot be written in this format.
        VoiceError: The voice has no such speaker.
    """
    source, output = Path(source), Path(output)
    jobs, skipped = plan(source, output, extension)
    report = ConversionReport(skipped=skipped)
    for other in skipped:
        log.info("Skipped %s: %s", other.path, other.reason)
    with reel_folder(None) as private:
        beside = output if source.is_dir() else jobs[0][1].parent
        journal = Journal((output if source.is_dir() else private) / JOURNAL_NAME)
        made_by = converter.fingerprint(options) if source.is_dir() else ""
        done = [] if redo else _done(journal, jobs, made_by)
        report.kept = [target for _, target in jobs if str(target) in {entry.target for entry in done}]
        tasks = [
            Task(path, None, seconds_of(path), target=target) for path, target in jobs if target not in report.kept
        ]
        delivery = _Files(journal, made_by)
        with logging_redirect_tqdm():
            converter.run(tasks, options, delivery, beside)
        if converter.trainer.is_global_zero:
            _conclude(report, journal, delivery.run, done, output)
    return report


def plan(source: Path, output: Path, extension: str) -> tuple[list[tuple[Path, Path]], list[SkippedFile]]:
    """Pairs of recording and file to write, and what is left out; the errors are those of `convert_files`."""
    if extension.lower() not in WRITE_SUBTYPES:
        raise unknown_choice("audio format to write", extension, WRITE_SUBTYPES)
    if not source.exists():
        raise AudioError(f"there is no file or folder '{source}' to convert")
    if source.is_file():
        named = output.suffix.lower() in WRITE_SUBTYPES and not output.is_dir()
        jobs, skipped = [(source, output if named else output / f"{source.stem}{extension}")], []
    else:
        if output.exists() and not output.is_dir():
            raise ConfigurationError(f"output={output} is a file, but '{source}' is a folder; name a folder")
        if output.exists() and output.samefile(source):
            raise ConfigurationError(f"output: '{output}' is the folder to convert; choose another place")
        found = discover_audio(source, exclude=[output])
        targets = _targets(found.recordings, extension)
        jobs = [(source / path, output / target) for path, target in zip(found.recordings, targets, strict=True)]
        skipped = found.skipped
    if not jobs:
        others = "; ".join(f"{other.path}: {other.reason}" for other in skipped[:5])
        raise AudioError(f"there is no recording in '{source}'" + (f" ({others})" if others else ""))
    _refuse_to_replace(jobs)
    return jobs, skipped


def _targets(recordings: Sequence[Path], extension: str) -> list[Path]:
    """Names to write; recordings that differ in their extension alone keep it, as in `a.flac.wav`."""
    taken = Counter(path.with_suffix(extension) for path in recordings)
    return [
        path.with_suffix(extension)
        if taken[path.with_suffix(extension)] == 1
        else path.with_name(path.name + extension)
        for path in recordings
    ]


def _refuse_to_replace(jobs: Sequence[tuple[Path, Path]]) -> None:
    recordings = {os.path.realpath(recording) for recording, _ in jobs}
    for _, target in jobs:
        if os.path.realpath(target) in recordings:
            raise ConfigurationError(f"output: '{target}' is one of the recordings to convert; choose another place")


def _done(journal: Journal, jobs: Sequence[tuple[Path, Path]], made_by: str) -> list[Entry]:
    """What need not be done again."""
    latest = {entry.target: entry for entry in journal.entries()}
    candidates = [(latest.get(str(target)), path, target) for path, target in jobs]
    return [entry for entry, path, target in candidates if entry is not None and entry.holds(path, target, made_by)]


def _conclude(report: ConversionReport, journal: Journal, run: str, done: Sequence[Entry], output: Path) -> None:
    """Adds to the report what all ranks have done, says so, and leaves in the journal what will be of use."""
    entries = sorted((entry for entry in journal.entries() if entry.run == run), key=lambda entry: entry.target)
    made = [entry for entry in entries if entry.failure is None]
    report.converted = [Path(entry.target) for entry in made]
    report.failed = [SkippedFile(entry.source, entry.failure) for entry in entries if entry.failure is not None]
    journal.keep([*done, *made])
    total = len(report.converted) + len(report.failed) + len(report.kept)
    before = f"; {len(report.kept)} were done before" if report.kept else ""
    log.info("Converted %d of %d recordings to '%s'%s", len(report.converted), total, output, before)
    if report.failed:
        reasons = "\n".join(f"  {failure.path}: {failure.reason}" for failure in report.failed)
        raise AudioError(f"{len(report.failed)} of {total} recordings failed:\n{reasons}")


class _Files:
    """Writes results, each whole or not at all, and keeps the journal."""

    def __init__(self, journal: Journal, made_by: str) -> None:
        self.journal, self.made_by, self.run = journal, made_by, uuid.uuid4().hex

    def deliver(self, task: Task, recording: Recording, blocks: Iterator[np.ndarray], sample_rate: int) -> None:
        """Writes the file of the task."""
        assert isinstance(task.source, Path) and task.target is not None
        write_blocks(task.target, blocks, sample_rate)
        digests = recording.file_digest, digest(task.target)
        self.journal.add(Entry(self.run, display_name(task.source), str(task.target), None, self.made_by, *digests))
        log.info("Wrote %s", display_name(task.target))

    def fail(self, task: Task, error: RVCError | OSError) -> None:
        """Says why there is no file."""
        assert isinstance(task.source, Path)
        log.warning("Failed: %s: %s", display_name(task.source), error)
        self.journal.add(Entry(self.run, display_name(task.source), str(task.target), str(error)))
