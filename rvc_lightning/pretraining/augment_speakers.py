"""`python -m rvc_lightning.pretraining.augment_speakers`: derive many speakers from a few, to train the base voice."""

from __future__ import annotations

import itertools
import logging
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from omegaconf import DictConfig

from rvc_lightning.audio.decode import load_audio, resample
from rvc_lightning.audio.encode import write_audio
from rvc_lightning.audio.frames import SAMPLE_RATE
from rvc_lightning.cli import resolvers
from rvc_lightning.cli.command import command
from rvc_lightning.config.options import Settings, option
from rvc_lightning.errors import ConfigurationError, DatasetError, unknown_choice
from rvc_lightning.pretraining.recordings import TranscribedRecording, read_recordings
from rvc_lightning.pretraining.synthesizers import FLITE_VOICES, synthesize_flite

log = logging.getLogger(__name__)

resolvers.register()


@dataclass(frozen=True, kw_only=True)
class AugmentSettings(Settings):
    """Files of `conf/pretraining_augment_speakers.yaml`."""

    output: str = option(help="the folder to write the speakers to")
    recordings: str = option(help="a CSV with the columns path, speaker and transcript")


class Clip(NamedTuple):
    """One sentence of a speaker."""

    name: str
    audio: np.ndarray
    """Float32 [T]."""
    sample_rate: int
    """Sample rate in Hz, times the pace for a recording that is played faster or slower."""


@command("pretraining_augment_speakers")
def main(config: DictConfig) -> None:
    """Write the speakers."""
    AugmentSettings.from_config(config)
    write_augmented_speakers(config)


def write_augmented_speakers(config: DictConfig) -> None:
    """Write the speakers that `conf/pretraining_augment_speakers.yaml` describes, a folder each.

    Raises:
        ConfigurationError: A pace is out of range, a synthesizer is unknown, or the folder is not empty.
        DatasetError: The table of recordings cannot be read, or is empty.
        AudioError: A recording cannot be read.
    """
    _check(config)
    by_speaker: dict[str, list[TranscribedRecording]] = defaultdict(list)
    for recording in read_recordings(Path(config.recordings)):
        by_speaker[recording.speaker].append(recording)
    if not by_speaker:
        raise DatasetError(f"recordings={config.recordings} lists no recordings")
    rng = random.Random(config.seed)
    texts = sorted({recording.transcript for recording in itertools.chain(*by_speaker.values())})
    # Synthesizers first, since one may be missing.
    for voice in config.synthesizers:
        _write(config, f"flite_{voice}", _synthesized(voice, rng.sample(texts, len(texts)), rng), config.minutes)
    for speaker, recordings in sorted(by_speaker.items()):
        _write(config, speaker, _played(recordings, 1.0))
        for pace in config.paces:
            shuffled = rng.sample(recordings, len(recordings))
            _write(config, f"{speaker}_{pace:g}", _played(shuffled, pace), config.minutes)


def _check(config: DictConfig) -> None:
    if any(not 0.5 <= pace <= 2 or pace == 1 for pace in config.paces):
        raise ConfigurationError(f"paces={list(config.paces)}: choose numbers from 0.5 to 2 other than 1")
    if unknown := set(config.synthesizers) - set(FLITE_VOICES):
        raise unknown_choice("synthesizers", min(unknown), FLITE_VOICES)
    output = Path(config.output)
    if output.is_dir() and any(output.iterdir()):
        raise ConfigurationError(f"output={output} is not empty, and its folders would become speakers; choose another")


def _played(recordings: Iterable[TranscribedRecording], pace: float) -> Iterator[Clip]:
    for recording in recordings:
        audio, sample_rate = load_audio(recording.path)
        yield Clip(recording.path.stem, audio, round(sample_rate * pace))


def _synthesized(voice: str, texts: Iterable[str], rng: random.Random) -> Iterator[Clip]:
    for text in texts:
        try:
            yield Clip("read", synthesize_flite(voice, text, rng).audio, SAMPLE_RATE)
        except (KeyError, TimeoutError) as error:
            log.info("skipped, %r: %s", error, text)


def _write(config: DictConfig, speaker: str, clips: Iterable[Clip], minutes: float | None = None) -> None:
    """Write clips of a speaker until they reach a duration."""
    seconds = 0.0
    for number, clip in enumerate(clips, start=1):
        audio = resample(clip.audio, clip.sample_rate, config.sample_rate)
        write_audio(Path(config.output) / speaker / f"{number:05}_{clip.name}.flac", audio, config.sample_rate)
        seconds += len(audio) / config.sample_rate
        if minutes is not None and seconds >= 60 * minutes:
            break
    log.info("%s: %.1f minutes", speaker, seconds / 60)


if __name__ == "__main__":
    main()
