"""Excerpts of other people's content and pitch, for `rvc_lightning.training.conversion_losses`."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import groupby
from pathlib import Path

import numpy as np

from rvc_lightning.audio.frames import CONTENT_REPEAT
from rvc_lightning.data.dataset import read_feature
from rvc_lightning.data.manifest import ManifestRow, read_header, read_manifest
from rvc_lightning.errors import DatasetError
from rvc_lightning.io.files import atomic_path
from rvc_lightning.training.conversion_losses import CONTENT_STEP

_CONTENT_FRAMES = 80
_FRAMES = CONTENT_REPEAT * _CONTENT_FRAMES
_MIN_VOICED = 0.4


def write_excerpts(dataset: Path, speakers: Collection[str], output: Path) -> int:
    """Write an excerpt of 1.6 s of each speaker: its content [C, F] and pitch [T], and return their number.

    It comes from the middle of the speaker's first slice that is mostly voiced. The content is quantized to multiples
    of `CONTENT_STEP` and stored channel by channel, which halves the file.

    Args:
        dataset: A dataset that was prepared with `content=phonetic`.
        speakers: Names of the speakers to use.
        output: File to write, npz.

    Raises:
        DatasetError: The dataset cannot be read, or contains no such excerpt.
    """
    names = read_header(dataset).speakers
    rows = sorted(read_manifest(dataset), key=lambda row: (row.speaker, row.id))
    found = [
        excerpt
        for speaker, slices in groupby(rows, key=lambda row: row.speaker)
        if names[speaker] in speakers and (excerpt := _first_voiced(dataset, slices))
    ]
    if not found:
        raise DatasetError(f"'{dataset}' has no voiced slices of 1.6 s of these speakers")
    content, f0_hz = (np.stack(part) for part in zip(*found, strict=True))
    steps = (content.swapaxes(1, 2).astype(np.float32) / CONTENT_STEP).round().clip(-127, 127).astype(np.int8)
    with atomic_path(output) as path, path.open("wb") as stream:
        np.savez_compressed(stream, content=steps, f0_hz=f0_hz.astype(np.float16))
    return len(found)


def _first_voiced(dataset: Path, slices: Iterable[ManifestRow]) -> tuple[np.ndarray, np.ndarray] | None:
    """Return content and pitch of the middle of the first slice that is long enough and mostly voiced."""
    for row in slices:
        content, f0_hz = read_feature(dataset / row.content, 2), read_feature(dataset / row.f0, 1)
        start = (len(content) - _CONTENT_FRAMES) // 2
        pitch = f0_hz[max(start, 0) * CONTENT_REPEAT :][:_FRAMES]
        if start >= 0 and len(pitch) == _FRAMES and (pitch > 0).mean() >= _MIN_VOICED:
            return content[start : start + _CONTENT_FRAMES], pitch
    return None
