"""Pitch in a text file: lines of `seconds,Hz`, drawn by hand or measured by another program.

    seconds,hz
    0.00,0           0 is unvoiced
    0.51,220.0
    0.80,233.1       between voiced lines, pitch is interpolated evenly in semitones
    0.81,0           between a voiced and an unvoiced line, the nearer line applies, the earlier in a tie

Legend: K lines, F frames of 10 ms.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from rvc_lightning.audio.frames import FRAMES_PER_SECOND
from rvc_lightning.errors import ConfigurationError
from rvc_lightning.io.files import atomic_path

CURVE_SUFFIXES = (".f0.csv", ".csv", ".txt")
"""Suffixes of curve files in a folder; the first is used for writing."""

LOWEST_HZ, HIGHEST_HZ = 20.0, 3000.0
"""Numbers outside this range are not the pitch of a voice, but note numbers or another column."""

_SEPARATORS = str.maketrans(";\t", ",,")
_MAX_LINE_CHARACTERS = 1000
_SHOWN_CHARACTERS = 60


@dataclass(frozen=True)
class PitchCurve:
    """Pitch at some times of a recording, read by `read_curve`."""

    path: Path
    """File, for messages."""
    seconds: np.ndarray
    """Increasing times, float64 [K], K >= 2."""
    hz: np.ndarray
    """Pitch at these times, float64 [K]; 0 = unvoiced."""

    def overlay(self, f0_hz: np.ndarray, first_seconds: float = 0.0) -> np.ndarray:
        """Replace measured pitch by the curve between the first and the last time of the curve.

        Args:
            f0_hz: Measured pitch, float32 [F].
            first_seconds: Time of the first frame; negative if frames precede the recording.

        Returns:
            float32 [F].
        """
        # Whole frames divided by the rate are the same floats as the times in a file of `write_curve`.
        seconds = (round(first_seconds * FRAMES_PER_SECOND) + np.arange(len(f0_hz))) / FRAMES_PER_SECOND
        covered = (seconds >= self.seconds[0]) & (seconds <= self.seconds[-1])
        left = np.clip(np.searchsorted(self.seconds, seconds, side="right") - 1, 0, len(self.seconds) - 2)
        first, second = self.hz[left], self.hz[left + 1]
        fraction = (seconds - self.seconds[left]) / (self.seconds[left + 1] - self.seconds[left])
        both = (first > 0) & (second > 0)
        glide = first * np.where(both, second / np.where(both, first, 1.0), 1.0) ** np.clip(fraction, 0, 1)
        value = np.where(both & (fraction < 1), glide, np.where(fraction <= 0.5, first, second))
        return np.where(covered, value, f0_hz).astype(np.float32)

    def check_covers(self, seconds: float) -> None:
        """Raise ConfigurationError if no part of a recording of `seconds` is covered."""
        if self.seconds[0] > seconds or self.seconds[-1] < 0:
            raise ConfigurationError(
                f"f0_file: '{self.path}' covers {self.seconds[0]:g} to {self.seconds[-1]:g} s, "
                f"but the recording ends at {seconds:.2f} s; choose the file for this recording"
            )


def read_curve(path: str | Path) -> PitchCurve:
    """Read a curve of lines 'seconds,Hz'.

    Semicolons, tabs and spaces are separators as well. A first line of column names, empty lines, and lines that start
    with '#' are ignored. Memory is bounded by 16 bytes per line; lines over 1000 characters are invalid.

    Raises:
        ConfigurationError: The file cannot be read, or a line is not a pair of numbers, does not increase in time, or
            is not a pitch; the message includes the line.
    """
    path, seconds, hz = Path(path), array("d"), array("d")
    try:
        with path.open(encoding="utf-8-sig") as stream:
            for number, line, fields in _rows(iter(partial(stream.readline, _MAX_LINE_CHARACTERS), "")):
                if problem := _problem(fields, seconds[-1] if seconds else -math.inf):
                    shown = line[:_SHOWN_CHARACTERS]
                    raise ConfigurationError(f"f0_file: '{path}', line {number}, '{shown}': {problem}")
                seconds.append(float(fields[0]))
                hz.append(float(fields[1]))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"f0_file: '{path}' cannot be read as text: {error}") from error
    if len(seconds) < 2:
        raise ConfigurationError(f"f0_file: '{path}' has {len(seconds)} lines 'seconds,Hz'; at least two are required")
    return PitchCurve(path, np.frombuffer(seconds), np.frombuffer(hz))


def write_curve(path: str | Path, f0_hz: np.ndarray, *, scratch: Path | None = None) -> None:
    """Write the pitch of a recording atomically, in the format of `read_curve`.

    Args:
        path: Output file.
        f0_hz: Pitch from the start of the recording, float32 [F], 0 = unvoiced.
        scratch: As in `atomic_path`.
    """
    # The shortest decimals that are read back as the same float32.
    digits = (np.format_float_positional(hz, trim="-") for hz in f0_hz.astype(np.float32))
    with atomic_path(path, scratch) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as stream:
        stream.write("seconds,hz\n")
        stream.writelines(f"{frame / FRAMES_PER_SECOND:.2f},{hz}\n" for frame, hz in enumerate(digits))


def _rows(lines: Iterable[str]) -> Iterator[tuple[int, str, list[str]]]:
    """Yield number, text and fields of each line, except for empty lines, comments and a first line of column names."""
    may_name_columns = True
    for number, line in enumerate(map(str.strip, lines), start=1):
        if not line or line.startswith("#"):
            continue
        fields = line.translate(_SEPARATORS).split(",", 2)
        fields = fields if len(fields) > 1 else line.split(None, 2)
        if not may_name_columns or any(map(_is_number, fields)):
            yield number, line, fields
        may_name_columns = False


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _problem(fields: list[str], previous_seconds: float) -> str | None:
    """Describe why the fields of a line are not the next point of a curve; None if they are."""
    try:
        seconds, hz = map(float, fields)
    except ValueError:
        return "expected two numbers, 'seconds,Hz'"
    if not (math.isfinite(seconds) and math.isfinite(hz)):
        return "expected finite numbers; 0 Hz is unvoiced"
    if seconds <= previous_seconds:
        return f"times must increase, but the previous line is at {previous_seconds:g} s"
    if hz != 0 and not LOWEST_HZ <= hz <= HIGHEST_HZ:
        return f"expected a pitch of {LOWEST_HZ:g} to {HIGHEST_HZ:g} Hz, or 0 for unvoiced"
    return None
