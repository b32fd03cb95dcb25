"""A song as lead, backing vocals and music, of the same length.

Legend: N samples, C channels: 1 or 2.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rvc_lightning.audio.decode import load_channels, resample
from rvc_lightning.separation.base import PARTS, parts_up_to
from rvc_lightning.separation.store import PartStore

log = logging.getLogger(__name__)

_MAX_DIFFERENCE_SECONDS = 1.0
"""Differences of stems that are warned about; shorter ones are the padding of encoders."""


@dataclass(frozen=True)
class Song:
    """A song and its parts, float32 [N, C]."""

    mixture: np.ndarray
    """The song as recorded, or the sum of its stems."""
    lead: np.ndarray
    backing: np.ndarray
    """Silent if the vocals are not separated further."""
    instrumental: np.ndarray
    sample_rate: int
    """In Hz."""


def separate_song(path: Path, part: str, store: PartStore) -> Song:
    """Separate a song.

    Args:
        path: Recording of the song.
        part: Part to convert, one of `PARTS`.
        store: Separator, and the folder of its results.

    Raises:
        AudioError: The song cannot be read, or has more than two channels.
        AssetError: A model cannot be downloaded or read.
    """
    mixture, sample_rate = load_channels(path)
    stems = {step: load_channels(store.extract(path, step))[0] for step in parts_up_to(part)}
    vocals, lead = stems[PARTS[0]], stems.get(PARTS[1], stems[PARTS[0]])
    return Song(mixture, stems[part], vocals - lead, mixture - vocals, sample_rate)


def join_stems(vocals: Path, instrumental: Path, backing: Path | None = None) -> Song:
    """Read the stems of a song, at the rate of the music; shorter ones are followed by silence, with a warning.

    Raises:
        AudioError: A stem cannot be read, or has more than two channels.
    """
    music, sample_rate = load_channels(instrumental)
    read, paths = [music], [instrumental, *filter(None, (vocals, backing))]
    for path in paths[1:]:
        audio, rate = load_channels(path)
        read.append(np.stack([resample(channel, rate, sample_rate) for channel in audio.T], axis=1))
    seconds = [len(audio) / sample_rate for audio in read]
    if max(seconds) - min(seconds) > _MAX_DIFFERENCE_SECONDS:
        lengths = ", ".join(f"'{path}' {length:.1f} s" for path, length in zip(paths, seconds, strict=True))
        log.warning("The stems differ in length, so they may not be of the same song: %s", lengths)
    samples, channels = (max(audio.shape[axis] for audio in read) for axis in (0, 1))
    music, lead, *others = (
        np.broadcast_to(np.pad(audio, ((0, samples - len(audio)), (0, 0))), (samples, channels)) for audio in read
    )
    rest = others[0] if others else np.zeros_like(music)
    return Song(music + lead + rest, lead, rest, music, sample_rate)
