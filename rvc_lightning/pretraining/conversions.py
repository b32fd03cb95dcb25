"""Conversions of a corpus, in which the speaker network learns to find what remains of the source speaker."""

from __future__ import annotations

import dataclasses
import random
from collections import defaultdict
from pathlib import Path

from rvc_lightning.audio.encode import write_audio
from rvc_lightning.audio.frames import SAMPLE_RATE
from rvc_lightning.cli.progress import Progress
from rvc_lightning.conversion.converter import VoiceConverter
from rvc_lightning.conversion.options import ConversionOptions
from rvc_lightning.data.manifest import read_manifest as read_dataset
from rvc_lightning.pretraining.corpus import RECORDED, Utterance, read_manifest, write_manifest
from rvc_lightning.training.networks import median_f0_hz


def write_conversions(
    corpus: Path, converter: VoiceConverter, dataset: Path, output: Path, per_utterance: int = 2
) -> int:
    """Convert each utterance of a person to random speakers of a voice, and return the number of conversions.

    The output is a corpus in which each conversion has the name of its source speaker. Each speaker of the voice keeps
    the pitch of its recordings.

    Args:
        corpus: The corpus.
        converter: Converter of a voice of several speakers.
        dataset: The dataset that the voice was trained on.
        output: Folder of the conversions.
        per_utterance: Different speakers for each utterance.

    Raises:
        DatasetError: The corpus or the dataset cannot be read.
    """
    rows = read_dataset(dataset)
    speakers = sorted({row.speaker for row in rows})
    draw, sources = random.Random(0), defaultdict[int, list[Utterance]](list)
    for utterance in read_manifest(corpus):
        if utterance.speaker.startswith(RECORDED):
            for speaker in draw.sample(speakers, per_utterance):
                sources[speaker].append(utterance)
    written = []
    with Progress("converting to speakers", len(speakers), "speakers") as progress:
        for speaker in speakers:
            pitch_hz = median_f0_hz(dataset, [row for row in rows if row.speaker == speaker])
            options = ConversionOptions(speaker=speaker, proposed_pitch_hz=pitch_hz, output_sample_rate=SAMPLE_RATE)
            results = converter.convert_many([corpus / source.audio for source in sources[speaker]], options)
            for source, result in zip(sources[speaker], results, strict=True):
                audio = f"audio/{Path(source.audio).stem}-{speaker}.flac"
                write_audio(output / audio, result.audio, SAMPLE_RATE)
                written.append(dataclasses.replace(source, audio=audio))
            progress.update(1)
    write_manifest(output, written)
    return len(written)
