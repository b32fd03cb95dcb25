"""Recordings into the program: any file to mono float32 at any rate.

soundfile (libsndfile) reads wav, flac, ogg, mp3, aiff and their like; the `ffmpeg` program reads what it
cannot (m4a, mp4, aac, webm, files with a wrong extension). soxr resamples.

Letters: N samples.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
import soxr

from rvc_lightning.audio.encode import last_line, openable
from rvc_lightning.errors import AudioError
from rvc_lightning.io.files import TEMPORARY_PREFIX

logger = logging.getLogger(__name__)

_BY_SOUNDFILE = {
    ".wav",
    ".flac",
    ".ogg",
    ".oga",
    ".opus",
    ".mp3",
    ".aif",
    ".aiff",
    ".au",
    ".caf",
    ".w64",
    ".rf64",
}
_BY_FFMPEG = {".m4a", ".mp4", ".m4b", ".aac", ".webm", ".mka", ".mkv", ".mov", ".wma", ".amr", ".ac3", ".3gp"}

AUDIO_EXTENSIONS = frozenset(_BY_SOUNDFILE | _BY_FFMPEG)
"""Lower-case extensions that are taken for audio when a folder is listed."""

_LOWEST_RATE, _HIGHEST_RATE = 4000, 768000

# A recorder that was cut off leaves a header that says 'nothing', and the sound behind it.
_LARGEST_EMPTY_BYTES = 1 << 13
_SAYS_EMPTY = "its header says that there is nothing in it"
# What libsndfile says of files of a kind it knows, with bytes missing.
_MALFORMED = "malformed"
# What libsndfile says of streams whose writers left the length open.
_UNKNOWN_FRAMES = 1 << 62

# A damaged file loses at most one block beside the damage, so blocks are short; so many are handed on as one.
_BLOCK_FRAMES = 4096
_JOINED_BLOCKS = 64
# Lengths that encoders merely estimate (mp3) may be a little off in a whole file.
_TRUNCATED_BELOW = 0.98
_OGG, _OGG_LAST, _OGG_LONGEST_PAGE = b"OggS", 4, 1 << 16
# By how a file begins: where its length stands, in how many bytes, their order, and how much that leaves out at least.
_LENGTHS: dict[bytes, tuple[int, int, Literal["little", "big"], int]] = {
    b"RIFF": (4, 4, "little", 8),  # wav
    b"FORM": (4, 4, "big", 8),  # aiff
    b"RF64": (20, 8, "little", 8),
    b"riff": (16, 8, "little", 0),  # w64
    b".snd": (8, 4, "big", 24),  # au
}


@dataclass(frozen=True)
class DecodedAudio:
    """What a file holds.

    Attributes:
        audio: mono, float32, full scale 1, shape [N].
        sample_rate: Hz.
        warning: what is wrong with the file although it could be used (truncated, damaged), else None.
    """

    audio: np.ndarray
    sample_rate: int
    warning: str | None = None


def load_audio(path: Path | str, sample_rate: int | None = None) -> tuple[np.ndarray, int]:
    """Read a recording as mono, the mean of its channels; a truncated one gives what is there and a log line.

    Args:
        path: the file.
        sample_rate: rate to resample to in Hz; None keeps the file's own.

    Returns:
        Samples, float32 [N], and their rate in Hz.

    Raises:
        AudioError: the file is missing, empty, not audio, holds NaN or infinity; the message says which.
    """
    decoded = decode_audio(path)
    if decoded.warning:
        logger.warning("%s: %s", path, decoded.warning)
    target_rate = sample_rate or decoded.sample_rate
    return resample(decoded.audio, decoded.sample_rate, target_rate), target_rate


def decode_audio(path: Path | str) -> DecodedAudio:
    """Read a recording at its own rate, with a word on damage that could be worked around.

    Raises:
        AudioError: as in `load_audio`.
    """
    with open_audio(path) as stream:
        audio = np.concatenate(list(stream))
        return DecodedAudio(audio, stream.sample_rate, stream.warning)


@contextmanager
def open_audio(path: Path | str, scratch: Path | None = None) -> Iterator[AudioStream]:
    """Open a recording to read it block by block, so that its length does not matter.

    Args:
        path: the file.
        scratch: folder for what ffmpeg decodes; None for the system's.

    Raises:
        AudioError: as in `load_audio`; NaN and infinity show once all is read.
    """
    path = Path(path)
    with ExitStack() as stack:
        try:
            size_bytes = path.stat().st_size
            if path.is_dir():
                raise AudioError(f"'{path}' is a folder, not a recording")
            if size_bytes == 0:
                raise AudioError(f"'{path}' is empty (0 bytes)")
            stream = stack.enter_context(_opened(path, scratch))
        except OSError as error:
            raise AudioError(f"'{path}' cannot be read: {error.strerror or error}") from error
        if not _LOWEST_RATE <= stream.sample_rate <= _HIGHEST_RATE:
            raise AudioError(f"'{path}' claims a sample rate of {stream.sample_rate} Hz, which no recording has")
        yield stream


class AudioStream:
    """A recording at its own rate, to be iterated once: mono float32 blocks [n], together at least one sample.

    Attributes:
        path: the recording, for messages.
        sample_rate: Hz.
    """

    def __init__(self, path: Path, blocks: _FileBlocks, complaint: str = "") -> None:
        """`complaint`: what ffmpeg had to say of `path`, from which it made the file that `blocks` reads."""
        self.path, self.sample_rate = path, blocks.file.samplerate
        self._blocks, self._complaint = blocks, complaint

    def __iter__(self) -> Iterator[np.ndarray]:
        """The blocks. Raises AudioError at the end if there is nothing in them, or NaN or infinity."""
        start, n_bad, first_bad = 0, 0, 0
        for block in self._blocks:
            finite = np.isfinite(block)
            if not finite.all():
                first_bad = first_bad if n_bad else start + int(np.argmin(finite))
                n_bad += int(np.count_nonzero(~finite))
            start += len(block)
            yield block
        if start == 0:
            raise AudioError(f"'{self.path}' holds no samples")
        if n_bad:
            raise AudioError(
                f"'{self.path}' holds {n_bad} NaN or infinite samples (the first at"
                f" {first_bad / self.sample_rate:.3f} s); export it again from its source"
            )

    @property
    def warning(self) -> str | None:
        """Once all is read: what is wrong with the file although it could be used."""
        if self._complaint:
            return f"damaged: {self._blocks.seconds:.2f} s are usable ({self._complaint})"
        return self._blocks.warning


def recorded_seconds(path: Path) -> float | None:
    """Length of a recording in seconds by its header, without decoding it; None where the header does not say.

    Raises:
        AudioError: the file is empty, cannot be read or is not audio.
    """
    try:
        if path.stat().st_size == 0:
            raise AudioError(f"'{path}' is empty (0 bytes)")
        info = soundfile.info(openable(path))
    except OSError as error:
        raise AudioError(f"'{path}' cannot be read: {error.strerror or error}") from error
    except (soundfile.LibsndfileError, TypeError) as error:
        return _seconds_by_ffprobe(path, getattr(error, "error_string", str(error)))
    if _may_hold_more(path, info.frames):
        return _seconds_by_ffprobe(path, _SAYS_EMPTY)
    return info.duration if info.frames < _UNKNOWN_FRAMES else None


def seconds_or_none(path: Path | str) -> float | None:
    """`recorded_seconds`, and None as well for what is no recording: reading it will tell."""
    try:
        return recorded_seconds(Path(path))
    except AudioError:
        return None


def _seconds_by_ffprobe(path: Path, soundfile_reason: str) -> float | None:
    program = shutil.which("ffprobe")
    if program is None:
        raise AudioError(_without_ffmpeg(path, soundfile_reason))
    source = b"file:" + os.fsencode(path.absolute())
    command: list[str | bytes] = [program, "-v", "error", "-protocol_whitelist", "file", "-select_streams", "a:0"]
    command += ["-show_entries", "stream=codec_type:format=duration", "-of", "default=nw=1:nk=1", source]
    run = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    kind, _, seconds = run.stdout.decode("utf-8", "replace").strip().partition("\n")
    if kind != "audio":
        raise AudioError(f"'{path}' is no audio, neither to soundfile ('{soundfile_reason}') nor to ffmpeg")
    return None if seconds in ("", "N/A") else float(seconds)


def resample(audio: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Resample with soxr at its very high quality; the same rate gives the same array.

    Args:
        audio: float32 [N].
        from_rate: Hz.
        to_rate: Hz.

    Returns:
        float32 [N * to_rate / from_rate, rounded up].
    """
    if from_rate == to_rate:
        return audio
    resampled = soxr.resample(audio, from_rate, to_rate, quality="VHQ")
    # soxr rounds the length to nearest; rounded up, no part of the recording is lost.
    samples = -(-len(audio) * to_rate // from_rate)
    return np.pad(resampled[:samples], (0, max(samples - len(resampled), 0)))


@contextmanager
def _opened(path: Path, scratch: Path | None) -> Iterator[AudioStream]:
    """By soundfile, or else by ffmpeg."""
    try:
        blocks = _FileBlocks(path)
    except soundfile.LibsndfileError as error:
        reason = error.error_string
    except TypeError as error:  # headerless .raw
        reason = str(error)
    else:
        with blocks.file:
            if not _may_hold_more(path, blocks.file.frames):
                yield AudioStream(path, blocks)
                return
        reason = _SAYS_EMPTY
    with tempfile.TemporaryDirectory(dir=scratch, prefix=TEMPORARY_PREFIX) as folder:
        blocks, complaint = _decode_with_ffmpeg(path, Path(folder) / "decoded.wav", reason)
        with blocks.file:
            yield AudioStream(path, blocks, complaint or (reason if _is_damage(reason) else ""))


def _may_hold_more(path: Path, frames: int) -> bool:
    """Whether there is sound behind a header that says there is none."""
    return frames == 0 and path.stat().st_size > _LARGEST_EMPTY_BYTES


def _is_damage(soundfile_reason: str) -> bool:
    """Whether soundfile refuses a file that it should read."""
    return soundfile_reason == _SAYS_EMPTY or _MALFORMED in soundfile_reason


class _OnwardFile(soundfile.SoundFile):
    """A file that is only read onwards.

    soundfile seeks to where it is after every block, and libsndfile loses its way there in mp3 of a variable bit rate.
    """

    def seekable(self) -> bool:
        return False


class _FileBlocks:
    """What soundfile reads of a file, mono; a damaged file keeps what lies before the damage."""

    def __init__(self, path: Path) -> None:
        """Opens `path` and reads the first block. Raises LibsndfileError or TypeError if that fails."""
        self.file = _OnwardFile(openable(path))
        self._samples, self._damage, self._is_cut_short = 0, "", _is_cut_short(path)
        try:
            self._first = self._next()
        except soundfile.LibsndfileError:
            self.file.close()
            raise

    def __iter__(self) -> Iterator[np.ndarray]:
        block = self._first
        while len(block):
            yield block
            block = self._next()

    def _next(self) -> np.ndarray:
        """The next float32 [n]; nothing at the end."""
        blocks = [np.zeros(0, dtype=np.float32)]
        try:
            while not self._damage and len(blocks) <= _JOINED_BLOCKS:
                block = self.file.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)
                if not len(block):
                    break
                blocks.append(block.mean(axis=1))
        except soundfile.LibsndfileError as error:
            if self._samples == 0 and len(blocks) == 1:
                raise
            self._damage = error.error_string.removeprefix("Error : ")
        joined = np.concatenate(blocks)
        self._samples += len(joined)
        return joined

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing in the file."""
        return len(self._first) == 0

    @property
    def seconds(self) -> float:
        """What was read so far."""
        return self._samples / self.file.samplerate

    @property
    def warning(self) -> str | None:
        """Once all is read: why that is less than there should be."""
        damage = self._damage
        if self._samples < _TRUNCATED_BELOW * self.file.frames or self._is_cut_short:
            damage = damage or "the file is shorter than its header says"
        return f"truncated: only the first {self.seconds:.2f} s are usable ({damage})" if damage else None


def _decode_with_ffmpeg(path: Path, wav: Path, soundfile_reason: str) -> tuple[_FileBlocks, str]:
    """Makes a wav file of `path`; gives what is in it, and what ffmpeg has to say."""
    program = shutil.which("ffmpeg")
    if program is None:
        raise AudioError(_without_ffmpeg(path, soundfile_reason))
    # `file:` keeps ffmpeg from taking a name for an option or for a network address.
    source = b"file:" + os.fsencode(path.absolute())
    command: list[str | bytes | Path] = [program, "-v", "error", "-nostdin", "-protocol_whitelist", "file"]
    command += ["-i", source, "-map", "0:a:0", "-vn", "-c:a", "pcm_f32le", "-rf64", "auto", wav]
    run = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    complaint = last_line(run.stderr)
    blocks = _FileBlocks(wav) if wav.exists() and wav.stat().st_size else None
    if blocks is None or blocks.is_empty:
        raise AudioError(
            f"'{path}' cannot be decoded: neither soundfile ('{soundfile_reason}') nor ffmpeg ('{complaint}')"
            " finds audio in it; convert it to wav, or remove it"
        )
    return blocks, complaint or (f"status {run.returncode}" if run.returncode else "")


def _without_ffmpeg(path: Path, soundfile_reason: str) -> str:
    return (
        f"'{path}' cannot be decoded: soundfile says '{soundfile_reason}', and the program ffmpeg, which"
        " reads m4a, mp4, aac, webm and more, is not installed; install ffmpeg or convert the file to wav"
    )


def _is_cut_short(path: Path) -> bool:
    """Whether a file ends before its header says; libsndfile reads some kinds of such files without a word."""
    with path.open("rb") as stream:
        head = stream.read(32)
        if head[:4] == _OGG:
            stream.seek(max(path.stat().st_size - _OGG_LONGEST_PAGE, 0))
            page = stream.read().rpartition(_OGG)[2]
            # The last page says that it is.
            return len(page) < 2 or not page[1] & _OGG_LAST
    if head[:4] not in _LENGTHS:
        return False
    start, size, order, left_out = _LENGTHS[head[:4]]
    declared = int.from_bytes(head[start : start + size], order)
    # Writers that stream leave the size open: 0 or all ones.
    return 0 < declared < 256**size - 1 and path.stat().st_size < declared + left_out - 1
