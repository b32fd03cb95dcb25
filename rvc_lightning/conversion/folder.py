"""Conversion of a file or a folder, by one device or by several that share the recordings."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
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
from rvc_lightning.conversion.curves import curve_path, match_curves, unique_stems
from rvc_lightning.conversion.journal import JOURNAL_NAME, Entry, Journal
from rvc_lightning.conversion.options import DEFAULT_FORMAT, ConversionOptions
from rvc_lightning.conversion.tasks import ConvertedBlocks, Task
from rvc_lightning.errors import AudioError, ConfigurationError, NotWritableError, OutOfSpaceError, RVCError
from rvc_lightning.io.files import check_folder_writable, digest, protect_inputs, remove_leftovers
from rvc_lightning.io.locks import KILL_GRACE_SECONDS, exclusive_lock
from rvc_lightning.io.scratch import scratch_folder
from rvc_lightning.pitch.curve import write_curve

log = logging.getLogger(__name__)

_FILE_EXTENSIONS = AUDIO_EXTENSIONS | set(WRITE_SUBTYPES)
_OR_FOLDER = "or append a slash for a folder of this name"


@dataclass
class ConversionReport:
    """Outcome for every file of the input."""

    converted: list[Path] = field(default_factory=list)
    """Files that were written."""
    kept: list[Path] = field(default_factory=list)
    """Files that an earlier run wrote from the same recording with the same voice and settings."""
    skipped: list[SkippedFile] = field(default_factory=list)
    """Files that are not recordings."""
    failed: list[SkippedFile] = field(default_factory=list)
    """Recordings that could not be converted."""


def convert_files(
    converter: VoiceConverter,
    source: str | Path,
    output: str | Path,
    options: ConversionOptions,
    *,
    redo: bool = False,
) -> ConversionReport:
    """Convert a recording, or every recording below a folder.

    A failure does not stop the other recordings. For a folder, results of an earlier run are kept, and several ranks
    share the remaining recordings.

    Args:
        converter: Converter with the voice.
        source: File or folder.
        output: For a file, the file to write, or the folder to write `NAME.wav` to; for a folder, the folder that gets
            the same sub-folders. A new folder with an extension ends with a slash. Existing files are replaced, except
            those of the source.
        options: Options; `f0_file` may be a folder with a curve for each recording.
        redo: Whether to convert again what an earlier run has converted.

    Raises:
        AudioError: The source does not exist or contains no recordings; or, at the end, a recording failed, which the
            first rank raises for all.
        ConfigurationError: The output would replace an input, is a file name for a folder, or its format cannot be
            written or contradicts `output_format`; or the pitch curves do not match the recordings.
        VoiceError: The voice has no such speaker or no pitch to change.
        InUseError: Another run writes to the same folder.
        OutOfSpaceError, NotWritableError: The disk cannot store the results.
    """
    as_folder = f"{output}".endswith(("/", os.sep))
    source, output = Path(source), Path(output)
    targets, skipped = _plan(source, output, options.output_format, as_folder=as_folder or output.is_dir())
    converter.check(options)
    tasks = _tasks(converter, source, targets, options)
    _log_skipped(skipped)
    shared = output if source.is_dir() else None
    folder = shared or next(iter(targets.values())).parent
    check_folder_writable(folder, name=output)
    with _exclusive(converter, shared, targets), scratch_folder(folder) as scratch:
        sink = _open_sink(converter, options, shared, scratch)
        done = [] if redo else _done(tasks, sink)
        kept_targets = dict.fromkeys(entry.target for entry in done)
        with logging_redirect_tqdm():
            converter.run([task for task in tasks if str(task.target) not in kept_targets], options, sink, scratch)
        report = ConversionReport(kept=[*map(Path, kept_targets)], skipped=skipped)
        if converter.trainer.is_global_zero:
            _conclude(report, sink, done, output)
    return report


def _plan(
    source: Path, output: Path, output_format: str | None, *, as_folder: bool
) -> tuple[dict[Path, Path], list[SkippedFile]]:
    """Return the file to write for each recording, and the files that are skipped; raises as `convert_files`.

    `as_folder` is whether the output is a folder regardless of its extension.
    """
    if not source.exists():
        raise AudioError(f"no such file or folder: '{source}'")
    discovery = discover_audio(source, exclude=[output])
    if source.is_file():
        targets = {source: _target_of_file(source, output, output_format, as_folder=as_folder)}
    else:
        if not as_folder and output.suffix.lower() in _FILE_EXTENSIONS:
            raise ConfigurationError(
                f"output={output} is the name of a file, but input={source} is a folder; choose a folder such as "
                f"{output.with_suffix('')}, {_OR_FOLDER}"
            )
        stems, extension = unique_stems(discovery.recordings), _extension(output_format)
        targets = {source / path: output / stem.with_name(stem.name + extension) for path, stem in stems.items()}
    inputs = {os.path.realpath(path) for path in (source, *targets)}
    for path in (output, *targets.values()):
        if os.path.realpath(path) in inputs:
            raise ConfigurationError(f"output: '{path}' is the folder or a recording to convert; choose another name")
    if not targets:
        reasons = "; ".join(f"{file.path}: {file.reason}" for file in discovery.skipped[:5])
        raise AudioError(f"no recording found in '{source}'" + (f" ({reasons})" if reasons else ""))
    return targets, discovery.skipped


def _target_of_file(source: Path, output: Path, output_format: str | None, *, as_folder: bool) -> Path:
    suffix, extension = output.suffix.lower(), _extension(output_format)
    # A suffix such as '.0' is the end of a name.
    if as_folder or not (suffix in _FILE_EXTENSIONS or suffix[1:2].isalpha()):
        return output / f"{source.stem}{extension}"
    if suffix not in _FILE_EXTENSIONS:
        choices = ", ".join(sorted(WRITE_SUBTYPES))
        raise ConfigurationError(
            f"output={output}: unknown output format '{suffix}'; choose one of: {choices}, {_OR_FOLDER}"
        )
    if output_format and suffix != extension:
        raise ConfigurationError(f"output={output} and output_format={output_format} contradict each other")
    return output


def _extension(output_format: str | None) -> str:
    return f".{output_format or DEFAULT_FORMAT}"


def _tasks(
    converter: VoiceConverter, source: Path, targets: Mapping[Path, Path], options: ConversionOptions
) -> list[Task]:
    """Return the tasks, each with its pitch curve and a sampling rate of its format, if all of them can be written."""
    relative = {path: path.relative_to(source) if source.is_dir() else Path(path.name) for path in targets}
    matched = match_curves(list(relative.values()), options)
    tasks = []
    for path, target in targets.items():
        check_writable(target, options.output_sample_rate)
        task_options = matched[relative[path]]
        if options.write_f0 and task_options.f0_file is not None:
            protect_inputs(curve_path(target), [Path(task_options.f0_file)])
        rate = options.output_sample_rate or fitting_rate(target.suffix, converter.voice.sample_rate)
        task_options = replace(task_options, output_sample_rate=rate)
        tasks.append(Task(path, None, seconds_or_none(path) or 0.0, task_options, target=target))
    return tasks


@rank_zero_only
def _log_skipped(skipped: Sequence[SkippedFile]) -> None:
    for file in skipped:
        log.info("Skipped %s: %s", file.path, file.reason)


@contextmanager
def _exclusive(converter: VoiceConverter, output: Path | None, targets: Mapping[Path, Path]) -> Iterator[None]:
    """Lock the output folder, if any, against other runs. Raises InUseError if another run has locked it."""
    if output is None or not converter.trainer.is_global_zero:
        yield
        return
    with exclusive_lock(output, timeout_seconds=KILL_GRACE_SECONDS, remove_after=True):
        for folder in {target.parent for target in targets.values()}:
            remove_leftovers(folder)
        yield


def _open_sink(converter: VoiceConverter, options: ConversionOptions, output: Path | None, scratch: Path) -> _FileSink:
    """Return the sink of the output folder, with its journal, or without a folder that of one file."""
    # Leftovers of a killed run are removed from a folder that is locked, and with the scratch folder elsewhere.
    if output is None:
        return _FileSink(Journal(scratch / JOURNAL_NAME), "", scratch)
    return _FileSink(Journal(output / JOURNAL_NAME), converter.fingerprint(options))


def _done(tasks: Sequence[Task], sink: _FileSink) -> list[Entry]:
    """Return the journal entries of results that are still current."""
    latest = {entry.target: entry for entry in sink.journal.entries()}
    return [entry for task in tasks if (entry := latest.get(str(task.target))) and _is_done(entry, task, sink)]


def _is_done(entry: Entry, task: Task, sink: _FileSink) -> bool:
    assert isinstance(task.source, Path) and task.target is not None
    is_complete = not task.options.write_f0 or curve_path(task.target).is_file()
    return is_complete and entry.is_current(task.source, task.target, sink.settings_digest(task))


def _conclude(report: ConversionReport, sink: _FileSink, done: Sequence[Entry], output: Path) -> None:
    """Complete and log the report from the entries of all ranks, and rewrite the journal without outdated entries."""
    entries = sorted(
        (entry for entry in sink.journal.entries() if entry.run == sink.run), key=lambda entry: entry.target
    )
    written = [entry for entry in entries if entry.failure is None]
    report.converted = [Path(entry.target) for entry in written]
    report.failed = [SkippedFile(entry.source, entry.failure) for entry in entries if entry.failure is not None]
    sink.journal.rewrite([*done, *written])
    total = len(report.converted) + len(report.failed) + len(report.kept)
    kept = f"; kept {len(report.kept)} of an earlier run" if report.kept else ""
    log.info("Converted %d of %s to '%s'%s", len(report.converted), pluralize(total, "recording"), output, kept)
    if report.failed:
        reasons = [f"{failure.path}: {failure.reason}" for failure in report.failed]
        if total == 1:
            raise AudioError(reasons[0])
        raise AudioError("\n  ".join([f"{len(reasons)} of {total} recordings failed:", *reasons]))


class _FileSink:
    """Writes results atomically, and adds them to the journal."""

    def __init__(self, journal: Journal, fingerprint: str, scratch: Path | None = None) -> None:
        self.journal, self.run = journal, uuid.uuid4().hex
        self._fingerprint, self._scratch = fingerprint, scratch

    def settings_digest(self, task: Task) -> str:
        """Return the digest of voice, settings and pitch curve of a task."""
        curve = task.options.f0_file
        return f"{self._fingerprint} {digest(curve)}" if curve else self._fingerprint

    def write(self, task: Task, result: ConvertedBlocks) -> None:
        """Write the file of a task, and its pitch if `write_f0` is set."""
        assert isinstance(task.source, Path) and task.target is not None
        if task.options.write_f0 and result.f0_hz is not None:
            write_curve(curve_path(task.target), result.f0_hz, scratch=self._scratch)
        with audio_writer(task.target, result.sample_rate, scratch=self._scratch) as writer:
            for block in result.blocks:
                writer.write(block)
        digests = self.settings_digest(task), result.file_digest, digest(task.target)
        self.journal.add(Entry(self.run, display_name(task.source), str(task.target), None, *digests))
        log.info("Wrote %s", display_name(task.target))

    def fail(self, task: Task, error: RVCError | OSError) -> None:
        """Note a failure for the end. Raises the error if all other tasks would fail as well."""
        if isinstance(error, OutOfSpaceError | NotWritableError):
            raise error
        assert isinstance(task.source, Path)
        log.warning("Failed: %s", display_name(task.source))
        reason = str(error).removeprefix(f"'{task.source}' ")
        self.journal.add(Entry(self.run, display_name(task.source), str(task.target), reason))
