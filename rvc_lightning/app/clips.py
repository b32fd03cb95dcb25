"""Recordings and results to compare: the first seconds of a file, spectra and pitch curves, an archive."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rvc_lightning.audio.decode import open_audio, resample
from rvc_lightning.audio.encode import write_audio
from rvc_lightning.audio.frames import SAMPLE_RATE
from rvc_lightning.evaluation.compare import log_mel
from rvc_lightning.evaluation.pictures import draw, png
from rvc_lightning.io.names import numbered_names
from rvc_lightning.pitch import build_pitch_extractor

DRAWN_SECONDS = 30.0
"""Longest part of a recording in a picture."""

_MIN_SAMPLES = 1024


def first_seconds(recording: Path, seconds: float) -> tuple[np.ndarray, int]:
    """Read the beginning of a recording, float32 [N], and its rate in Hz.

    Raises:
        AudioError: The file cannot be decoded.
    """
    blocks, samples = [], 0
    with open_audio(recording) as stream:
        for block in stream:
            blocks.append(block)
            samples += len(block)
            if samples >= seconds * stream.sample_rate:
                break
        return np.concatenate(blocks)[: round(seconds * stream.sample_rate)], stream.sample_rate


def cut(recording: Path, seconds: float, folder: Path) -> Path:
    """Write the beginning of a recording to `folder` and return the file."""
    path = folder / f"{recording.stem}_{seconds:g}s.wav"
    write_audio(path, *first_seconds(recording, seconds))
    return path


def compare(recordings: dict[str, Path]) -> bytes:
    """Draw the spectra and the pitch curves of recordings by title, as PNG.

    Raises:
        AudioError: A file cannot be decoded.
    """
    extract = build_pitch_extractor("swift_f0")
    mels, tracks_hz = {}, {}
    for title, path in recordings.items():
        audio = resample(*first_seconds(path, DRAWN_SECONDS), SAMPLE_RATE)
        audio = np.pad(audio, (0, max(0, _MIN_SAMPLES - len(audio))))
        mels[title], tracks_hz[title] = log_mel(audio, SAMPLE_RATE), extract(audio)
    return png(draw(mels, tracks_hz, log_pitch=True))


def archive(files: Sequence[Path], path: Path) -> Path:
    """Write files to a zip and return it. The audio is not compressed further."""
    with zipfile.ZipFile(path, "w") as target:
        for file, name in zip(files, numbered_names(files), strict=True):
            target.write(file, name)
    return path
