"""The recording to convert: decoded, brought to 16 kHz, high-passed, with its pitch where the host finds it.

All of it block by block, and without a device: it runs in the workers of a data loader.

Legend: N source samples, T samples at 16 kHz, F frames of 10 ms.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from rvc_lightning.audio.decode import open_audio
from rvc_lightning.audio.discovery import display_name
from rvc_lightning.audio.filters import highpass_zero_phase
from rvc_lightning.audio.frames import SAMPLE_RATE
from rvc_lightning.audio.loudness import SILENT_PEAK, peak_of
from rvc_lightning.audio.samples import Samples, SpillBuffer, spans
from rvc_lightning.audio.stages import Resampler
from rvc_lightning.conversion.chunking import reflected
from rvc_lightning.errors import AudioError, ConfigurationError
from rvc_lightning.io.files import digest
from rvc_lightning.pitch.base import PitchExtractor, parts
from rvc_lightning.pitch.curve import PitchCurve

log = logging.getLogger(__name__)

Source: TypeAlias = str | Path | np.ndarray

INPUT_PEAK = 0.95
# The slowest part of the filter's response falls by e^-93 in a second.
_FILTER_REACH = SAMPLE_RATE


@dataclass
class Recording:
    """A source, ready for the networks."""

    audio: SpillBuffer
    """What content and pitch are taken from, at 16 kHz, [T]; nothing at all if the source is silent."""
    samples: int
    """N."""
    sample_rate: int
    """Of the source, in Hz."""
    digest: str
    """Of its samples."""
    file_digest: str = ""
    """Of the bytes of its file, as they were before it was read; nothing for samples."""
    curve: PitchCurve | None = None
    """Pitch to be sung in place of that of the source, from a file."""
    f0_hz: np.ndarray | None = None
    """Pitch of the recording with its reflected ends, 0 = unvoiced, [F]; None until it is measured."""

    def samples_at(self, sample_rate: int) -> int:
        """Its length at another rate, rounded up."""
        return -(-self.samples * sample_rate // self.sample_rate)


def read_recording(source: Source, sample_rate: int | None, folder: Path) -> Recording:
    """Reads a recording of any length.

    Args:
        source: A file, or mono samples at full scale 1, float [N].
        sample_rate: Rate of the samples in Hz; only with samples.
        folder: For what is too long for memory.

    Raises:
        AudioError: The source cannot be read, has more than one channel, or holds NaN.
        ConfigurationError: `sample_rate` is missing or given twice.
    """
    file_digest = digest(source) if isinstance(source, str | Path) and Path(source).is_file() else ""
    with _opened(source, sample_rate, folder) as (blocks, rate):
        resampled = SpillBuffer(folder)
        samples, source_peak, name = _resample_into(resampled, blocks, rate)
    if not samples:
        log.warning("%s holds no samples", _named(source))
    audio = SpillBuffer(folder)
    if source_peak < SILENT_PEAK:
        log.warning("%s is silent (peak below %g): the result is silence", _named(source), SILENT_PEAK)
    else:
        _highpass_into(audio, resampled)
    resampled.remove()
    return Recording(audio, samples, rate, name, file_digest)


def _named(source: Source) -> str:
    """A source in messages."""
    return f"'{display_name(Path(source))}'" if isinstance(source, str | Path) else "The array"


@contextmanager
def _opened(source: Source, sample_rate: int | None, folder: Path) -> Iterator[tuple[Iterator[np.ndarray], int]]:
    """Blocks of float32 samples and their rate in Hz; the errors are those of `read_recording`."""
    if not isinstance(source, str | Path):
        audio = _checked_array(np.asarray(source), sample_rate)
        assert sample_rate is not None
        yield (audio[span] for span in spans(len(audio))), int(sample_rate)
        return
    if sample_rate is not None:
        raise ConfigurationError(f"sample_rate={sample_rate}: a file brings its own rate; leave it out")
    with open_audio(source, scratch=folder) as blocks:
        yield iter(blocks), blocks.sample_rate
        if blocks.warning:
            log.warning("%s: %s", _named(source), blocks.warning)


def _checked_array(audio: np.ndarray, sample_rate: int | None) -> np.ndarray:
    if sample_rate is None or sample_rate <= 0:
        raise ConfigurationError(f"sample_rate={sample_rate}: samples need their rate in Hz")
    if audio.ndim != 1 or not np.issubdtype(audio.dtype, np.floating):
        raise AudioError(f"samples of shape {audio.shape} and type {audio.dtype}; expected mono float [N]")
    if not np.isfinite(audio).all():
        raise AudioError("the samples hold NaN or infinity")
    return audio.astype(np.float32)


def _resample_into(reel: SpillBuffer, blocks: Iterator[np.ndarray], sample_rate: int) -> tuple[int, float, str]:
    """Fills `reel` with the blocks at 16 kHz; gives number, peak and digest of the samples as they came."""
    resampler = Resampler(sample_rate, SAMPLE_RATE)
    state, samples, peak = hashlib.blake2b(digest_size=16), 0, 0.0
    for block in blocks:
        samples, peak = samples + len(block), max(peak, peak_of(block))
        state.update(block.tobytes())
        reel.append(resampler.push(block))
    reel.append(resampler.finish())
    return samples, peak, state.hexdigest()


def _highpass_into(reel: SpillBuffer, audio: Samples) -> None:
    """Fills `reel` with `audio` [T], turned down where it is too loud, without rumble and DC."""
    peak = max((peak_of(audio[span]) for span in spans(len(audio))), default=0.0)
    gain = np.float32(min(1.0, INPUT_PEAK / max(peak, 1e-9)))
    for span in spans(len(audio)):
        first = max(span.start - _FILTER_REACH, 0)
        heard = audio[first : span.stop + _FILTER_REACH] * gain
        reel.append(highpass_zero_phase(heard, SAMPLE_RATE)[span.start - first :][: span.stop - span.start])


def measure_on_host(pitch: PitchExtractor, audio: Samples, context_samples: int) -> np.ndarray:
    """Pitch of `audio` [T] with `context_samples` of its reflection at either end: f0_hz [F], in bounded memory."""
    tracks = [
        pitch(reflected(audio, part.heard.start - context_samples, part.heard.stop - context_samples))[part.kept]
        for part in parts(len(audio) + 2 * context_samples)
    ]
    return np.concatenate(tracks).astype(np.float32)
