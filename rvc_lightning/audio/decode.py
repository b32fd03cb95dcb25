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
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from rvc_lightning.audio.encode import last_line, openable
from rvc_lightning.errors import AudioError

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

# A damaged file loses at most one block beside the damage, so blocks are short.
_BLOCK_FRAMES = 4096
# Lengths that encoders merely estimate (mp3) may be a little off in a whole file.
_TRUNCATED_BELOW = 0.98


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
    path = Path(path)
    try:
        size_bytes = path.stat().st_size
        if path.is_dir():
            raise AudioError(f"'{path}' is a folder, not a recording")
        if size_bytes == 0:
            raise AudioError(f"'{path}' is empty (0 bytes)")
        decoded = _decode(path)
    except OSError as error:
        raise AudioError(f"'{path}' cannot be read: {error.strerror or error}") from error
    return _checked(path, decoded)


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


def _decode(path: Path) -> DecodedAudio:
    try:
        return _decode_with_soundfile(path)
    except soundfile.LibsndfileError as error:
        return _decode_with_ffmpeg(path, error.error_string)
    except TypeError as error:  # headerless .raw
        return _decode_with_ffmpeg(path, str(error))


class _OnwardFile(soundfile.SoundFile):
    """A file that is only read onwards.

    soundfile seeks to where it is after every block, and libsndfile loses its way there in mp3 of a variable bit rate.
    """

    def seekable(self) -> bool:
        return False


def _decode_with_soundfile(path: Path) -> DecodedAudio:
    """Read block by block, so that a damaged file keeps what lies before the damage."""
    blocks: list[np.ndarray] = []
    damage: str | None = None
    with _OnwardFile(openable(path)) as file:
        sample_rate, expected = file.samplerate, file.frames
        try:
            while len(block := file.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)):
                blocks.append(block.mean(axis=1))
        except soundfile.LibsndfileError as error:
            if not blocks:
                raise
            damage = error.error_string.removeprefix("Error : ")
    audio = np.concatenate(blocks) if blocks else np.zeros(0, dtype=np.float32)
    if len(audio) < _TRUNCATED_BELOW * expected or _riff_is_cut_short(path):
        damage = damage or "the file is shorter than its header says"
    warning = f"truncated: only the first {len(audio) / sample_rate:.2f} s are usable ({damage})"
    return DecodedAudio(audio, sample_rate, warning if damage else None)


def _decode_with_ffmpeg(path: Path, soundfile_reason: str) -> DecodedAudio:
    program = shutil.which("ffmpeg")
    if program is None:
        raise AudioError(
            f"'{path}' cannot be decoded: soundfile says '{soundfile_reason}', and the program ffmpeg, which"
            " reads m4a, mp4, aac, webm and more, is not installed; install ffmpeg or convert the file to wav"
        )
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "decoded.wav"
        # `file:` keeps ffmpeg from taking a name for an option or for a network address.
        source = b"file:" + os.fsencode(path.absolute())
        command: list[str | bytes | Path] = [program, "-v", "error", "-nostdin", "-protocol_whitelist", "file"]
        command += ["-i", source, "-map", "0:a:0", "-vn", "-c:a", "pcm_f32le", "-rf64", "auto", wav]
        run = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
        complaint = last_line(run.stderr)
        decoded = _decode_with_soundfile(wav) if wav.exists() and wav.stat().st_size else None
    if decoded is None or len(decoded.audio) == 0:
        raise AudioError(
            f"'{path}' cannot be decoded: neither soundfile ('{soundfile_reason}') nor ffmpeg ('{complaint}')"
            " finds audio in it; convert it to wav, or remove it"
        )
    if run.returncode or complaint:
        seconds = len(decoded.audio) / decoded.sample_rate
        return DecodedAudio(decoded.audio, decoded.sample_rate, f"damaged: {seconds:.2f} s are usable ({complaint})")
    return decoded


def _checked(path: Path, decoded: DecodedAudio) -> DecodedAudio:
    audio = decoded.audio
    if len(audio) == 0:
        raise AudioError(f"'{path}' holds no samples")
    if not _LOWEST_RATE <= decoded.sample_rate <= _HIGHEST_RATE:
        raise AudioError(f"'{path}' claims a sample rate of {decoded.sample_rate} Hz, which no recording has")
    finite = np.isfinite(audio)
    if not finite.all():
        first_seconds = int(np.argmin(finite)) / decoded.sample_rate
        raise AudioError(
            f"'{path}' holds {np.count_nonzero(~finite)} NaN or infinite samples (the first at"
            f" {first_seconds:.3f} s); export it again from its source"
        )
    return decoded


def _riff_is_cut_short(path: Path) -> bool:
    """Whether a wav file ends before its header says; libsndfile reads such a file without a word."""
    with path.open("rb") as stream:
        head = stream.read(8)
    declared = int.from_bytes(head[4:8], "little")
    # Writers that stream leave the size open: 0 or all ones.
    return head[:4] == b"RIFF" and 0 < declared < 0xFFFFFFFF and path.stat().st_size < declared + 8 - 1
