"""Paths of the files of a prepared dataset.

    OUTPUT/
      slices-HASH/ab/c/RECORDING/0000.wav ...    float32, at the rate of the voice; HASH: slicing settings and rate
      slices-HASH/ab/c/RECORDING/recording.json  written last: marks the recording as complete
      pitch-NAME-HASH/ab/c/RECORDING/0000.npy    f0_hz float32 [F] at 100 Hz; HASH: pitch settings and slices
      content-NAME-HASH/ab/c/RECORDING/0000.npy  float16 [F / 2, C] at 50 Hz; HASH: content settings and slices
      content-NAME-HASH-x1.19/...                the same of slices played 1.19 times as fast, at the original times

      slices-HASH/silence.wav content-NAME-HASH/silence.npy  three seconds of silence and its content

RECORDING is the stem of the file with a hash of its content and path, and abc are the first digits of that hash. Slices
from 0500 on lie in numbered subfolders: RECORDING/1/0500.wav. No folder has more than a thousand entries, for up to
four million recordings of up to a quarter of a million slices each.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rvc_lightning.data.recipe import Recipe
from rvc_lightning.pitch import PITCH_EXTRACTORS
from rvc_lightning.pitch.base import PitchNetwork

REVISION = 2
"""Part of every hash: increment it when the same settings produce other files or paths."""

SILENCE = "silence"
"""Value for the folder of a recording in `Layout.slice_paths`: the silent clip."""

_SLICES_PER_FOLDER = 500
_HASH_BYTES = 8
_EXACT_PRECISION = "32-true"


@dataclass(frozen=True)
class Layout:
    """The folders of a dataset for one recipe."""

    output: Path
    sample_rate: int
    """Rate of the slices in Hz."""
    slices: Path
    pitch: Path
    content: Path

    @classmethod
    def of(cls, output: Path, recipe: Recipe, precision: str) -> Layout:
        """Return the folders for a recipe; `precision` is that of the networks, as Lightning names it."""
        pitch, content = recipe.pitch, recipe.content
        slices = f"slices-{short_hash(4, REVISION, recipe.sample_rate, _slicing_identity(recipe))}"
        # The results of networks depend slightly on the precision; those of signal processing do not.
        rounding = [] if precision == _EXACT_PRECISION else [precision]
        is_network = issubclass(PITCH_EXTRACTORS.get(pitch["name"], object), PitchNetwork)
        pitch_hash = short_hash(4, REVISION, slices, dict(pitch), *(rounding if is_network else []))
        content_hash = short_hash(4, REVISION, slices, dict(content), *rounding)
        return cls(
            output=output,
            sample_rate=recipe.sample_rate,
            slices=output / slices,
            pitch=output / f"pitch-{pitch['name']}-{pitch_hash}",
            content=output / f"content-{content['name']}-{content_hash}",
        )

    def content_folder(self, speed: float) -> Path:
        """Return the folder of the content of slices played at a speed."""
        return self.output / content_at_speed(self.content.name, speed)

    def slice_paths(self, folder: str, number: int, speed: float = 1.0) -> tuple[Path, Path, Path]:
        """Return the paths of audio, pitch and content of a slice.

        Args:
            folder: Folder of a recording, or `SILENCE`.
            number: Number of the slice in its recording.
            speed: Speed at which the slice is played for its content.
        """
        name = SILENCE if folder == SILENCE else f"{recording_path(folder)}/{slice_path(number)}"
        return self.slices / f"{name}.wav", self.pitch / f"{name}.npy", self.content_folder(speed) / f"{name}.npy"


def content_at_speed(path: str, speed: float) -> str:
    """Return the path of the content of a slice played at a speed, from its relative path at speed 1."""
    kind, *rest = path.split("/")
    return "/".join([kind if speed == 1 else f"{kind}-x{speed:g}", *rest])


def _slicing_identity(recipe: Recipe) -> dict[str, Any]:
    """Return the settings that determine the slices."""
    settings = asdict(recipe.slicing)
    if settings["separate"] == "none":
        # As before the setting existed, so that datasets remain valid.
        del settings["separate"]
        return settings
    return settings | {"separator": recipe.separator}


def folder_name(stem: str, *identity: object) -> str:
    """Return the name of a recording's folder: `stem` and a hash of `identity`."""
    return f"{stem}-{short_hash(_HASH_BYTES, *identity)}"


def recording_path(folder: str) -> str:
    """Return the path of a recording's folder in the folder of slices, pitch or content."""
    identity = folder[-2 * _HASH_BYTES :]
    return f"{identity[:2]}/{identity[2]}/{folder}"


def slice_path(number: int) -> str:
    """Return the path of a slice in the folder of its recording, without extension."""
    name = f"{number:04}"
    return name if number < _SLICES_PER_FOLDER else f"{number // _SLICES_PER_FOLDER}/{name}"


def existing_slices(folder: Path) -> set[int]:
    """Return the numbers of the slices that have a file in the folder of a recording."""
    names = (os.path.splitext(name) for _, _, files in os.walk(folder) for name in files)
    return {int(stem) for stem, extension in names if stem.isdecimal() and extension in (".wav", ".npy")}


def short_hash(n_bytes: int, *values: object) -> str:
    """Return a hash of plain values as hex digits, two per byte."""
    text = json.dumps(values, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=n_bytes).hexdigest()
