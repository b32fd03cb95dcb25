"""Recordings out of the program: written block by block, whole or not at all.

soundfile (libsndfile) writes wav, flac, ogg and mp3; the `ffmpeg` program writes m4a.

Letters: N samples.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
import soundfile

from rvc_lightning.errors import AudioError, ConfigurationError, unknown_choice
from rvc_lightning.io.disk import has_room, out_of_space
from rvc_lightning.io.files import atomic_path

WRITE_SUBTYPES = {".wav": "PCM_16", ".flac": "PCM_16", ".ogg": "VORBIS", ".mp3": "MPEG_LAYER_III", ".m4a": "AAC"}
"""Extensions that can be written, and the sample format each gets unless another is asked for."""

_RATES = {
    ".mp3": (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000),
    ".m4a": (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000),
}
"""Sampling rates in Hz of the formats that do not take any."""

_AAC_BITRATE = "192k"
# Vorbis of libsndfile overflows the stack with blocks of millions of samples.
_BLOCK_SAMPLES = 1 << 16


def fitting_rate(extension: str, sample_rate: int) -> int:
    """The rate in Hz to write audio of `sample_rate` at: the same, or the next that the format takes.

    Args:
        extension: Of the file, such as '.mp3'.
        sample_rate: In Hz; above the format's highest, that.
    """
    rates = _RATES.get(extension.lower(), (sample_rate,))
    return min((rate for rate in rates if rate >= sample_rate), default=rates[-1])


def check_writable(path: Path, sample_rate: int | None = None) -> None:
    """Finds out early what `audio_writer` would refuse.

    Raises:
        ConfigurationError: The extension cannot be written, or not at this rate.
        AudioError: It takes the ffmpeg program, which is not installed.
    """
    extension = path.suffix.lower()
    if extension not in WRITE_SUBTYPES:
        raise unknown_choice("audio format to write", path.suffix, WRITE_SUBTYPES)
    if sample_rate is not None and sample_rate not in _RATES.get(extension, (sample_rate,)):
        rates = ", ".join(map(str, _RATES[extension]))
        raise ConfigurationError(
            f"'{path}' cannot be written at {sample_rate} Hz; choose .wav or another sample rate, one of: {rates}"
        )
    if extension == ".m4a" and shutil.which("ffmpeg") is None:
        raise AudioError(
            f"'{path}' cannot be written: m4a takes the program ffmpeg, which is not installed; install ffmpeg, or "
            "choose another format, one of: wav, flac, mp3, ogg"
        )


class AudioWriter(ABC):
    """A file that takes a recording block by block; from `audio_writer`."""

    def __init__(self, path: Path, sample_rate: int) -> None:
        self.path, self.sample_rate = path, sample_rate

    def write(self, audio: np.ndarray) -> None:
        """Writes the next samples, float [N] or [N, channels] at full scale 1; integer formats clip what lies beyond.

        Raises:
            AudioError: They are not finite, or the file does not take them.
        """
        if not np.isfinite(audio).all():
            raise AudioError(f"'{self.path}' is not written: the samples to write hold NaN or infinity")
        for start in range(0, len(audio), _BLOCK_SAMPLES):
            self._write(audio[start : start + _BLOCK_SAMPLES])

    @abstractmethod
    def _write(self, audio: np.ndarray) -> None: ...

    @abstractmethod
    def close(self) -> None:
        """Ends the file."""

    @abstractmethod
    def abort(self) -> None:
        """Lets go of the file, which will not be kept."""

    def failed(self, reason: object) -> AudioError:
        """The error for a file that cannot be written."""
        return AudioError(
            f"'{self.path}' cannot be written at {self.sample_rate} Hz: {reason}; choose .wav or another sample rate"
        )


@contextlib.contextmanager
def audio_writer(
    path: Path | str, sample_rate: int, *, channels: int = 1, subtype: str | None = None
) -> Iterator[AudioWriter]:
    """Opens a recording for writing, in the format its extension names; it is there, whole, once the block is left.

    Args:
        path: Ends in .wav, .flac, .ogg, .mp3 or .m4a.
        sample_rate: Hz.
        channels: Of the samples to come.
        subtype: soundfile's name of a sample format, such as "FLOAT"; None takes that of `WRITE_SUBTYPES`.

    Raises:
        ConfigurationError: The extension cannot be written, or not at this rate.
        AudioError: The format does not take this subtype, or ffmpeg is needed and fails or is not there.
        OutOfSpaceError: The disk has no room for it.
        NotWritableError: The folder cannot be made or written to.
    """
    path = Path(path)
    check_writable(path, sample_rate)
    with atomic_path(path) as temporary:
        writer: AudioWriter
        if path.suffix.lower() == ".m4a":
            writer = _FfmpegWriter(path, sample_rate, temporary, channels)
        else:
            writer = _SoundfileWriter(path, sample_rate, temporary, channels, subtype)
        with contextlib.ExitStack() as unless_whole:
            unless_whole.callback(writer.abort)
            yield writer
            unless_whole.pop_all()
        writer.close()
        # The end of a flac, mp3 or m4a that finds no room is missing without a word.
        if not has_room(temporary):
            raise out_of_space(path)


def write_audio(path: Path | str, audio: np.ndarray, sample_rate: int, subtype: str | None = None) -> None:
    """Writes a whole recording, atomically, in the format its extension names.

    Args:
        path: As for `audio_writer`, whose errors are those of this as well.
        audio: Float, full scale 1, shape [N] or [N, channels]; integer formats clip what lies beyond.
        sample_rate: Hz.
        subtype: As for `audio_writer`.
    """
    with audio_writer(path, sample_rate, channels=1 if audio.ndim == 1 else audio.shape[1], subtype=subtype) as writer:
        writer.write(audio)


def openable(path: Path) -> str | bytes:
    """The path as soundfile takes it: bytes where names are bytes, since a name need not be valid UTF-8."""
    return str(path) if os.name == "nt" else os.fsencode(path)


def last_line(stderr: bytes) -> str:
    """What a program complained of last; nothing for no complaint."""
    lines = stderr.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else ""


class _SoundfileWriter(AudioWriter):
    def __init__(self, path: Path, sample_rate: int, temporary: Path, channels: int, subtype: str | None) -> None:
        super().__init__(path, sample_rate)
        subtype = subtype or WRITE_SUBTYPES[path.suffix.lower()]
        try:
            self._file = soundfile.SoundFile(openable(temporary), "w", sample_rate, channels, subtype)
        except (soundfile.LibsndfileError, ValueError) as error:
            raise self.failed(error) from error

    def _write(self, audio: np.ndarray) -> None:
        try:
            self._file.write(audio)
        except (soundfile.LibsndfileError, ValueError) as error:
            raise self.failed(error) from error

    def close(self) -> None:
        self._file.close()

    def abort(self) -> None:
        self._file.close()


class _FfmpegWriter(AudioWriter):
    def __init__(self, path: Path, sample_rate: int, temporary: Path, channels: int) -> None:
        super().__init__(path, sample_rate)
        # A pipe for complaints could fill up while samples are written.
        self._complaints: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        command: list[str | bytes] = [shutil.which("ffmpeg") or "ffmpeg", "-v", "error", "-y"]
        command += ["-f", "f32le", "-ar", str(sample_rate), "-ac", str(channels), "-i", "pipe:0"]
        # `file:` keeps ffmpeg from taking a name for an option or for a network address.
        command += ["-c:a", "aac", "-b:a", _AAC_BITRATE, b"file:" + os.fsencode(temporary.absolute())]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._complaints
        )

    @property
    def _input(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    def _write(self, audio: np.ndarray) -> None:
        try:
            self._input.write(np.clip(audio, -1, 1).astype("<f4").tobytes())
        except BrokenPipeError:
            raise self._complaint() from None

    def close(self) -> None:
        try:
            self._input.close()
        except BrokenPipeError:
            raise self._complaint() from None
        if self._process.wait() != 0:
            raise self._complaint()
        self._complaints.close()

    def abort(self) -> None:
        self._process.kill()
        with contextlib.suppress(BrokenPipeError):
            self._input.close()
        self._process.wait()
        self._complaints.close()

    def _complaint(self) -> AudioError:
        self._process.wait()
        self._complaints.seek(0)
        reason = last_line(self._complaints.read()) or f"exit status {self._process.returncode}"
        self._complaints.close()
        return self.failed(f"ffmpeg says '{reason}'")
