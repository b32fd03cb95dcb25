"""Whether it worked: sentences of another voice, converted, written for listening and measured."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path

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
from rvc_lightning.evaluation.melody import semitones_between
from rvc_lightning.io.files import write_json
from rvc_lightning.pitch.base import measure
from rvc_lightning.training.export import ExportedVoice
from rvc_lightning.voice.voice import Voice

log = logging.getLogger(__name__)

_TO_SOURCE = "converted to source"
_SOURCE_TO_TRUTH = "source to true counterpart"
_TO_TRUTH = "converted to true counterpart"


def show(exported: ExportedVoice, source: Path, counterpart: Path | None, n_clips: int, output: Path) -> None:
    """Converts the first recordings of `source`, writes what to listen to and prints how far it got.

    Args:
        exported: The voice.
        source: Recordings of another voice.
        counterpart: Files of the same names where the target voice says the same words, or None.
        n_clips: How many recordings to convert.
        output: Folder for source, converted and counterpart of each, and `comparison.json`.

    Raises:
        ConfigurationError: `source` holds no recordings.
    """
    converter = VoiceConverter(Voice.load(exported.voice), exported.index)
    recordings = [source / name for name in discover_audio(source).recordings[:n_clips]]
    if not recordings:
        raise ConfigurationError(f"showcase.source='{source}' holds no recordings to convert")
    rows: dict[str, list[Comparison]] = defaultdict(list)
    with Progress("converting", len(recordings), "sentences") as progress:
        for recording in recordings:
            truth = None if counterpart is None else counterpart / recording.name
            for name, comparison in _one(converter, recording, truth, output).items():
                rows[name].append(comparison)
            progress.update(1)
    means = {name: mean(comparisons) for name, comparisons in rows.items()}
    write_json(output / "comparison.json", {name: asdict(comparison) for name, comparison in means.items()})
    log.info("%s", _told(means, len(recordings)))
    log.info("Listen: %s", output)


def _told(means: Mapping[str, Comparison], n_sentences: int) -> str:
    """What was measured, in words.

    Without counterparts nothing says how near the voice came: a large distance to the source may be a good conversion.
    """
    if _TO_TRUTH in means:
        moved = f"Means of {n_sentences} sentences moved to the voice's pitch; a lower mel distance is nearer."
        return f"{render_table(means)}\n{moved}"
    kept = means[_TO_SOURCE]
    melody = "none" if kept.pitch_correlation is None else f"{kept.pitch_correlation:.2f}"
    return (
        f"Converted {n_sentences} sentences of another voice, moved to the voice's pitch: they keep its melody "
        f"(correlation {melody}) and its voicing ({kept.voicing_agreement:.0%} of the time). How near they are to the "
        "voice your ears tell, or python -m rvc_lightning.evaluate"
    )


def _one(converter: VoiceConverter, recording: Path, counterpart: Path | None, output: Path) -> dict[str, Comparison]:
    """Converts and writes one recording; gives its comparisons by name."""
    semitones = transposition(converter, recording)
    converted, rate = converter.convert(recording, ConversionOptions(transpose_semitones=semitones))
    source, _ = load_audio(recording, rate)
    clips = {"source": source, "converted": converted}
    if counterpart is not None:
        clips["counterpart"], _ = load_audio(counterpart, rate)
    for name, audio in clips.items():
        write_audio(output / f"{recording.stem}_{name}.wav", audio, rate)
    rows = {_TO_SOURCE: compare(converted, source, rate)}
    if counterpart is not None:
        rows[_SOURCE_TO_TRUTH] = compare(source, clips["counterpart"], rate)
        rows[_TO_TRUTH] = compare(converted, clips["counterpart"], rate)
    return rows


def transposition(converter: VoiceConverter, recording: Path) -> int:
    """Whole semitones from the recording's median pitch to that of the voice; 0 where either is unknown."""
    target_hz = converter.voice.median_f0_hz
    if target_hz is None or converter.pitch is None:
        return 0
    return semitones_between(measure(converter.pitch, load_audio(recording, SAMPLE_RATE)[0]), target_hz)


def mean(comparisons: list[Comparison]) -> Comparison:
    """The mean of each figure, over the comparisons that have it."""

    def of(name: str) -> float | None:
        values = [value for c in comparisons if (value := getattr(c, name)) is not None]
        return float(np.mean(values)) if values else None

    return Comparison(**{field.name: of(field.name) for field in fields(Comparison)})  # type: ignore[arg-type]
