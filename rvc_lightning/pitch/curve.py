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
from collections.abc import Iterable
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

    Semicolons and tabs are separators, too. A first line of column names, empty lines, lines starting with '#', and
    spaces are ignored. Memory is bounded by 16 bytes per line and the longest valid line.

    Raises:
        ConfigurationError: The file cannot be read, or a line is not a pair of numbers, does not increase in time, or
            is not a pitch; the message includes the line.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8-sig") as stream:
            seconds, hz = _parse_lines(iter(partial(stream.readline, _MAX_LINE_CHARACTERS), ""))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"f0_file: '{path}' cannot be read as text: {error}") from error
    except _LineError as error:
        raise ConfigurationError(f"f0_file: '{path}', {error}") from error
    if len(seconds) < 2:
        raise ConfigurationError(f"f0_file: '{path}' has {len(seconds)} lines 'seconds,Hz'; at least two are required")
    return PitchCurve(path, np.frombuffer(seconds), np.frombuffer(hz))


def write_curve(path: str | Path, f0_hz: np.ndarray) -> None:
    """Write the pitch of a recording atomically, in the format of `read_curve`.

    Args:
        path: Output file.
        f0_hz: Pitch from the start of the recording, float32 [F], 0 = unvoiced.
    """
    # The shortest decimals that are read back as the same float32.
    digits = (np.format_float_positional(hz, trim="-") for hz in f0_hz.astype(np.float32))
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as stream:
        stream.write("seconds,hz\n")
        stream.writelines(f"{frame / FRAMES_PER_SECOND:.2f},{hz}\n" for frame, hz in enumerate(digits))


class _LineError(Exception):
    """Number and text of an invalid line, and the reason."""

    def __init__(self, number: int, line: str, reason: str) -> None:
        super().__init__(f"line {number}, '{line.strip()[:_SHOWN_CHARACTERS]}': {reason}")


def _parse_lines(lines: Iterable[str]) -> tuple[array, array]:
    """Parse times in seconds and pitch in Hz, float64. Raises _LineError."""
    seconds, hz = array("d"), array("d")
    previous, has_names = -math.inf, False
    for number, line in enumerate(lines, start=1):
        try:
            time, pitch = map(float, _split(line))
        except ValueError:
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            if not seconds and not has_names and not any(map(_is_number, _split(line))):
                has_names = True
                continue
            raise _LineError(number, line, "expected two numbers, 'seconds,Hz'") from None
        if not (previous < time < math.inf and (pitch == 0 or LOWEST_HZ <= pitch <= HIGHEST_HZ)):
            raise _LineError(number, line, _reason(time, pitch, previous))
        seconds.append(time)
        hz.append(pitch)
        previous = time
    return seconds, hz


def _split(line: str) -> list[str]:
    fields = line.translate(_SEPARATORS).split(",", 2)
    return fields if len(fields) > 1 else line.split(None, 2)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _reason(seconds: float, hz: float, previous_seconds: float) -> str:
    """Describe why a pair of numbers is invalid."""
    if not (math.isfinite(seconds) and math.isfinite(hz)):
        return "expected finite numbers; 0 Hz is unvoiced"
    if seconds <= previous_seconds:
        return f"times must increase, but the previous line is at {previous_seconds:g} s"
    return f"expected a pitch of {LOWEST_HZ:g} to {HIGHEST_HZ:g} Hz, or 0 for unvoiced"
