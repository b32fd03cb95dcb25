"""A corpus of speech with known phones: FLAC files at 16 kHz, and `manifest.jsonl` with one line per utterance."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rvc_lightning.audio.decode import load_audio
from rvc_lightning.audio.frames import SAMPLE_RATE
from rvc_lightning.errors import DatasetError
from rvc_lightning.io.files import atomic_path

MANIFEST = "manifest.jsonl"
RECORDED = "recorded-"
"""Start of the names of people, as opposed to synthesizers."""


@dataclass
class Utterance:
    """A line of the manifest.

    Attributes:
        audio: Path in the corpus.
        speaker: Name of the speaker, which starts with `RECORDED` for people.
        sentence: Number of the sentence; utterances of the same words share it.
        phones: Names from `phones.PHONES`, or `phones.UNKNOWN`.
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
        path.write_text(
            "".join(json.dumps(dataclasses.asdict(utterance)) + "\n" for utterance in utterances), encoding="utf-8"
        )


def read_manifest(folder: Path) -> list[Utterance]:
    """Return the utterances of a corpus.

    Raises:
        DatasetError: The manifest is missing or invalid.
    """
    try:
        lines = (folder / MANIFEST).read_text(encoding="utf-8").splitlines()
        return [Utterance(**json.loads(line)) for line in lines]
    except (OSError, ValueError, TypeError) as error:
        raise DatasetError(
            f"'{folder}' is not a corpus: {error}; create one with python -m rvc_lightning.pretraining.synthesize"
        ) from error


def read_audio(path: Path) -> np.ndarray:
    """Return the audio of an utterance, int16 [T] at 16 kHz. Raises AudioError if it cannot be read."""
    return (load_audio(path, SAMPLE_RATE)[0] * 2**15).astype(np.int16)
