"""Phones of recorded speech whose words are known, found with pocketsphinx and its English model (both BSD)."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rvc_lightning.audio.decode import load_audio
from rvc_lightning.audio.frames import SAMPLE_RATE
from rvc_lightning.errors import ConfigurationError, DatasetError
from rvc_lightning.pretraining.phones import PHONES, SILENCE, Segment, folded
from rvc_lightning.pretraining.speakers import Spoken

_FRAME_S = 0.01
_PHONE_MARK = "+"
# Pauses are <sil>, noises [noise] and ++nsn++.
_FILLER = ("<", "[", "++")


@dataclass
class Recording:
    """A row of the table of recordings: columns path, speaker, transcript.

    Attributes:
        path: Of the audio, below the folder of the table.
        speaker: Who speaks.
        transcript: What is said, in English.
    """

    path: Path
    speaker: str
    transcript: str


def read_recordings(table: Path) -> list[Recording]:
    """The rows of a CSV with the columns path, speaker and transcript; others are passed over.

    Raises:
        DatasetError: It cannot be read, or lacks a column.
    """
    try:
        with table.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return [Recording(table.parent / row["path"], row["speaker"], row["transcript"]) for row in rows]
    except (OSError, ValueError, KeyError) as error:
        raise DatasetError(
            f"recordings={table}: a CSV with path, speaker and transcript is expected: {error}"
        ) from error


def aligned(recordings: list[Recording]) -> Iterator[tuple[Recording, Spoken | None]]:
    """Each recording with its phones, or None where its words are not in the dictionary or not heard.

    Raises:
        ConfigurationError: pocketsphinx is not installed.
    """
    decoder = _decoder()
    for recording in recordings:
        audio = load_audio(recording.path, SAMPLE_RATE)[0].astype(np.float32)
        segments = _align(decoder, audio, _words(recording.transcript))
        yield recording, Spoken(f"recorded-{recording.speaker}", audio, segments) if segments else None


def _decoder() -> Any:
    """Pocketsphinx's decoder, to whose dictionary each phone is added as a word.

    Its own way from words to phones fails where a word that it heard is shorter than three frames a phone.
    """
    try:
        from pocketsphinx import Decoder
    except ImportError as error:
        raise ConfigurationError("recordings=...: pip install pocketsphinx, which finds their phones") from error
    # Wide beams: the words are known, so all that counts is that they are not lost.
    decoder = Decoder(loglevel="FATAL", beam=1e-80, wbeam=1e-80, pbeam=1e-80)
    for phone in PHONES:
        if phone != SILENCE:
            decoder.add_word(_PHONE_MARK + phone, phone.upper())
    return decoder


def _words(transcript: str) -> list[str]:
    return re.sub("[^a-z' ]", " ", transcript.lower().replace("’", "'")).split()


def _align(decoder: Any, audio: np.ndarray, words: list[str]) -> list[Segment]:
    """Phones with their ends in seconds; nothing where the words cannot be followed.

    The words come first, with the pronunciation that was heard and the pauses between them, then their phones.
    """
    if not words or any(decoder.lookup_word(word) is None for word in words):
        return []
    pcm = (np.clip(audio, -1, 1) * (2**15 - 1)).astype(np.int16).tobytes()
    said = [name for name, _ in _heard(decoder, pcm, words) if not name.startswith(_FILLER)]
    phones = [_PHONE_MARK + phone.lower() for word in said for phone in decoder.lookup_word(word).split()]
    heard = _heard(decoder, pcm, phones) if phones else []
    return folded((SILENCE if name.startswith(_FILLER) else name[len(_PHONE_MARK) :], end_s) for name, end_s in heard)


def _heard(decoder: Any, pcm: bytes, words: list[str]) -> list[Segment]:
    """Words, pauses among them, and the second each ends at; nothing where they are lost."""
    decoder.set_align_text(" ".join(words))
    decoder.start_utt()
    decoder.process_raw(pcm, full_utt=True)
    decoder.end_utt()
    if decoder.hyp() is None:
        return []
    return [(segment.word, (segment.end_frame + 1) * _FRAME_S) for segment in decoder.seg()]
