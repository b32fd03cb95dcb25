"""`python -m rvc_lightning.pretraining.augment_speakers`: derive many speakers from a few, to train the base voice."""

from __future__ import annotations

import itertools
import logging
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import TimeoutExpired
from typing import NamedTuple

import numpy as np
from omegaconf import DictConfig

from rvc_lightning.audio.decode import load_audio, resample
from rvc_lightning.audio.encode import write_audio
from rvc_lightning.audio.frames import SAMPLE_RATE
from rvc_lightning.cli import resolvers
from rvc_lightning.cli.command import command
from rvc_lightning.config.options import Settings, option
from rvc_lightning.errors import ConfigurationError
from rvc_lightning.pretraining.recordings import TranscribedRecording, read_recordings
from rvc_lightning.pretraining.synthesizers import FLITE_VOICES, synthesize_flite

log = logging.getLogger(__name__)

resolvers.register()


@dataclass(frozen=True, kw_only=True)
class AugmentSettings(Settings):
    """Settings of `conf/pretraining_augment_speakers.yaml`."""

    output: str = option(help="the folder to write the speakers to")
    recordings: str = option(help="a CSV with the columns path, speaker and transcript")
    sample_rate: int = option(help="rate of the output", unit="Hz", min=1)
    paces: list[float] = option(help="factors of playback speed, each of which derives a speaker")
    minutes: float = option(help="duration of each derived speaker and synthesizer", min=0)
    synthesizers: list[str] = option(help="voices of flite, which read the transcripts")
    seed: int = option(help="seed of the choice of sentences", min=0)


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
    write_augmented_speakers(AugmentSettings.from_config(config))


def write_augmented_speakers(settings: AugmentSettings) -> None:
    """Write the speakers, a folder each.

    Raises:
        ConfigurationError: A pace is out of range, a synthesizer is unknown, the folder is not empty, or there are no
            recordings.
        DatasetError: The table of recordings cannot be read.
        AudioError: A recording cannot be read.
    """
    by_speaker: dict[str, list[TranscribedRecording]] = defaultdict(list)
    for recording in read_recordings(Path(settings.recordings)):
        by_speaker[recording.speaker].append(recording)
    problems = _problems(settings) if by_speaker else [f"recordings={settings.recordings} lists no recordings"]
    if problems:
        raise ConfigurationError("; ".join(problems))
    rng = random.Random(settings.seed)
    everything = itertools.chain(*by_speaker.values())
    texts = sorted({recording.transcript for recording in everything if recording.transcript})
    # Synthesizers first, since one may be missing.
    for voice in settings.synthesizers:
        clips = _synthesized(voice, rng.sample(texts, len(texts)), rng)
        _write(settings, f"flite_{voice}", clips, settings.minutes)
    for speaker, recordings in sorted(by_speaker.items()):
        _write(settings, speaker, _played(recordings, 1.0))
        for pace in settings.paces:
            shuffled = rng.sample(recordings, len(recordings))
            _write(settings, f"{speaker}_{pace:g}", _played(shuffled, pace), settings.minutes)


def _problems(settings: AugmentSettings) -> list[str]:
    output = Path(settings.output)
    problems = {
        f"paces={settings.paces}: choose numbers from 0.5 to 2 other than 1": any(
            not 0.5 <= pace <= 2 or pace == 1 for pace in settings.paces
        ),
        f"synthesizers={settings.synthesizers}: choose from {', '.join(FLITE_VOICES)}": any(
            voice not in FLITE_VOICES for voice in settings.synthesizers
        ),
        f"output={output} is not empty, and its folders would become speakers; choose another": output.is_dir()
        and any(output.iterdir()),
    }
    return [problem for problem, is_true in problems.items() if is_true]


def _played(recordings: Iterable[TranscribedRecording], pace: float) -> Iterator[Clip]:
    for recording in recordings:
        audio, sample_rate = load_audio(recording.path)
        yield Clip(recording.path.stem, audio, round(sample_rate * pace))


def _synthesized(voice: str, texts: Iterable[str], rng: random.Random) -> Iterator[Clip]:
    for text in texts:
        try:
            yield Clip("read", synthesize_flite(voice, text, rng).audio, SAMPLE_RATE)
        except (KeyError, TimeoutExpired) as error:
            log.info("Skipped '%s': %r", text, error)


def _write(settings: AugmentSettings, speaker: str, clips: Iterable[Clip], minutes: float | None = None) -> None:
    """Write clips of a speaker until they reach a duration."""
    seconds = 0.0
    for number, clip in enumerate(clips, start=1):
        audio = resample(clip.audio, clip.sample_rate, settings.sample_rate)
        write_audio(Path(settings.output) / speaker / f"{number:05}_{clip.name}.flac", audio, settings.sample_rate)
        seconds += len(audio) / settings.sample_rate
        if minutes is not None and seconds >= 60 * minutes:
            break
    log.info("%s: %.1f minutes", speaker, seconds / 60)


if __name__ == "__main__":
    main()
