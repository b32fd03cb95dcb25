"""What the page does when it converts: bounds on what is sent, voices that stay loaded, one file as the result."""

from __future__ import annotations

import logging
import re
import shutil
import subprocess
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
import soundfile

from rvc_lightning.app.shelf import Stamp, VoiceShelf
from rvc_lightning.audio.decode import write_audio
from rvc_lightning.conversion.options import ConversionOptions
from rvc_lightning.errors import AudioError, ConfigurationError, OutOfMemoryError, RVCError
from rvc_lightning.memory import is_out_of_memory

log = logging.getLogger(__name__)

DEFAULT_FORMAT = "wav"

_DECODED_SECONDS = re.compile(rb"out_time_us=(\d+)")


class Converter(Protocol):
    """What converts, a `VoiceConverter`."""

    def convert(self, source: Path, options: ConversionOptions) -> tuple[np.ndarray, int]:
        """A recording -> audio [N] and its rate in Hz."""
        ...


MakeConverter: TypeAlias = Callable[[Path, Path | None], Converter]
"""From the files of a voice and of its index."""


@dataclass(frozen=True)
class Limits:
    """What the page takes.

    Raises:
        ConfigurationError: A bound is not above 0.
    """

    most_seconds: float
    """Length of a recording."""
    most_megabytes: float
    """Size of an uploaded file."""
    most_waiting: int
    """Conversions that wait for their turn; more are sent away."""
    most_voices: int
    """Voices that stay loaded."""
    keep_minutes: float
    """How long recordings and results are kept."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
                raise ConfigurationError(f"{name}={value!r}: choose a number above 0")


class Studio:
    """Converts with the voices of a shelf, of which those last used stay loaded."""

    def __init__(self, shelf: VoiceShelf, make_converter: MakeConverter, limits: Limits) -> None:
        self.shelf, self.limits = shelf, limits
        self._make_converter = make_converter
        self._loaded: OrderedDict[tuple[Path, Stamp, Path | None, Stamp | None], Converter] = OrderedDict()

    def converter(self, name: str) -> Converter:
        """What converts to a voice of the shelf; loaded again where its files have changed.

        Raises:
            VoiceError: There is no such voice, or it is damaged.
            AssetError: What it was trained with cannot be fetched.
        """
        path, index = self.shelf.path(name), self.shelf.index(name)
        key = path, Stamp.of(path), index, None if index is None else Stamp.of(index)
        if key not in self._loaded:
            # First out, then in: never more in memory than there may be.
            for stale in [other for other in self._loaded if other[0] == path]:
                del self._loaded[stale]
            while len(self._loaded) >= self.limits.most_voices:
                self._loaded.popitem(last=False)
            self._loaded[key] = self._make_converter(path, index)
        self._loaded.move_to_end(key)
        return self._loaded[key]

    def convert(self, name: str, recording: Path, options: ConversionOptions, folder: Path) -> Path:
        """Converts a recording to a voice of the shelf.

        Args:
            name: Of the voice.
            recording: A file.
            options: How.
            folder: Where the result is written, under the names of recording and voice.

        Returns:
            The file written.

        Raises:
            RVCError: In words for who sees the page: files of the server are named as they are named there.
        """
        try:
            self.check_length(recording)
            audio, sample_rate = self.converter(name).convert(recording, options)
            target = folder / f"{recording.stem}_{Path(name).stem}.{options.output_format or DEFAULT_FORMAT}"
            write_audio(target, audio, sample_rate)
        except (RVCError, OSError) as error:
            raise _in_their_words(error, {recording: recording.name, self.shelf.folder / name: name}) from error
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise OutOfMemoryError("memory ran out: try a shorter recording, or another device") from error
        return target

    def check_length(self, recording: Path) -> None:
        """Raises AudioError for a recording longer than is taken, before anything of it is kept in memory."""
        if seconds_of(recording, self.limits.most_seconds) > self.limits.most_seconds:
            raise AudioError(
                f"'{recording}' is longer than the {self.limits.most_seconds:g} seconds that this page takes; cut it, "
                "or use the command rvc_lightning.convert, which takes any length"
            )


def seconds_of(path: Path, most: float) -> float:
    """Length of a recording in seconds; what is longer than `most` is told from it, but not always how long it is.

    Gives 0 for what is no recording: whoever reads it says why.
    """
    try:
        return float(soundfile.info(path).duration)
    except (soundfile.LibsndfileError, TypeError, OSError):
        return _decoded_seconds(path, most + 1)


def _decoded_seconds(path: Path, most: float) -> float:
    """Length by decoding at most so much with ffmpeg, 0 without it: what headers say can be missing, or a lie."""
    program = shutil.which("ffmpeg")
    if program is None:
        return 0.0
    command = [program, "-v", "error", "-nostdin", "-protocol_whitelist", "file", "-t", str(most)]
    command += ["-i", f"file:{path.absolute()}", "-map", "0:a:0", "-f", "null", "-progress", "pipe:1", "-"]
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    return max((int(found) / 1e6 for found in _DECODED_SECONDS.findall(run.stdout)), default=0.0)


def _in_their_words(error: RVCError | OSError, names: dict[Path, str]) -> RVCError:
    message = str(error)
    for path, name in names.items():
        message = message.replace(str(path), name)
    return type(error)(message) if isinstance(error, RVCError) else RVCError(message)
