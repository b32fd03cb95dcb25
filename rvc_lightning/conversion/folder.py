"""Conversion of a file or of everything in a folder."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from rvc_lightning.audio.discovery import SkippedFile, discover_audio, display_name
from rvc_lightning.audio.encode import WRITE_SUBTYPES, check_writable, fitting_rate, write_audio
from rvc_lightning.conversion.converter import VoiceConverter
from rvc_lightning.conversion.curves import check_curves, curve_beside, with_curve_of
from rvc_lightning.conversion.options import ConversionOptions
from rvc_lightning.errors import AudioError, ConfigurationError, RVCError
from rvc_lightning.files import protect_inputs
from rvc_lightning.pitch.curve import write_curve

log = logging.getLogger(__name__)


@dataclass
class ConversionReport:
    """What became of every file of the input."""

    converted: list[Path] = field(default_factory=list)
    """What was written."""
    skipped: list[SkippedFile] = field(default_factory=list)
    """What is no recording."""
    failed: list[SkippedFile] = field(default_factory=list)
    """What could not be converted."""


def convert_files(
    converter: VoiceConverter,
    source: str | Path,
    output: str | Path,
    options: ConversionOptions,
) -> ConversionReport:
    """Converts a recording, or every recording below a folder in the order of their names.

    A file that fails does not stop the others.

    Args:
        converter: With the voice.
        source: A file or a folder.
        output: For a file, the file to write or the folder to write `NAME.wav` to; for a folder, the folder that gets
            the same sub-folders. Existing files are replaced, but never one of the source.
        options: How; `f0_file` may be a folder with a curve for each recording.

    Raises:
        AudioError: There is no such source or nothing in it; or, when all else is done, a file has failed.
        ConfigurationError: The output would replace a file that is read, cannot be written in this format, or is named
            otherwise; or the pitch curves do not belong to the recordings.
    """
    source, output = Path(source), Path(output)
    jobs, skipped = plan(source, output, options.output_format)
    _check(converter, jobs, source, options)
    report = ConversionReport(skipped=skipped)
    for other in skipped:
        log.info("Skipped %s: %s", other.path, other.reason)
    with logging_redirect_tqdm():
        # The bar is for people: logs kept in files have no use for it.
        for recording, target in tqdm(jobs, desc="Converting", unit="file", disable=None if len(jobs) > 1 else True):
            chosen = with_curve_of(options, _relative(recording, source))
            _convert_one(converter, recording, target, chosen, report)
    log.info("Converted %d of %d recordings to '%s'", len(report.converted), len(jobs), output)
    if report.failed:
        reasons = "\n".join(f"  {failure.path}: {failure.reason}" for failure in report.failed)
        raise AudioError(f"{len(report.failed)} of {len(jobs)} recordings failed:\n{reasons}")
    return report


def plan(source: Path, output: Path, output_format: str | None) -> tuple[list[tuple[Path, Path]], list[SkippedFile]]:
    """Pairs of recording and file to write, and what is left out; the errors are those of `convert_files`."""
    extension = f".{output_format or 'wav'}"
    if not source.exists():
        raise AudioError(f"there is no file or folder '{source}' to convert")
    if source.is_file():
        named = output.suffix.lower() in WRITE_SUBTYPES and not output.is_dir()
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


def _convert_one(
    converter: VoiceConverter, recording: Path, target: Path, options: ConversionOptions, report: ConversionReport
) -> None:
    rate = options.output_sample_rate or fitting_rate(target.suffix, converter.voice.sample_rate)
    try:
        conversion = converter.conversion(recording, replace(options, output_sample_rate=rate))
        if options.write_f0 and conversion.f0_hz is not None:
            write_curve(curve_beside(target), conversion.f0_hz)
        write_audio(target, conversion.audio, conversion.sample_rate)
    except (RVCError, OSError) as error:
        log.warning("Failed: %s: %s", display_name(recording), error)
        report.failed.append(SkippedFile(display_name(recording), str(error)))
    else:
        log.info("Wrote %s", display_name(target))
        report.converted.append(target)
