"""Read a recording for conversion: decode, resample to 16 kHz, high-pass, and measure pitch if the host does so.

Works block by block and without a device, in the workers of a data loader.

Legend: N source samples, T samples at 16 kHz, F frames of 10 ms.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np

from rvc_lightning.audio.decode import open_audio
from rvc_lightning.audio.discovery import display_name
from rvc_lightning.audio.filters import highpass_zero_phase
from rvc_lightning.audio.frames import SAMPLE_RATE
from rvc_lightning.audio.loudness import SILENT_PEAK, peak_of
from rvc_lightning.audio.samples import Samples, SpillBuffer, spans
from rvc_lightning.audio.stages import Resampler
from rvc_lightning.conversion.chunking import reflected
from rvc_lightning.errors import AudioError
from rvc_lightning.io.files import digest
from rvc_lightning.pitch.base import PitchExtractor, parts
from rvc_lightning.pitch.curve import PitchCurve

log = logging.getLogger(__name__)

Source: TypeAlias = str | Path | np.ndarray

INPUT_PEAK = 0.95
# The slowest component of the filter's response decays by e^-93 within a second.
_FILTER_CONTEXT = SAMPLE_RATE


@dataclass
class Recording:
    """A source that is ready for the networks."""

    audio: SpillBuffer
    """Audio at 16 kHz for content and pitch, [T]; empty if the source is silent."""
    samples: int
    """N."""
    sample_rate: int
    """Sampling rate of the source in Hz."""
    digest: str
    """Digest of its samples."""
    file_digest: str = ""
    """Digest of its file before it was read; empty for samples."""
    curve: PitchCurve | None = None
    """Pitch from a file that replaces the measured pitch."""
    f0_hz: np.ndarray | None = None
    """Pitch in Hz of the recording with its reflected ends, 0 = unvoiced, [F]; None until it is measured."""

    def samples_at(self, sample_rate: int) -> int:
        """Return the length at another sampling rate, rounded up."""
        return -(-self.samples * sample_rate // self.sample_rate)


class _Measured(NamedTuple):
    samples: int
    peak: float
    digest: str


def read_recording(source: Source, sample_rate: int | None, folder: Path) -> Recording:
    """Read a recording of any length.

    Args:
        source: A file, or mono samples at full scale 1, float [N].
        sample_rate: Sampling rate of the samples in Hz; None for a file.
        folder: Folder for temporary files of long recordings.

    Raises:
        AudioError: The source cannot be read, has more than one channel, or contains NaN; or `sample_rate` is missing
            for samples or given for a file.
    """
    with _opened(source, sample_rate) as (blocks, rate):
        file_digest = digest(source) if isinstance(source, str | Path) else ""
        resampled = SpillBuffer(folder)
        measured = _resample(blocks, rate, resampled)
    audio = SpillBuffer(folder)
    if not measured.samples:
        log.warning("%s is empty", _display(source))
    elif measured.peak < SILENT_PEAK:
        log.warning("%s is silent (peak below %g): the result is silence", _display(source), SILENT_PEAK)
    else:
        _highpass(resampled, audio)
    resampled.remove()
    return Recording(audio, measured.samples, rate, measured.digest, file_digest)


def _display(source: Source) -> str:
    return f"'{display_name(Path(source))}'" if isinstance(source, str | Path) else "The array"


@contextmanager
def _opened(source: Source, sample_rate: int | None) -> Iterator[tuple[Iterator[np.ndarray], int]]:
    """Yield blocks of float32 samples and their rate in Hz; raises as `read_recording`."""
    if isinstance(source, str | Path) and sample_rate is None:
        with open_audio(source) as blocks:
            yield iter(blocks), blocks.sample_rate
            if blocks.warning:
                log.warning("%s: %s", _display(source), blocks.warning)
        return
    audio, rate = np.asarray(source), sample_rate or 0
    if rate <= 0 or audio.ndim != 1 or not np.issubdtype(audio.dtype, np.floating) or not np.isfinite(audio).all():
        raise AudioError(
            f"samples of shape {audio.shape} and type {audio.dtype} with sample_rate={sample_rate}: expected mono "
            "float [N] without NaN and infinity with their rate in Hz, or a file without a rate"
        )
    audio = audio.astype(np.float32)
    yield (audio[span] for span in spans(len(audio))), rate


def _resample(blocks: Iterator[np.ndarray], sample_rate: int, resampled: SpillBuffer) -> _Measured:
    """Resample blocks to 16 kHz into a buffer; return number, peak and digest of the original samples."""
    resampler = Resampler(sample_rate, SAMPLE_RATE)
    state, samples, peak = hashlib.blake2b(digest_size=16), 0, 0.0
    for block in blocks:
        samples, peak = samples + len(block), max(peak, peak_of(block))
        state.update(block.tobytes())
        resampled.append(resampler.push(block))
    resampled.append(resampler.finish())
    return _Measured(samples, peak, state.hexdigest())


def _highpass(audio: Samples, filtered: SpillBuffer) -> None:
    """Remove rumble and DC from audio [T] into a buffer, after reducing its level if it is too loud."""
    peak = max((peak_of(audio[span]) for span in spans(len(audio))), default=0.0)
    gain = np.float32(min(1.0, INPUT_PEAK / max(peak, 1e-9)))
    for span in spans(len(audio)):
        first = max(span.start - _FILTER_CONTEXT, 0)
        block = highpass_zero_phase(audio[first : span.stop + _FILTER_CONTEXT] * gain, SAMPLE_RATE)
        filtered.append(block[span.start - first :][: span.stop - span.start])


def measure_on_host(pitch: PitchExtractor, audio: Samples, context_samples: int) -> np.ndarray:
    """Measure the pitch of `audio` [T] with `context_samples` of reflection at either end, in bounded memory.

    Returns:
        Pitch in Hz, float32 [F], 0 = unvoiced.
    """
    tracks = [
        pitch(reflected(audio, part.samples.start - context_samples, part.samples.stop - context_samples))[part.frames]
        for part in parts(len(audio) + 2 * context_samples)
    ]
    return np.concatenate(tracks).astype(np.float32)
