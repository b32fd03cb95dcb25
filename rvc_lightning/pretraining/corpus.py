"""Speech with known phones on disk: FLAC files at 16 kHz and `manifest.jsonl`, one line an utterance."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from rvc_lightning.audio.frames import SAMPLE_RATE
from rvc_lightning.errors import DatasetError
from rvc_lightning.io.files import atomic_path
from rvc_lightning.pretraining.phones import PHONES

MANIFEST = "manifest.jsonl"


@dataclass
class Utterance:
    """A line of the manifest.

    Attributes:
        audio: Path below the corpus.
        speaker: Who speaks; `recorded-...` for people.
        sentence: What is said: the same number, the same words.
        phones: Names of `PHONES`.
        ends_s: The second each ends at; the first begins at 0.
    """

    audio: str
    speaker: str
    sentence: int
    phones: list[str]
    ends_s: list[float]


def write_manifest(folder: Path, utterances: Sequence[Utterance]) -> None:
    """Writes the manifest of a corpus, whole or not at all."""
    with atomic_path(folder / MANIFEST) as path:
        path.write_text("".join(json.dumps(dataclasses.asdict(utterance)) + "\n" for utterance in utterances))


def read_manifest(folder: Path) -> list[Utterance]:
    """The utterances of a corpus.

    Raises:
        DatasetError: There is no manifest, or a line is none of ours.
    """
    try:
        lines = (folder / MANIFEST).read_text().splitlines()
        utterances = [Utterance(**json.loads(line)) for line in lines]
    except (OSError, ValueError, TypeError) as error:
        raise DatasetError(f"'{folder}' is no corpus: {error}; python -m rvc_lightning.pretraining.speak") from error
    unknown = {phone for utterance in utterances for phone in utterance.phones} - set(PHONES)
    if unknown:
        raise DatasetError(f"'{folder / MANIFEST}' has unknown phones: {', '.join(sorted(unknown))}")
    return utterances


def write_audio(path: Path, audio: np.ndarray) -> None:
    """Writes float audio [T] at 16 kHz as FLAC of 16 bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.clip(audio, -1, 1), SAMPLE_RATE, subtype="PCM_16")


def read_audio(path: Path) -> np.ndarray:
    """Int16 [T] at 16 kHz. Raises DatasetError if it cannot be read."""
    try:
        return soundfile.read(path, dtype="int16")[0]
    except (OSError, soundfile.SoundFileError) as error:
        raise DatasetError(f"'{path}' cannot be read: {error}") from error
