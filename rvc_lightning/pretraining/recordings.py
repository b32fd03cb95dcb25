"""Phones of recordings with transcripts, aligned by pocketsphinx and its English model (both BSD)."""

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
from rvc_lightning.errors import DatasetError
from rvc_lightning.io.packages import import_extra
from rvc_lightning.pretraining.corpus import RECORDED
from rvc_lightning.pretraining.phones import PHONES, SILENCE, UNKNOWN, Segment, from_arpabet
from rvc_lightning.pretraining.synthesizers import AlignedSpeech

_FRAME_S = 0.01
_PIECE_SAMPLES = SAMPLE_RATE // 10
_SILENCE_DB = -38.0
_PHONE_MARK = "+"
# Pauses are <sil>; noises are [noise] and ++nsn++.
_FILLER = ("<", "[", "++")


@dataclass
class TranscribedRecording:
    """A row of the table of recordings.

    Attributes:
        path: Audio file.
        speaker: Name of the speaker.
        transcript: Words, in English; empty for speech without a transcript and in other languages.
    """

    path: Path
    speaker: str
    transcript: str


def read_recordings(table: Path) -> list[TranscribedRecording]:
    """Return the rows of a CSV with the columns path (relative to its folder), speaker and transcript.

    Raises:
        DatasetError: The table cannot be read, or lacks a column.
    """
    try:
        with table.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return [TranscribedRecording(table.parent / row["path"], row["speaker"], row["transcript"]) for row in rows]
    except (OSError, ValueError, KeyError) as error:
        raise DatasetError(
            f"recordings={table}: expected a CSV with the columns path, speaker and transcript: {error}"
        ) from error


def align_recordings(
    recordings: list[TranscribedRecording],
) -> Iterator[tuple[TranscribedRecording, AlignedSpeech | None]]:
    """Yield each recording with its phones, or None if its words are not in the dictionary or not recognized.

    Speech without a transcript has unknown phones of 0.1 s, and silence where it is quiet.

    Raises:
        ConfigurationError: pocketsphinx is not installed.
    """
    decoder = _decoder()
    for recording in recordings:
        audio = load_audio(recording.path, SAMPLE_RATE)[0].astype(np.float32)
        segments = (
            _align(decoder, audio, _words(recording.transcript)) if recording.transcript else unlabeled_segments(audio)
        )
        yield recording, AlignedSpeech(RECORDED + recording.speaker, audio, segments) if segments else None


def _decoder() -> Any:
    """Return a pocketsphinx decoder with each phone as a word of its dictionary.

    Its built-in alignment of phones fails for words shorter than three frames per phone.
    """
    pocketsphinx = import_extra("pocketsphinx", "evaluate", "recordings=FILE")
    # Wide beams, so that the known words are not pruned.
    decoder = pocketsphinx.Decoder(loglevel="FATAL", beam=1e-80, wbeam=1e-80, pbeam=1e-80)
    for phone in PHONES:
        if phone != SILENCE:
            decoder.add_word(_PHONE_MARK + phone, phone.upper())
    return decoder


def unlabeled_segments(audio: np.ndarray) -> list[Segment]:
    """Return pieces of 0.1 s with their ends in seconds: silence far below the loudest piece, else unknown phones."""
    levels = np.sqrt(
        np.square(audio[: len(audio) // _PIECE_SAMPLES * _PIECE_SAMPLES].reshape(-1, _PIECE_SAMPLES)).mean(1)
    )
    quiet = levels <= levels.max(initial=0) * 10 ** (_SILENCE_DB / 20)
    return [(SILENCE if q else UNKNOWN, (n + 1) * _PIECE_SAMPLES / SAMPLE_RATE) for n, q in enumerate(quiet)]


def _words(transcript: str) -> list[str]:
    return re.sub("[^a-z' ]", " ", transcript.lower().replace("’", "'")).split()


def _align(decoder: Any, audio: np.ndarray, words: list[str]) -> list[Segment]:
    """Return phones with their ends in seconds; [] if the words cannot be aligned.

    Words are aligned first, to find pauses and pronunciations, and then their phones.
    """
    if not words or any(decoder.lookup_word(word) is None for word in words):
        return []
    pcm = (np.clip(audio, -1, 1) * (2**15 - 1)).astype(np.int16).tobytes()
    spoken = [name for name, _ in _align_words(decoder, pcm, words) if not name.startswith(_FILLER)]
    phones = [_PHONE_MARK + phone.lower() for word in spoken for phone in decoder.lookup_word(word).split()]
    segments = _align_words(decoder, pcm, phones) if phones else []
    return from_arpabet(
        (SILENCE if name.startswith(_FILLER) else name[len(_PHONE_MARK) :], end_s) for name, end_s in segments
    )


def _align_words(decoder: Any, pcm: bytes, words: list[str]) -> list[Segment]:
    """Return words and pauses with their ends in seconds; [] if they cannot be aligned."""
    decoder.set_align_text(" ".join(words))
    decoder.start_utt()
    decoder.process_raw(pcm, full_utt=True)
    decoder.end_utt()
    if decoder.hyp() is None:
        return []
    return [(segment.word, (segment.end_frame + 1) * _FRAME_S) for segment in decoder.seg()]
