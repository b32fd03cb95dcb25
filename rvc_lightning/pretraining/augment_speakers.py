"""`python -m rvc_lightning.pretraining.augment_speakers output=FOLDER recordings=TABLE.csv`: many voices from few."""

from __future__ import annotations

import itertools
import logging
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from omegaconf import DictConfig

from rvc_lightning.audio.decode import load_audio, resample
from rvc_lightning.audio.encode import write_audio
from rvc_lightning.audio.frames import SAMPLE_RATE
from rvc_lightning.cli import resolvers
from rvc_lightning.cli.command import command
from rvc_lightning.config.values import required
from rvc_lightning.errors import ConfigurationError, DatasetError, unknown_choice
from rvc_lightning.pretraining.recordings import Recording, read_recordings
from rvc_lightning.pretraining.speakers import FLITE_VOICES, flite

log = logging.getLogger(__name__)

resolvers.register()


class Clip(NamedTuple):
    """Something that is said."""

    name: str
    audio: np.ndarray
    """Float32 [T]."""
    sample_rate: int
    """In Hz; of a recording that is played at another pace, its own times the pace."""


@command("pretraining_augment_speakers")
def main(config: DictConfig) -> None:
    """Writes the speakers and says who there is."""
    required(config, "output", "the folder to write the speakers to")
    required(config, "recordings", "a CSV with the columns path, speaker and transcript")
    write_augmented_speakers(config)


def write_augmented_speakers(config: DictConfig) -> None:
    """Writes the speakers that `conf/pretraining_augment_speakers.yaml` describes, a folder each.

    Raises:
        ConfigurationError: A pace makes no sense, there is no such synthesizer, or the folder is not empty.
        DatasetError: The table of recordings cannot be read, or is empty.
        AudioError: A recording cannot be read.
    """
    _check(config)
    by_speaker: dict[str, list[Recording]] = defaultdict(list)
    for recording in read_recordings(Path(config.recordings)):
        by_speaker[recording.speaker].append(recording)
    if not by_speaker:
        raise DatasetError(f"recordings={config.recordings} names no recordings")
    draw = random.Random(config.seed)
    texts = sorted({recording.transcript for recording in itertools.chain(*by_speaker.values())})
    # First, since a synthesizer may be missing.
    for voice in config.synthesizers:
        _write(config, f"flite_{voice}", _read_aloud(voice, draw.sample(texts, len(texts)), draw), config.minutes)
    for speaker, recordings in sorted(by_speaker.items()):
        _write(config, speaker, _played(recordings, 1.0))
        for pace in config.paces:
            chosen = draw.sample(recordings, len(recordings))
            _write(config, f"{speaker}_{pace:g}", _played(chosen, pace), config.minutes)


def _check(config: DictConfig) -> None:
    if any(not 0.5 <= pace <= 2 or pace == 1 for pace in config.paces):
        raise ConfigurationError(f"paces={list(config.paces)}; each must lie between 0.5 and 2, and not be 1")
    if unknown := set(config.synthesizers) - set(FLITE_VOICES):
        raise unknown_choice("synthesizers", min(unknown), FLITE_VOICES)
    output = Path(config.output)
    if output.is_dir() and any(output.iterdir()):
        raise ConfigurationError(
            f"output={output} is not empty: what is there would be taken for speakers; name another"
        )


def _played(recordings: Iterable[Recording], pace: float) -> Iterator[Clip]:
    for recording in recordings:
        audio, sample_rate = load_audio(recording.path)
        yield Clip(recording.path.stem, audio, round(sample_rate * pace))


def _read_aloud(voice: str, texts: Iterable[str], draw: random.Random) -> Iterator[Clip]:
    for text in texts:
        try:
            yield Clip("read", flite(voice, text, draw).audio, SAMPLE_RATE)
        except (KeyError, TimeoutError) as error:
            log.info("left out, %r: %s", error, text)


def _write(config: DictConfig, speaker: str, clips: Iterable[Clip], minutes: float | None = None) -> None:
    """Writes the clips of a speaker; those from the first that reaches so many minutes on are left out."""
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
