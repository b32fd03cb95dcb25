"""Evaluation of a voice on recordings that it was not trained on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm.contrib.logging import logging_redirect_tqdm

from rvc_lightning.audio.discovery import SkippedFile, discover_audio, display_name
from rvc_lightning.cli.progress import Progress
from rvc_lightning.conversion.converter import VoiceConverter
from rvc_lightning.conversion.options import ConversionOptions
from rvc_lightning.errors import AudioError, ConfigurationError, printable
from rvc_lightning.evaluation.clips import ClipEvaluator
from rvc_lightning.evaluation.metrics import build_metrics
from rvc_lightning.evaluation.report import Report
from rvc_lightning.evaluation.settings import UNSUPPORTED_OPTIONS, EvaluationSettings, Recordings
from rvc_lightning.evaluation.speaker import spread
from rvc_lightning.io.files import digest
from rvc_lightning.pitch.swift_f0 import SwiftF0Extractor
from rvc_lightning.voice.entries import as_count
from rvc_lightning.voice.voice import Voice

log = logging.getLogger(__name__)

_MAX_CHARACTERS = 200


def evaluate(
    converter: VoiceConverter, recordings: Recordings, settings: EvaluationSettings, options: ConversionOptions
) -> Report:
    """Convert recordings and score the results.

    Args:
        converter: Converter to the voice.
        recordings: Input files.
        settings: Task, metrics and size.
        options: Conversion options; the transposition is that of `settings`.

    Returns:
        The report; `voice` and `settings` are left to the caller.

    Raises:
        AudioError: No recording is usable, or none of the reference.
        ConfigurationError: No recording has a counterpart, a required metric is not installed, or an option changes
            the melody.
    """
    for name, reason in UNSUPPORTED_OPTIONS.items():
        options.reject(f"not supported by an evaluation: {reason}", name)
    discovery = discover_audio(recordings.audio)
    root = recordings.audio.parent if recordings.audio.is_file() else recordings.audio
    counterparts = _counterparts(recordings.counterpart, discovery.recordings, settings.task)
    report = Report(settings.task, voice={}, settings={}, skipped=list(discovery.skipped))
    metrics = build_metrics(settings.metrics, settings.require_metrics)
    report.missing += metrics.missing
    # The same pitch extractor for all voices, so that their scores are comparable.
    evaluator = ClipEvaluator(converter, metrics, settings, options, SwiftF0Extractor())
    evaluator.set_reference(recordings, report)
    chosen = spread(discovery.recordings, settings.n_clips)
    with logging_redirect_tqdm(), Progress("evaluating", len(chosen), "recordings") as progress:
        for name in chosen:
            try:
                scored = evaluator.evaluate(root / name, display_name(name), counterparts.get(name))
            except AudioError as error:
                report.skipped.append(SkippedFile(display_name(name), str(error)))
            else:
                report.clips.append(scored.report)
                if len(report.samples) < settings.page_clips:
                    report.samples.append(scored.sample())
            progress.update(1)
    if not report.clips:
        reasons = "\n".join(f"  {file.path}: {file.reason}" for file in report.skipped[:10])
        raise AudioError(f"audio: no usable recording in '{recordings.audio}'\n{reasons}".rstrip())
    return report


def _counterparts(folder: Path | None, recordings: Sequence[Path], task: str) -> dict[Path, Path]:
    """Return the counterpart of each recording that has one: the file of the same path without extension."""
    if folder is None:
        return {}
    if task != "conversion":
        raise ConfigurationError(f"counterpart='{folder}': a {task} is compared with the recordings themselves")
    if folder.is_file() and len(recordings) == 1:
        return {recordings[0]: folder}
    by_name = {path.with_suffix(""): folder / path for path in discover_audio(folder).recordings}
    counterparts = {path: by_name[path.with_suffix("")] for path in recordings if path.with_suffix("") in by_name}
    if not counterparts and recordings:
        raise ConfigurationError(
            f"counterpart: '{folder}' has no file with the name of a recording, such as '{display_name(recordings[0])}'"
        )
    return counterparts


def describe_voice(voice: Voice, path: Path) -> dict[str, Any]:
    """Return the entries of a report that identify the voice."""
    return {
        "name": (voice.name or printable(path.stem))[:_MAX_CHARACTERS],
        "file": display_name(path),
        "digest": digest(path) if path.is_file() else None,
        "sample_rate": voice.sample_rate,
        "content": voice.content_encoder[:_MAX_CHARACTERS],
        "epoch": as_count(voice.entries.get("epoch")),
        "step": as_count(voice.entries.get("step")),
    }
