"""Encode recordings block by block; a file is complete or absent.

soundfile (libsndfile) writes wav, flac, ogg and mp3; PyAV, whose wheels contain FFmpeg, writes m4a.

Legend: N samples, C channels.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import av
import numpy as np
import soundfile
from av.error import FFmpegError

from rvc_lightning.audio.soundfile_reader import sound_path
from rvc_lightning.errors import AudioError, ConfigurationError
from rvc_lightning.io.disk import has_room, out_of_space
from rvc_lightning.io.files import atomic_path

WRITE_SUBTYPES = {".wav": "PCM_16", ".flac": "PCM_16", ".ogg": "VORBIS", ".mp3": "MPEG_LAYER_III", ".m4a": "AAC"}
"""Extensions that can be written, with the default sample format of each."""

_RATES = {
    ".mp3": (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000),
    ".m4a": (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000),
}
"""Sample rates in Hz of the formats that do not support all."""

_AAC_BITS_PER_SECOND = 192_000
# Vorbis of libsndfile overflows the stack with blocks of millions of samples.
_BLOCK_SAMPLES = 1 << 16
_BUFFER_BYTES = 1 << 16


def fitting_rate(extension: str, sample_rate: int) -> int:
    """Return the lowest rate in Hz of a format that is at least `sample_rate`, or else its highest rate.

    Args:
        extension: Extension of the file, such as '.mp3'.
        sample_rate: Rate of the audio in Hz.
    """
    rates = _RATES.get(extension.lower(), (sample_rate,))
    return min((rate for rate in rates if rate >= sample_rate), default=rates[-1])


def check_writable(path: Path, sample_rate: int | None = None) -> None:
    """Check that `audio_writer` supports a file name and a rate.

    Raises:
        ConfigurationError: The extension or the rate is not supported.
    """
    extension = path.suffix.lower()
    if extension not in WRITE_SUBTYPES:
        choices = ", ".join(sorted(WRITE_SUBTYPES))
        raise ConfigurationError(f"'{path}': unknown output format '{path.suffix}'; choose one of: {choices}")
    if sample_rate is not None and sample_rate not in _RATES.get(extension, (sample_rate,)):
        rates = ", ".join(map(str, _RATES[extension]))
        raise ConfigurationError(
            f"'{path}' cannot be written at {sample_rate} Hz; choose .wav or another sample rate, one of: {rates}"
        )


@contextlib.contextmanager
def audio_writer(
    path: Path | str,
    sample_rate: int,
    *,
    channels: int = 1,
    subtype: str | None = None,
    scratch: Path | None = None,
) -> Iterator[AudioWriter]:
    """Open a recording to write, in the format of its extension; the file appears when the context exits.

    Args:
        path: File name with the extension .wav, .flac, .ogg, .mp3 or .m4a.
        sample_rate: In Hz.
        channels: C of the blocks to write.
        subtype: libsndfile's name of a sample format, such as "FLOAT"; None for that of `WRITE_SUBTYPES`.
        scratch: As in `atomic_path`.

    Raises:
        ConfigurationError: The extension or the rate is not supported.
        AudioError: The encoder fails, or the samples are not finite.
        OutOfSpaceError: The disk is full.
        NotWritableError: The folder cannot be created or written to.
    """
    path = Path(path)
    check_writable(path, sample_rate)
    with atomic_path(path, scratch) as temporary:
        try:
            with contextlib.closing(_open_encoder(temporary, sample_rate, channels, subtype)) as encoder:
                yield AudioWriter(path, encoder)
        except (soundfile.LibsndfileError, FFmpegError) as error:
            raise AudioError(
                f"'{path}' cannot be written at {sample_rate} Hz: {error}; choose .wav or another sample rate"
            ) from error
        # libsndfile does not report a disk that is full at the end of a flac or mp3 file.
        if not has_room(temporary):
            raise out_of_space(path)


def write_audio(
    path: Path | str,
    audio: np.ndarray,
    sample_rate: int,
    subtype: str | None = None,
    *,
    scratch: Path | None = None,
) -> None:
    """Write a whole recording, atomically, in the format of its extension.

    Args:
        path: As in `audio_writer`, as are the errors.
        audio: Full scale 1, float [N] or [N, C]; integer formats clip beyond.
        sample_rate: In Hz.
        subtype: As in `audio_writer`.
        scratch: As in `atomic_path`.
    """
    channels = 1 if audio.ndim == 1 else audio.shape[1]
    with audio_writer(path, sample_rate, channels=channels, subtype=subtype, scratch=scratch) as writer:
        writer.write(audio)


class AudioWriter:
    """A recording that is written block by block; created by `audio_writer`."""

    def __init__(self, path: Path, encoder: _Encoder) -> None:
        self._path, self._encoder = path, encoder

    def write(self, audio: np.ndarray) -> None:
        """Write the next samples, float [N] or [N, C] at full scale 1; integer formats clip beyond."""
        if not np.isfinite(audio).all():
            raise AudioError(f"'{self._path}' is not written: the samples contain NaN or infinity")
        for start in range(0, len(audio), _BLOCK_SAMPLES):
            self._encoder.write(audio[start : start + _BLOCK_SAMPLES])


def _open_encoder(path: Path, sample_rate: int, channels: int, subtype: str | None) -> _Encoder:
    extension = path.suffix.lower()
    if extension == ".m4a":
        return _AACEncoder(path, sample_rate, channels)
    return soundfile.SoundFile(sound_path(path), "w", sample_rate, channels, subtype or WRITE_SUBTYPES[extension])


class _Encoder(Protocol):
    def write(self, audio: np.ndarray, /) -> None: ...
    def close(self) -> None: ...


class _AACEncoder:
    """AAC in an MPEG-4 file, with the interface of `soundfile.SoundFile`."""

    def __init__(self, path: Path, sample_rate: int, channels: int) -> None:
        # An open file, since FFmpeg only accepts names in UTF-8, and may take a name for a protocol.
        with contextlib.ExitStack() as opened:
            file = opened.enter_context(path.open("wb"))
            self._container = opened.enter_context(av.open(file, "w", format="ipod", buffer_size=_BUFFER_BYTES))
            self._layout = f"{channels}c"
            self._stream = self._container.add_stream("aac", rate=sample_rate, layout=self._layout)
            self._stream.bit_rate = _AAC_BITS_PER_SECOND
            self._samples = 0
            self._files = opened.pop_all()

    def write(self, audio: np.ndarray) -> None:
        """Encode float [N] or [N, C]."""
        planes = np.ascontiguousarray(np.clip(audio, -1, 1).reshape(len(audio), -1).T, dtype=np.float32)
        frame = av.AudioFrame.from_ndarray(planes, "fltp", self._layout)
        frame.sample_rate = self._stream.rate
        frame.time_base, frame.pts = Fraction(1, frame.sample_rate), self._samples
        self._samples += len(audio)
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Write the last packets and the table of contents."""
        with self._files:
            self._container.mux(self._stream.encode(None))
