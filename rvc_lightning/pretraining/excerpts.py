"""Excerpts of other people's content and pitch, for `rvc_lightning.training.conversion_losses`."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

import numpy as np

from rvc_lightning.audio.frames import CONTENT_REPEAT
from rvc_lightning.data.dataset import read_feature
from rvc_lightning.data.manifest import ManifestRow, read_header, read_manifest
from rvc_lightning.errors import DatasetError
from rvc_lightning.io.files import atomic_path

_CONTENT_FRAMES = 80
_FRAMES = CONTENT_REPEAT * _CONTENT_FRAMES
_MIN_VOICED = 0.4


def write_excerpts(dataset: Path, prefix: str, output: Path, max_speakers: int = 60) -> int:
    """Write an excerpt of 1.6 s of each speaker: its content [F, C] and pitch [T], and return their number.

    It comes from the middle of the speaker's first slice that is mostly voiced.

    Args:
        dataset: A dataset that was prepared with `content=phonetic`.
        prefix: Start of the names of the speakers to use.
        output: File to write, npz.
        max_speakers: Largest number of speakers, evenly spaced in their order.

    Raises:
        DatasetError: The dataset cannot be read, or contains no such excerpt.
    """
    names = read_header(dataset).speakers
    rows = sorted(read_manifest(dataset), key=lambda row: (row.speaker, row.id))
    found = [
        excerpt
        for speaker, slices in groupby(rows, key=lambda row: row.speaker)
        if names[speaker].startswith(prefix) and (excerpt := _first_voiced(dataset, slices))
    ]
    if not found:
        raise DatasetError(f"'{dataset}' has no voiced slices of 1.6 s of speakers whose names start with '{prefix}'")
    chosen = [found[n] for n in np.linspace(0, len(found) - 1, min(max_speakers, len(found))).astype(int)]
    content, f0_hz = (np.stack(part).astype(np.float16) for part in zip(*chosen, strict=True))
    with atomic_path(output) as path, path.open("wb") as stream:
        np.savez_compressed(stream, content=content, f0_hz=f0_hz)
    return len(chosen)


def _first_voiced(dataset: Path, slices: Iterable[ManifestRow]) -> tuple[np.ndarray, np.ndarray] | None:
    """Return content and pitch of the middle of the first slice that is long enough and mostly voiced."""
    for row in slices:
        content, f0_hz = read_feature(dataset / row.content, 2), read_feature(dataset / row.f0, 1)
        start = (len(content) - _CONTENT_FRAMES) // 2
        pitch = f0_hz[max(start, 0) * CONTENT_REPEAT :][:_FRAMES]
        if start >= 0 and len(pitch) == _FRAMES and (pitch > 0).mean() >= _MIN_VOICED:
            return content[start : start + _CONTENT_FRAMES], pitch
    return None
