"""A corpus of speech with known phones, by all speech synthesizers and from transcribed recordings."""

from __future__ import annotations

import itertools
import logging
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import TimeoutExpired

from omegaconf import DictConfig

from rvc_lightning.audio.encode import write_audio
from rvc_lightning.audio.frames import SAMPLE_RATE
from rvc_lightning.config.options import Settings, option
from rvc_lightning.errors import ConfigurationError
from rvc_lightning.pretraining.corpus import Utterance, write_manifest
from rvc_lightning.pretraining.recordings import TranscribedRecording, align_recordings, read_recordings
from rvc_lightning.pretraining.sentences import sentences
from rvc_lightning.pretraining.synthesizers import AlignedSpeech, all_synthesizers

log = logging.getLogger(__name__)

_SAVE_EVERY = 100


@dataclass(frozen=True, kw_only=True)
class CorpusSettings(Settings):
    """Settings of `conf/pretraining_synthesize.yaml`."""

    corpus: str = option(help="the folder to write speech with known phones to")
    sentences: int = option(help="number of random sentences", min=0)
    words: str = option(help="a list of words, one per line")
    readers: int = option(help="number of synthesizers for each sentence", min=1, max=len(all_synthesizers()))
    recordings: str | None
    seed: int = option(help="seed of the sentences and of the choice of synthesizers", min=0)


def synthesize(config: DictConfig) -> None:
    """Write the corpus that `conf/pretraining_synthesize.yaml` describes.

    Raises:
        ConfigurationError: A number is out of range, or a synthesizer or the list of words is missing.
        DatasetError: The table of recordings cannot be read.
    """
    settings = CorpusSettings.from_config(config)
    folder = Path(settings.corpus)
    recordings = read_recordings(Path(settings.recordings)) if settings.recordings else []
    texts = [*dict.fromkeys(recording.transcript for recording in recordings if recording.transcript)]
    texts += itertools.islice(sentences(_read_words(Path(settings.words)), settings.seed), settings.sentences)
    numbers = {text: number for number, text in enumerate(texts)}
    utterances: list[Utterance] = []
    for text, speech in itertools.chain(_aligned(recordings), _synthesized(texts, settings.readers, settings.seed)):
        audio = f"audio/{len(utterances):06}.flac"
        write_audio(folder / audio, speech.audio, SAMPLE_RATE)
        phones, ends_s = zip(*speech.segments, strict=True)
        ends = [round(end_s, 4) for end_s in ends_s]
        # Each recording without a transcript is a separate sentence.
        number = numbers[text] if text else len(numbers) + len(utterances)
        utterances.append(Utterance(audio, speech.speaker, number, list(phones), ends))
        if len(utterances) % _SAVE_EVERY == 0:
            # Training may start before the corpus is complete.
            write_manifest(folder, utterances)
            log.info("%d utterances", len(utterances))
    write_manifest(folder, utterances)
    hours = sum(utterance.ends_s[-1] for utterance in utterances) / 3600
    log.info("%s: %d utterances, %.2f hours", folder, len(utterances), hours)


def _read_words(path: Path) -> list[str]:
    """Return the words of a list that consist of letters. Raises ConfigurationError without such words."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    words = [line for line in lines if line.isascii() and line.isalpha() and len(line) > 1]
    if not words:
        raise ConfigurationError(
            f"words={path}: expected a list with one word per line, such as that of Debian's package wamerican"
        )
    return words


def _aligned(recordings: list[TranscribedRecording]) -> Iterator[tuple[str, AlignedSpeech]]:
    """Yield the transcript and the speech of each recording that can be aligned."""
    failed = 0
    for recording, speech in align_recordings(recordings) if recordings else []:
        if speech:
            yield recording.transcript, speech
        else:
            failed += 1
    if failed:
        log.info(
            "Skipped %d of %d recordings: their words are not in the dictionary or not recognized",
            failed,
            len(recordings),
        )


def _synthesized(texts: list[str], readers: int, seed: int) -> Iterator[tuple[str, AlignedSpeech]]:
    """Yield each text by `readers` random synthesizers."""
    rng = random.Random(seed)
    for text in texts:
        for synthesizer in rng.sample(all_synthesizers(), readers):
            try:
                yield text, synthesizer(text, rng)
            except (KeyError, TimeoutExpired) as error:
                log.info("Skipped '%s': %r", text, error)
