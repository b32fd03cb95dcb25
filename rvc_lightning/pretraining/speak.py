"""`python -m rvc_lightning.pretraining.speak corpus=FOLDER`: sentences read by every synthesizer there is."""

from __future__ import annotations

import itertools
import logging
import random
from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig

from rvc_lightning.cli import resolvers
from rvc_lightning.cli.command import command
from rvc_lightning.config.validation import check_whole
from rvc_lightning.config.values import required
from rvc_lightning.errors import ConfigurationError
from rvc_lightning.pretraining.corpus import Utterance, write_audio, write_manifest
from rvc_lightning.pretraining.recordings import Recording, aligned, read_recordings
from rvc_lightning.pretraining.sentences import sentences
from rvc_lightning.pretraining.speakers import Spoken, speakers

log = logging.getLogger(__name__)

resolvers.register()

_REPORT_EVERY = 100


@command("pretraining_speak")
def main(config: DictConfig) -> None:
    """Makes the corpus and says what is in it."""
    required(config, "corpus", "the folder to write speech with known phones to")
    check_whole("sentences", config.sentences, 0)
    check_whole("readers", config.readers, 1)
    speak(config)


def speak(config: DictConfig) -> None:
    """Writes the corpus that `conf/phonetic_speak.yaml` describes.

    Raises:
        ConfigurationError: A synthesizer or the list of words is missing.
        DatasetError: The table of recordings cannot be read.
    """
    folder = Path(config.corpus)
    recordings = read_recordings(Path(config.recordings)) if config.recordings else []
    texts = [*dict.fromkeys(recording.transcript for recording in recordings)]
    made_up = sentences(_words(Path(config.words)), config.seed)
    texts += itertools.islice(made_up, config.sentences)
    numbers = {text: number for number, text in enumerate(texts)}
    utterances: list[Utterance] = []
    for text, spoken in itertools.chain(_recorded(recordings), _read_aloud(texts, config.readers, config.seed)):
        audio = f"audio/{len(utterances):06}.flac"
        write_audio(folder / audio, spoken.audio)
        phones, ends_s = zip(*spoken.segments, strict=True)
        ends = [round(end_s, 4) for end_s in ends_s]
        utterances.append(Utterance(audio, spoken.speaker, numbers[text], list(phones), ends))
        if len(utterances) % _REPORT_EVERY == 0:
            # Written on the way as well, so that training may begin before the last sentence is read.
            write_manifest(folder, utterances)
            log.info("%d utterances", len(utterances))
    write_manifest(folder, utterances)
    hours = sum(utterance.ends_s[-1] for utterance in utterances) / 3600
    log.info("%s: %d utterances, %.2f hours", folder, len(utterances), hours)


def _words(path: Path) -> list[str]:
    """Words of letters alone. Raises ConfigurationError if there are none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigurationError(
            f"words={path}: a list with a word a line is needed, such as Debian's wamerican"
        ) from error
    if words := [line for line in lines if line.isascii() and line.isalpha() and len(line) > 1]:
        return words
    raise ConfigurationError(f"words={path} holds no words")


def _recorded(recordings: list[Recording]) -> Iterator[tuple[str, Spoken]]:
    """What is said, and the recording of it, of those that can be followed."""
    lost = 0
    for recording, spoken in aligned(recordings) if recordings else []:
        if spoken:
            yield recording.transcript, spoken
        else:
            lost += 1
    if lost:
        log.info(
            "%d of %d recordings left out: their words are not in the dictionary or not heard", lost, len(recordings)
        )


def _read_aloud(texts: list[str], readers: int, seed: int) -> Iterator[tuple[str, Spoken]]:
    """Every text, by `readers` of the synthesizers each."""
    draw = random.Random(seed)
    for text in texts:
        for speaker in draw.sample(speakers(), readers):
            try:
                yield text, speaker(text, draw)
            except (KeyError, TimeoutError) as error:
                log.info("left out, %r: %s", error, text)


if __name__ == "__main__":
    main()
