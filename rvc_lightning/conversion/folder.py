"""Conversion of a file or of everything in a folder, by one device or by several that share it."""

from __future__ import annotations

import logging
import os
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only
from tqdm.contrib.logging import logging_redirect_tqdm

from rvc_lightning.audio.decode import AUDIO_EXTENSIONS, seconds_or_none
from rvc_lightning.audio.discovery import SkippedFile, discover_audio, display_name
from rvc_lightning.audio.encode import WRITE_SUBTYPES, audio_writer, check_writable, fitting_rate
from rvc_lightning.cli.columns import pluralize
from rvc_lightning.conversion.converter import VoiceConverter
from rvc_lightning.conversion.curves import check_curves, curve_beside, with_curve_of
from rvc_lightning.conversion.journal import JOURNAL_NAME, Entry, Journal
from rvc_lightning.conversion.options import ConversionOptions
from rvc_lightning.conversion.prediction import Converted, Task
from rvc_lightning.conversion.scratch import scratch_folder
from rvc_lightning.errors import AudioError, ConfigurationError, NotWritableError, OutOfSpaceError, RVCError
from rvc_lightning.io.files import digest, protect_inputs, remove_leftovers
from rvc_lightning.io.locks import KILL_GRACE_SECONDS, exclusive_lock
from rvc_lightning.pitch.curve import write_curve

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
        options: How; `f0_file` may be a folder with a curve for each recording.
        redo: Whether to do again what is done.

    Raises:
        AudioError: There is no such source or nothing in it; or, when all else is done, a file has failed: the first
            rank raises it for all.
        ConfigurationError: The output would replace a file that is read, cannot be written in this format, or is named
            otherwise; or the pitch curves do not belong to the recordings.
        VoiceError: The voice has no such speaker or no pitch to change.
        InUseError: Another run writes to the same folder.
        OutOfSpaceError, NotWritableError: The disk does not take the results.
    """
    source, output = Path(source), Path(output)
    jobs, skipped = plan(source, output, options.output_format)
    _check(converter, jobs, source, options)
    report = ConversionReport(skipped=skipped)
    _tell_skipped(skipped)
    with _alone(converter, source, output, jobs), scratch_folder(None) as private:
        beside = output if source.is_dir() else jobs[0][1].parent
        journal = Journal((output if source.is_dir() else private) / JOURNAL_NAME)
        made_by = converter.fingerprint(options) if source.is_dir() else ""
        tasks = [_task(converter, path, target, source, options) for path, target in jobs]
        done = [] if redo else _done(journal, tasks, made_by)
        kept = {entry.target for entry in done}
        report.kept = [target for _, target in jobs if str(target) in kept]
        delivery = _Files(journal, made_by)
        with logging_redirect_tqdm():
            converter.run([task for task in tasks if str(task.target) not in kept], options, delivery, beside)
        if converter.trainer.is_global_zero:
            _conclude(report, journal, delivery.run, done, output)
    return report


@rank_zero_only
def _tell_skipped(skipped: Sequence[SkippedFile]) -> None:
    for other in skipped:
        log.info("Skipped %s: %s", other.path, other.reason)


@contextmanager
def _alone(converter: VoiceConverter, source: Path, output: Path, jobs: Sequence[tuple[Path, Path]]) -> Iterator[None]:
    """Keeps other runs out of the folder that is written to. Raises InUseError if one is there."""
    if not source.is_dir() or not converter.trainer.is_global_zero:
        yield
        return
    # The folder is the user's.
    with exclusive_lock(output, timeout_seconds=KILL_GRACE_SECONDS, remove_after=True):
        for folder in {target.parent for _, target in jobs}:
            remove_leftovers(folder)
        yield


def plan(source: Path, output: Path, output_format: str | None) -> tuple[list[tuple[Path, Path]], list[SkippedFile]]:
    """Pairs of recording and file to write, and what is left out; the errors are those of `convert_files`."""
    extension = f".{output_format or 'wav'}"
    if not source.exists():
        raise AudioError(f"there is no file or folder '{source}' to convert")
    if source.is_file():
        named = output.suffix.lower() in WRITE_SUBTYPES and not output.is_dir()
        _refuse_other_formats(output)
        if named and output_format and output.suffix.lower() != extension:
            raise ConfigurationError(f"output={output} and output_format={output_format} contradict each other")
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


def _check(
    converter: VoiceConverter, jobs: Sequence[tuple[Path, Path]], source: Path, options: ConversionOptions
) -> None:
    """Finds out what no recording could be converted with, before the first is."""
    converter.check(options)
    check_curves([_relative(recording, source) for recording, _ in jobs], options)
    for recording, target in jobs:
        check_writable(target, options.output_sample_rate)
        curve = with_curve_of(options, _relative(recording, source)).f0_file
        if options.write_f0 and curve is not None:
            protect_inputs(curve_beside(target), [Path(curve)])


def _relative(recording: Path, source: Path) -> Path:
    return recording.relative_to(source) if source.is_dir() else Path(recording.name)


def _refuse_other_formats(output: Path) -> None:
    """Raises ConfigurationError for the name of a recording that cannot be written: no folder is meant by it."""
    extension = output.suffix.lower()
    if extension in AUDIO_EXTENSIONS - set(WRITE_SUBTYPES) and not output.is_dir():
        raise ConfigurationError(
            f"output={output}: {extension} cannot be written; choose one of: {', '.join(WRITE_SUBTYPES)}, or a folder"
        )


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


def _task(converter: VoiceConverter, path: Path, target: Path, source: Path, options: ConversionOptions) -> Task:
    """The conversion of one recording, with its own curve and a rate that its format takes."""
    rate = options.output_sample_rate or fitting_rate(target.suffix, converter.voice.sample_rate)
    own = replace(with_curve_of(options, _relative(path, source)), output_sample_rate=rate)
    return Task(path, None, seconds_or_none(path) or 0.0, own, target=target)


def _done(journal: Journal, tasks: Sequence[Task], made_by: str) -> list[Entry]:
    """What need not be done again."""
    latest = {entry.target: entry for entry in journal.entries()}
    candidates = [(latest.get(str(task.target)), task) for task in tasks]
    return [entry for entry, task in candidates if entry is not None and _is_done(entry, task, made_by)]


def _is_done(entry: Entry, task: Task, made_by: str) -> bool:
    assert isinstance(task.source, Path) and task.target is not None
    complete = not task.options.write_f0 or curve_beside(task.target).is_file()
    return complete and entry.holds(task.source, task.target, _made_by(task, made_by))


def _made_by(task: Task, made_by: str) -> str:
    """The digest of voice and settings, and of the curve of this recording."""
    return f"{made_by} {digest(task.options.f0_file)}" if task.options.f0_file else made_by


def _conclude(report: ConversionReport, journal: Journal, run: str, done: Sequence[Entry], output: Path) -> None:
    """Adds to the report what all ranks have done, says so, and leaves in the journal what will be of use."""
    entries = sorted((entry for entry in journal.entries() if entry.run == run), key=lambda entry: entry.target)
    made = [entry for entry in entries if entry.failure is None]
    report.converted = [Path(entry.target) for entry in made]
    report.failed = [SkippedFile(entry.source, entry.failure) for entry in entries if entry.failure is not None]
    journal.keep([*done, *made])
    total = len(report.converted) + len(report.failed) + len(report.kept)
    before = f"; {len(report.kept)} {'was' if len(report.kept) == 1 else 'were'} done before" if report.kept else ""
    log.info("Converted %d of %s to '%s'%s", len(report.converted), pluralize(total, "recording"), output, before)
    if report.failed:
        reasons = "\n".join(f"  {failure.path}: {failure.reason}" for failure in report.failed)
        raise AudioError(f"{len(report.failed)} of {pluralize(total, 'recording')} failed:\n{reasons}")


class _Files:
    """Writes results, each whole or not at all, and keeps the journal."""

    def __init__(self, journal: Journal, made_by: str) -> None:
        self.journal, self.made_by, self.run = journal, made_by, uuid.uuid4().hex

    def deliver(self, task: Task, converted: Converted) -> None:
        """Writes the file of the task, and the pitch beside it where that is asked for."""
        assert isinstance(task.source, Path) and task.target is not None
        if task.options.write_f0 and converted.f0_hz is not None:
            write_curve(curve_beside(task.target), converted.f0_hz)
        with audio_writer(task.target, converted.sample_rate) as writer:
            for block in converted.blocks:
                writer.write(block)
        made = _made_by(task, self.made_by), converted.file_digest, digest(task.target)
        self.journal.add(Entry(self.run, display_name(task.source), str(task.target), None, *made))
        log.info("Wrote %s", display_name(task.target))

    def fail(self, task: Task, error: RVCError | OSError) -> None:
        """Says why there is no file. Raises the error if no other recording would get one either."""
        if isinstance(error, OutOfSpaceError | NotWritableError):
            raise error
        assert isinstance(task.source, Path)
        log.warning("Failed: %s: %s", display_name(task.source), error)
        self.journal.add(Entry(self.run, display_name(task.source), str(task.target), str(error)))
