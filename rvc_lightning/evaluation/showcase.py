"""Showcase at the end of a training: a few conversions as audio files, with a comparison."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from rvc_lightning.audio.decode import load_audio
from rvc_lightning.audio.discovery import discover_audio
from rvc_lightning.audio.encode import write_audio
from rvc_lightning.audio.frames import SAMPLE_RATE
from rvc_lightning.cli.progress import Progress
from rvc_lightning.conversion.converter import VoiceConverter
from rvc_lightning.conversion.options import ConversionOptions
from rvc_lightning.errors import ConfigurationError
from rvc_lightning.evaluation import Comparison, compare, render_table
from rvc_lightning.evaluation.pitch import semitones_between
from rvc_lightning.io.files import write_json
from rvc_lightning.io.processes import command_start
from rvc_lightning.pitch.base import measure

log = logging.getLogger(__name__)

LISTEN_FOLDER = "listen"
"""Folder of the files beside a voice."""
CLIPS = ("source", "converted", "counterpart")
"""Files of a recording, RECORDING_CLIP.wav, in the order of listening."""

_TO_SOURCE = "converted to source"
_SOURCE_TO_TRUTH = "source to true counterpart"
_TO_TRUTH = "converted to true counterpart"


def show(converter: VoiceConverter, source: Path, counterpart: Path | None, n_clips: int, output: Path) -> None:
    """Convert recordings of another voice, write them for listening and log a comparison.

    Args:
        converter: Converter to the new voice.
        source: Folder of recordings of another voice.
        counterpart: Folder with files of the same names, in which the target says the same words, or None.
        n_clips: Number of recordings to convert, the first by name.
        output: Folder for source, converted and counterpart of each, and `comparison.json`.

    Raises:
        ConfigurationError: `source` contains no recordings.
    """
    recordings = [source / name for name in discover_audio(source).recordings[:n_clips]]
    if not recordings:
        raise ConfigurationError(f"showcase.source='{source}' contains no recordings")
    rows: dict[str, list[Comparison]] = defaultdict(list)
    with Progress("converting", len(recordings), "sentences") as progress:
        for recording in recordings:
            truth = None if counterpart is None else counterpart / recording.name
            for name, comparison in _convert(converter, recording, truth, output).items():
                rows[name].append(comparison)
            progress.update(1)
    means = {name: mean(comparisons) for name, comparisons in rows.items()}
    write_json(output / "comparison.json", {name: asdict(comparison) for name, comparison in means.items()})
    log.info("%s", _summary(means, len(recordings)))
    log.info("Listen: %s", output)


def _summary(means: Mapping[str, Comparison], n_sentences: int) -> str:
    """Summarize the comparison.

    Without counterparts nothing measures similarity to the voice: a large distance to the source may be a good
    conversion.
    """
    if _TO_TRUTH in means:
        note = f"Means of {n_sentences} sentences, transposed to the voice's pitch; a lower mel distance is closer."
        return f"{render_table(means)}\n{note}"
    to_source = means[_TO_SOURCE]
    correlation = "none" if to_source.pitch_correlation is None else f"{to_source.pitch_correlation:.2f}"
    return (
        f"Converted {n_sentences} sentences of another voice, transposed to the voice's pitch. Pitch correlation with "
        f"the source: {correlation}; voicing agreement: {to_source.voicing_agreement:.0%}. For similarity to the "
        f"voice, listen, or run {command_start('evaluate')}"
    )


def _convert(
    converter: VoiceConverter, recording: Path, counterpart: Path | None, output: Path
) -> dict[str, Comparison]:
    """Convert and write one recording; return its comparisons by name."""
    semitones = transposition(converter, recording)
    converted, rate = converter.convert(recording, ConversionOptions(transpose_semitones=semitones))
    source, _ = load_audio(recording, rate)
    clips = {"source": source, "converted": converted}
    rows = {_TO_SOURCE: compare(converted, source, rate)}
    if counterpart is not None:
        clips["counterpart"] = truth = load_audio(counterpart, rate)[0]
        rows |= {_SOURCE_TO_TRUTH: compare(source, truth, rate), _TO_TRUTH: compare(converted, truth, rate)}
    for name, audio in clips.items():
        write_audio(output / f"{recording.stem}_{name}.wav", audio, rate)
    return rows


def listed_clips(folder: Path) -> dict[str, dict[str, Path]]:
    """Return the files that `show` has written to a folder, by recording and clip."""
    recordings = sorted(path.stem.removesuffix("_source") for path in folder.glob("*_source.wav"))
    found = {name: {clip: folder / f"{name}_{clip}.wav" for clip in CLIPS} for name in recordings}
    return {name: {clip: path for clip, path in clips.items() if path.is_file()} for name, clips in found.items()}


def transposition(converter: VoiceConverter, recording: Path) -> int:
    """Return whole semitones from the median pitch of a recording to that of the voice; 0 if either is unknown."""
    target_hz = converter.voice.median_f0_hz
    if target_hz is None or converter.pitch is None:
        return 0
    return semitones_between(measure(converter.pitch, load_audio(recording, SAMPLE_RATE)[0]), target_hz)


def mean(comparisons: list[Comparison]) -> Comparison:
    """Return the mean of each field over the comparisons that have it."""
    means: dict[str, Any] = {}
    for field in fields(Comparison):
        values = [value for comparison in comparisons if (value := getattr(comparison, field.name)) is not None]
        means[field.name] = float(np.mean(values)) if values else None
    return Comparison(**means)
