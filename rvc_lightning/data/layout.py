"""Where the files of a prepared dataset lie.

    OUTPUT/
      slices-HASH/ab/c/RECORDING/0000.wav ...    float32, at the rate to train at; HASH: slicing settings and rate
      slices-HASH/ab/c/RECORDING/recording.json  written last: this recording is done
      pitch-NAME-HASH/ab/c/RECORDING/0000.npy    f0_hz float32 [F] at 100 Hz; HASH: pitch settings and slices
      content-NAME-HASH/ab/c/RECORDING/0000.npy  float16 [F / 2, C] at 50 Hz; HASH: content settings and slices

      slices-HASH/silence.wav content-NAME-HASH/silence.npy  what the encoder makes of three seconds of nothing

RECORDING is the file's stem with a hash of its content and its path, and abc are the first digits of that hash; slices
from 0500 on are in folders of their own, RECORDING/1/0500.wav. So no folder holds more than a thousand entries, up to
four million recordings, each with as many as a quarter of a million slices.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from rvc_lightning.data.recipe import Recipe
from rvc_lightning.io.files import TEMPORARY_PREFIX, remove_leftovers
from rvc_lightning.pitch import PITCH_EXTRACTORS
from rvc_lightning.pitch.base import PitchNetwork

REVISION = 2
"""Part of every hash: raised when the same settings begin to give other files, or files elsewhere."""

_FOLDER_SLICES = 500
_HASH_BYTES = 8
_SILENCE = "silence"
_EXACT = "32-true"


@dataclass(frozen=True)
class Layout:
    """The folders of a dataset under the present settings.

    Attributes:
        output: of the dataset.
        sample_rate: of the slices, Hz.
        slices: of the audio.
        pitch: of f0_hz.
        content: of the content features.
    """

    output: Path
    sample_rate: int
    slices: Path
    pitch: Path
    content: Path

    @classmethod
    def of(cls, output: Path, recipe: Recipe, precision: str) -> Layout:
        """The folders for a recipe, and networks in a precision as Lightning names it."""
        pitch, content = recipe.pitch, recipe.content
        slices = f"slices-{digits(4, REVISION, recipe.sample_rate, asdict(recipe.slicing))}"
        # Networks give slightly other values in other precisions; extractors of the host do not.
        rounding = [] if precision == _EXACT else [precision]
        of_pitch = rounding if issubclass(PITCH_EXTRACTORS.get(pitch["name"], object), PitchNetwork) else []
        return cls(
            output=output,
            sample_rate=recipe.sample_rate,
            slices=output / slices,
            pitch=output / f"pitch-{pitch['name']}-{digits(4, REVISION, slices, dict(pitch), *of_pitch)}",
            content=output / f"content-{content['name']}-{digits(4, REVISION, slices, dict(content), *rounding)}",
        )

    @property
    def silence(self) -> tuple[Path, Path]:
        """Audio and content of silence."""
        return self.slices / f"{_SILENCE}.wav", self.content / f"{_SILENCE}.npy"

    def files(self, recording: str, number: int) -> tuple[Path, Path, Path]:
        """Audio, pitch and content of a slice of the recording whose folder is called `recording`."""
        folder, name = shard(recording), slice_path(number)
        return (
            self.slices / folder / f"{name}.wav",
            self.pitch / folder / f"{name}.npy",
            self.content / folder / f"{name}.npy",
        )


def folder_name(stem: str, *identity: object) -> str:
    """The name of a recording's folder: `stem` and a hash of `identity`."""
    return f"{stem}-{digits(_HASH_BYTES, *identity)}"


def shard(recording: str) -> str:
    """Where the folder of a recording lies in each of the dataset's folders."""
    identity = recording[-2 * _HASH_BYTES :]
    return f"{identity[:2]}/{identity[2]}/{recording}"


def slice_path(number: int) -> str:
    """Path of a slice in the folder of its recording, without extension."""
    name = slice_name(number)
    return name if number < _FOLDER_SLICES else f"{number // _FOLDER_SLICES}/{name}"


def slice_name(number: int) -> str:
    """Name of a slice within its recording."""
    return f"{number:04}"


def numbers_in(folder: Path, clear: bool = False) -> set[int]:
    """Numbers of the slices of which there are files in the folder of a recording.

    Args:
        folder: of the recording, or below it.
        clear: whether to take away what a killed process has left unfinished.
    """
    numbers: set[int] = set()
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return numbers
    if clear and any(entry.name.startswith(TEMPORARY_PREFIX) for entry in entries):
        remove_leftovers(folder)
    for entry in entries:
        stem, extension = os.path.splitext(entry.name)
        if extension in (".wav", ".npy") and stem.isdecimal():
            numbers.add(int(stem))
        elif not extension and stem.isdecimal():
            numbers |= numbers_in(Path(entry.path), clear)
    return numbers


def digits(n_bytes: int, *values: object) -> str:
    """Twice as many hex digits as `n_bytes`, which stand for plain values."""
    text = json.dumps(values, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=n_bytes).hexdigest()
