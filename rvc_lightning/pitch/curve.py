"""Pitch in a file: lines of `seconds,Hz`, drawn by hand or measured by another program.

    seconds,hz
    0.00,0           0 is unvoiced
    0.51,220.0
    0.80,233.1       between voiced lines pitch glides, evenly in semitones
    0.81,0           between a voiced and an unvoiced line the nearer one decides, the earlier of equally near ones

Letters: K lines, F frames of 10 ms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rvc_lightning.audio.frames import FRAMES_PER_SECOND
from rvc_lightning.errors import ConfigurationError
from rvc_lightning.io.files import atomic_path

CURVE_SUFFIXES = (".f0.csv", ".csv", ".txt")
"""What the name of a curve ends in where a folder of them is searched; the first are those that are written."""

LOWEST_HZ, HIGHEST_HZ = 20.0, 3000.0
"""Beyond these a number is no pitch of a voice, but a key number or a column that is something else."""

_SEPARATORS = (",", ";", "\t")


@dataclass(frozen=True)
class PitchCurve:
    """The pitch at some times of a recording; from `read_curve`."""

    path: Path
    """Where it was read, for messages."""
    seconds: np.ndarray
    """Increasing times, float64 [K], K >= 2."""
    hz: np.ndarray
    """Pitch at these times, float64 [K]; 0 = unvoiced."""

    def laid_over(self, f0_hz: np.ndarray, first_seconds: float = 0.0) -> np.ndarray:
        """Puts the curve in place of measured pitch where it covers it.

        Args:
            f0_hz: Measured, float32 [F].
            first_seconds: When the first frame is; below 0 where frames stand before the recording.

        Returns:
            float32 [F]; outside the times of the curve as measured.
        """
        # Whole frames first: then the times are the very numbers that files hold, and a curve written is one read.
        seconds = (round(first_seconds * FRAMES_PER_SECOND) + np.arange(len(f0_hz))) / FRAMES_PER_SECOND
        covered = (seconds >= self.seconds[0]) & (seconds <= self.seconds[-1])
        before = np.clip(np.searchsorted(self.seconds, seconds, side="right") - 1, 0, len(self.seconds) - 2)
        first, second = self.hz[before], self.hz[before + 1]
        way = (seconds - self.seconds[before]) / (self.seconds[before + 1] - self.seconds[before])
        both = (first > 0) & (second > 0)
        gliding = first * np.where(both, second / np.where(both, first, 1.0), 1.0) ** np.clip(way, 0, 1)
        value = np.where(both & (way < 1), gliding, np.where(way <= 0.5, first, second))
        return np.where(covered, value, f0_hz).astype(np.float32)

    def check_covers(self, seconds: float) -> None:
        """Raises ConfigurationError if the curve begins only after a recording of `seconds` has ended."""
        if self.seconds[0] > seconds or self.seconds[-1] < 0:
            raise ConfigurationError(
                f"f0_file: '{self.path}' covers {self.seconds[0]:g} to {self.seconds[-1]:g} s, "
                f"but the recording ends at {seconds:.2f} s; choose the file that belongs to it"
            )


def read_curve(path: str | Path) -> PitchCurve:
    """Reads a curve of lines 'seconds,Hz'.

    A line of column names at the top, empty lines, lines that begin with '#' and spaces are passed over. Semicolons and
    tabs separate as commas do.

    Raises:
        ConfigurationError: It cannot be read, or a line is no pair of numbers, goes back in time, or holds what is no
            pitch; the message has the line.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"f0_file: '{path}' cannot be read as text: {error}") from error
    rows: list[tuple[float, float]] = []
    named = False
    for number, line in enumerate(text.splitlines(), start=1):
        fields = _fields(line)
        if not fields or (not rows and not named and (named := _names_columns(fields))):
            continue
        try:
            rows.append(_row(fields, rows))
        except ValueError as error:
            raise ConfigurationError(f"f0_file: '{path}', line {number}, '{line.strip()}': {error}") from error
    if len(rows) < 2:
        raise ConfigurationError(f"f0_file: '{path}' holds {len(rows)} lines 'seconds,Hz'; it takes two at least")
    seconds, hz = np.array(rows).T
    return PitchCurve(path, seconds, hz)


def write_curve(path: str | Path, f0_hz: np.ndarray) -> None:
    """Writes the pitch of a recording, atomically, as `read_curve` reads it.

    Args:
        path: The file.
        f0_hz: float32 [F] from the start of the recording, 0 = unvoiced.
    """
    lines = (f"{frame / FRAMES_PER_SECOND:.2f},{_number(hz)}" for frame, hz in enumerate(f0_hz.astype(np.float32)))
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as stream:
        stream.write("seconds,hz\n")
        stream.writelines(f"{line}\n" for line in lines)


def _number(hz: np.float32) -> str:
    """As few digits as give the same float32 again."""
    return np.format_float_positional(hz, trim="-")


def _fields(line: str) -> list[str]:
    line = line.strip()
    if not line or line.startswith("#"):
        return []
    separator = next((mark for mark in _SEPARATORS if mark in line), None)
    return [field.strip() for field in line.split(separator)]


def _names_columns(fields: list[str]) -> bool:
    return not any(_is_number(field) for field in fields)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _row(fields: list[str], before: list[tuple[float, float]]) -> tuple[float, float]:
    """One line as numbers; raises ValueError with what is wrong with it."""
    if len(fields) != 2 or not all(_is_number(field) for field in fields):
        raise ValueError("expected two numbers, 'seconds,Hz'")
    seconds, hz = (float(field) for field in fields)
    if not (math.isfinite(seconds) and math.isfinite(hz)):
        raise ValueError("expected finite numbers; 0 Hz is unvoiced")
    if before and seconds <= before[-1][0]:
        raise ValueError(f"times must increase, and the line before is at {before[-1][0]:g} s")
    if hz != 0 and not LOWEST_HZ <= hz <= HIGHEST_HZ:
        raise ValueError(f"expected a pitch of {LOWEST_HZ:g} to {HIGHEST_HZ:g} Hz, or 0 for unvoiced")
    return seconds, hz
