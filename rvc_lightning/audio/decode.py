"""Decode recordings: any file to mono float32, or to its channels, at any rate.

soundfile reads uncompressed formats and ogg (`soundfile_reader`), PyAV decodes mp3, flac and joined ogg in this
process (`media`), and all other media (m4a, mp4, aac, webm, …) in a child process (`media_process`).

Legend: N samples, C channels.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from av.error import FFmpegError

from rvc_lightning.audio.loudness import SILENT_PEAK, peak_of
from rvc_lightning.audio.media import AUDIO_FORMATS, MediaReader
from rvc_lightning.audio.media_process import MediaProcess
from rvc_lightning.audio.reader import AudioReader
from rvc_lightning.audio.soundfile_reader import SoundfileReader
from rvc_lightning.errors import AudioError

logger = logging.getLogger(__name__)

AUDIO_EXTENSIONS = frozenset(
    (
        *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64", ".rf64"),
        *(".m4a", ".mp4", ".m4b", ".aac", ".webm", ".mka", ".mkv", ".mov", ".wma", ".amr", ".ac3", ".3gp"),
        *(".ts", ".avi", ".flv", ".ape", ".wv"),
    )
)
"""Lower-case extensions of recordings, by which a folder is searched."""

_MIN_RATE, _MAX_RATE = 4000, 768000
# Part of libsndfile's error for files of a known format that are damaged.
_MALFORMED = "malformed"

# Estimated durations of complete files may be slightly off.
_TRUNCATED_BELOW = 0.98
# Power of the mean of channels to that of unrelated channels, below which they cancel each other: -13 dB. Two channels
# of which one is inverted fall below it if their levels differ by less than 2.5 dB.
_CANCELLED_SHARE = 0.05
_MAX_CHANNELS = 2


@dataclass(frozen=True)
class DecodedAudio:
    """Content of a recording.

    Attributes:
        audio: Mono, full scale 1, float32 [N].
        sample_rate: In Hz.
        warning: Damage and deviations despite which the file is usable; None without any.
    """

    audio: np.ndarray
    sample_rate: int
    warning: str | None = None


def load_audio(path: Path | str, sample_rate: int | None = None) -> tuple[np.ndarray, int]:
    """Read a recording as mono, the mean of its channels; log a warning if it is damaged.

    Args:
        path: The file.
        sample_rate: Rate to resample to in Hz; None keeps the rate of the file.

    Returns:
        Samples, float32 [N], and their rate in Hz.

    Raises:
        AudioError: The file is missing, empty, not audio, or contains NaN or infinity.
    """
    decoded = decode_audio(path)
    if decoded.warning:
        logger.warning("%s: %s", path, decoded.warning)
    target_rate = sample_rate or decoded.sample_rate
    return resample(decoded.audio, decoded.sample_rate, target_rate), target_rate


def decode_audio(path: Path | str) -> DecodedAudio:
    """Read a recording at its own rate.

    Raises:
        AudioError: As in `load_audio`.
    """
    with open_audio(path) as stream:
        audio = np.concatenate(list(stream))
        return DecodedAudio(audio, stream.sample_rate, stream.warning)


def load_channels(path: Path | str) -> tuple[np.ndarray, int]:
    """Read a mono or stereo recording with its channels; log a warning if it is damaged.

    Returns:
        Samples, float32 [N, C], and their rate in Hz.

    Raises:
        AudioError: As in `load_audio`, or the file has more than two channels.
    """
    with open_audio(path, keep_channels=True) as stream:
        audio = np.concatenate(list(stream))
        if stream.warning:
            logger.warning("%s: %s", path, stream.warning)
        return audio, stream.sample_rate


@contextmanager
def open_audio(path: Path | str, *, keep_channels: bool = False) -> Iterator[AudioStream]:
    """Open a recording of any length to read it block by block.

    Args:
        path: The file.
        keep_channels: Whether blocks keep the one or two channels of the file, [N, C], instead of their mean, [N].

    Raises:
        AudioError: As in `load_audio`, or more than two channels are to be kept; for NaN and infinity, after the last
            block.
    """
    path = Path(path)
    with ExitStack() as stack:
        try:
            if path.stat().st_size == 0:
                raise AudioError(f"'{path}' is empty (0 bytes)")
            reader = _open_reader(path, stack)
        except OSError as error:
            raise AudioError(f"'{path}' cannot be read: {error.strerror or error}") from error
        if not _MIN_RATE <= reader.sample_rate <= _MAX_RATE:
            raise AudioError(f"'{path}' has an invalid sample rate of {reader.sample_rate} Hz")
        yield AudioStream(path, reader, _Channels(path) if keep_channels else _Mixer())


def recorded_seconds(path: Path | str) -> float | None:
    """Return the duration of a recording in seconds from its header, without decoding it; None if unknown.

    Raises:
        AudioError: The file is empty, cannot be read or is not audio.
    """
    with open_audio(path) as stream:
        return stream.seconds


def seconds_or_none(path: Path | str) -> float | None:
    """Return `recorded_seconds`, and None for files that are not recordings as well."""
    try:
        return recorded_seconds(path)
    except AudioError:
        return None


def resample(audio: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Resample with soxr at very high quality; return the same array if the rates are equal.

    Args:
        audio: float32 [N].
        from_rate: In Hz.
        to_rate: In Hz.

    Returns:
        float32 [N * to_rate / from_rate, rounded up].
    """
    if from_rate == to_rate:
        return audio
    resampled = soxr.resample(audio, from_rate, to_rate, quality="VHQ")
    # soxr rounds the length to nearest; rounding up keeps the whole recording.
    samples = -(-len(audio) * to_rate // from_rate)
    return np.pad(resampled[:samples], (0, max(samples - len(resampled), 0)))


class AudioStream:
    """A recording at its own rate, to be iterated once: float32 blocks [N] or [N, C], in total at least one sample.

    Attributes:
        path: The recording, for messages.
        sample_rate: In Hz.
        seconds: Duration by the header or an estimate; None if unknown.
    """

    def __init__(self, path: Path, reader: AudioReader, mixer: _Mixer | _Channels) -> None:
        self.path, self.sample_rate, self.seconds = path, reader.sample_rate, reader.seconds
        self._reader, self._mixer, self._samples = reader, mixer, 0

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield the blocks. Raises AudioError if decoding fails, and at the end if the samples cannot be used."""
        n_bad, first_bad = 0, 0
        for channels in self._blocks():
            block = self._mixer.mix(channels)
            finite = np.isfinite(block) if block.ndim == 1 else np.isfinite(block).all(axis=1)
            if not finite.all():
                first_bad = first_bad if n_bad else self._samples + int(np.argmin(finite))
                n_bad += int(np.count_nonzero(~finite))
            self._samples += len(block)
            yield block
        if n_bad or self._samples == 0:
            problem = (
                f"{n_bad} NaN or infinite samples (the first at {first_bad / self.sample_rate:.3f} s)"
                if n_bad
                else "no samples"
            )
            raise AudioError(f"'{self.path}' contains {problem}; export it again from its source")

    @property
    def warning(self) -> str | None:
        """Damage and deviations of the file, complete after iteration; None without any."""
        return "; ".join([*self._truncation(), *self._reader.warnings, *self._mixer.warnings]) or None

    def _blocks(self) -> Iterator[np.ndarray]:
        try:
            yield from self._reader
        except AudioError as error:
            raise AudioError(f"'{self.path}' cannot be decoded to its end: {error}") from error

    def _truncation(self) -> list[str]:
        seconds, stated, damage = self._samples / self.sample_rate, self._reader.whole_seconds, self._reader.damage
        if not damage and stated is not None and seconds < _TRUNCATED_BELOW * stated:
            damage = "the file is shorter than its header states"
        return [f"truncated: only the first {seconds:.2f} s are usable ({damage})"] if damage else []


class _Mixer:
    """Downmix to mono by the mean of the channels, or by one channel if they cancel each other.

    Attributes:
        warnings: A warning about channels that cancel each other.
    """

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self._channel: int | None = None

    def mix(self, block: np.ndarray) -> np.ndarray:
        """Mix float32 [N, C] to [N]."""
        if block.shape[1] == 1:
            return block[:, 0]
        mean = block.mean(axis=1)
        if self._channel is None and peak_of(block) >= SILENT_PEAK:
            powers = np.square(block, dtype=np.float64).mean(axis=0)
            # Unrelated channels add up in power.
            if np.square(mean, dtype=np.float64).mean() < _CANCELLED_SHARE * powers.sum() / len(powers) ** 2:
                self._channel = int(np.argmax(powers))
                self.warnings.append(
                    f"its channels cancel each other (one is inverted): only channel {self._channel + 1} is used"
                )
        return mean if self._channel is None else np.ascontiguousarray(block[:, self._channel])


class _Channels:
    """One or two channels as they are."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.warnings: list[str] = []

    def mix(self, block: np.ndarray) -> np.ndarray:
        """Return float32 [N, C] unchanged. Raises AudioError if C is greater than two."""
        if block.shape[1] > _MAX_CHANNELS:
            raise AudioError(f"'{self._path}' has {block.shape[1]} channels: convert it to stereo first")
        return block


def _open_reader(path: Path, stack: ExitStack) -> AudioReader:
    """Open the first decoder that accepts the file."""
    decoders: tuple[Callable[[], AudioReader], ...] = (
        lambda: SoundfileReader(path),
        lambda: MediaReader(stack.enter_context(path.open("rb")), AUDIO_FORMATS),
        lambda: MediaProcess(path),
    )
    reasons = []
    for open_file in decoders:
        try:
            reader = stack.enter_context(closing(open_file()))
        except (soundfile.LibsndfileError, TypeError, FFmpegError, AudioError) as error:
            reasons.append(getattr(error, "error_string", str(error)))
            continue
        if reasons and _MALFORMED in reasons[0]:
            reader.warnings.append(f"damaged: soundfile rejects it ('{reasons[0]}')")
        return reader
    raise AudioError(
        f"'{path}' cannot be decoded: soundfile ('{reasons[0]}') and FFmpeg ('{reasons[-1]}') reject it; convert it to "
        "wav, or remove it"
    )
