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
from rvc_lightning.content.base import SAMPLE_RATE
from rvc_lightning.errors import ConfigurationError, DatasetError
from rvc_lightning.phonetic.phones import SILENCE, Segment, folded
from rvc_lightning.phonetic.speakers import Spoken

_FRAME_S = 0.01
_SILENT_BELOW_LOUDEST = 10 ** (-35 / 20)
_QUIET_EDGE_S = 0.03


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
        raise DatasetError(f"recordings={table}: a CSV with path, speaker and transcript is expected: {error}") from error


def aligned(recordings: list[Recording]) -> Iterator[tuple[Recording, Spoken | None]]:
    """Each recording with its phones, or None where its words do not fit what is heard or are not in the dictionary.

    Raises:
        ConfigurationError: pocketsphinx is not installed.
    """
    decoder = _decoder()
    for recording in recordings:
        audio = load_audio(recording.path, SAMPLE_RATE)[0].astype(np.float32)
        try:
            segments = _align(decoder, audio, _words(recording.transcript))
        except RuntimeError:
            # pocketsphinx has lost the words, and is left in the middle of the utterance.
            segments, decoder = [], _decoder()
        yield recording, Spoken(f"recorded-{recording.speaker}", audio, segments) if segments else None


def _decoder() -> Any:
    try:
        from pocketsphinx import Decoder
    except ImportError as error:
        raise ConfigurationError("recordings=...: pip install pocketsphinx, which finds their phones") from error
    # Wide beams: the words are known, so all that counts is that they are not lost.
    return Decoder(loglevel="FATAL", beam=1e-80, wbeam=1e-60, pbeam=1e-80)


def _words(transcript: str) -> list[str]:
    return re.sub("[^a-z' ]", " ", transcript.lower().replace("’", "'")).split()


def _align(decoder: Any, audio: np.ndarray, words: list[str]) -> list[Segment]:
    """Phones with their ends in seconds; nothing where the words cannot be followed."""
    if not words or any(decoder.lookup_word(word) is None for word in words):
        return []
    pcm = (np.clip(audio, -1, 1) * (2**15 - 1)).astype(np.int16).tobytes()
    # The words first, then the phones in them.
    decoder.set_align_text(" ".join(words))
    _decode(decoder, pcm)
    if decoder.hyp() is None:
        return []
    decoder.set_alignment()
    _decode(decoder, pcm)
    segments = [
        (phone.name.lower(), (phone.start + phone.duration) * _FRAME_S)
        for word in decoder.get_alignment()
        for phone in word
    ]
    return folded(_with_silent_edges(segments, audio))


def _decode(decoder: Any, pcm: bytes) -> None:
    decoder.start_utt()
    decoder.process_raw(pcm, full_utt=True)
    decoder.end_utt()


def _with_silent_edges(segments: list[Segment], audio: np.ndarray) -> list[Segment]:
    """Gives the silence before the first word, which the aligner counts to its first phone, a segment of its own."""
    hop = round(SAMPLE_RATE * _FRAME_S)
    level = np.sqrt(np.square(audio[: len(audio) // hop * hop].reshape(-1, hop)).mean(axis=1))
    begin_s = float(np.argmax(level > level.max() * _SILENT_BELOW_LOUDEST)) * _FRAME_S
    total_s = len(audio) / SAMPLE_RATE
    inner = [(phone, end_s) for phone, end_s in segments if end_s > begin_s + _QUIET_EDGE_S]
    leading = [(SILENCE, begin_s)] if begin_s > _QUIET_EDGE_S and segments[0][0] != "sil" else []
    trailing = [(SILENCE, total_s)] if inner and total_s > inner[-1][1] else []
    return [*leading, *inner, *trailing]
