"""A corpus of speech with known phones: FLAC files at 16 kHz, and `manifest.jsonl` with one line per utterance."""

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
        audio: Path in the corpus.
        speaker: Name of the speaker; `recorded-...` for people.
        sentence: Number of the sentence; utterances of the same words share it.
        phones: Names from `PHONES`.
        ends_s: End of each phone in seconds; the first phone starts at 0.
    """

    audio: str
    speaker: str
    sentence: int
    phones: list[str]
    ends_s: list[float]


def write_manifest(folder: Path, utterances: Sequence[Utterance]) -> None:
    """Write the manifest of a corpus atomically."""
    with atomic_path(folder / MANIFEST) as path:
        path.write_text("".join(json.dumps(dataclasses.asdict(utterance)) + "\n" for utterance in utterances))


def read_manifest(folder: Path) -> list[Utterance]:
    """Return the utterances of a corpus.

    Raises:
        DatasetError: The manifest is missing or invalid.
    """
    try:
        lines = (folder / MANIFEST).read_text().splitlines()
        utterances = [Utterance(**json.loads(line)) for line in lines]
    except (OSError, ValueError, TypeError) as error:
        raise DatasetError(
            f"'{folder}' is not a corpus: {error}; make one with python -m rvc_lightning.pretraining.synthesize"
        ) from error
    unknown = {phone for utterance in utterances for phone in utterance.phones} - set(PHONES)
    if unknown:
        raise DatasetError(f"'{folder / MANIFEST}' has unknown phones: {', '.join(sorted(unknown))}")
    return utterances


def write_audio(path: Path, audio: np.ndarray) -> None:
    """Write float audio [T] at 16 kHz as 16-bit FLAC."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.clip(audio, -1, 1), SAMPLE_RATE, subtype="PCM_16")


def read_audio(path: Path) -> np.ndarray:
    """Return audio as int16 [T] at 16 kHz. Raises DatasetError if it cannot be read."""
    try:
        return soundfile.read(path, dtype="int16")[0]
    except (OSError, soundfile.SoundFileError) as error:
        raise DatasetError(f"'{path}' cannot be read: {error}") from error
