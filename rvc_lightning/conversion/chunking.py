"""Cutting a long recording into chunks and joining what they become: pure arithmetic on whole samples and frames.

A chunk is converted together with what surrounds it, so that every part of the result was made knowing both sides.
The context is dropped afterwards, but for a few milliseconds in which neighbours fade into each other:

    source        |<-------- chunk 0 -------->|<---- chunk 1 ---->|<--- chunk 2 --->|
    chunk 1                        |<-context>|<----------------->|<-context>|
    kept of it                               <======================>            fades around each cut

The outer contexts are the recording reflected at its ends. Cuts lie where the recording is quiet, and on multiples of
20 ms, so that content and pitch frames of a chunk are those of the whole.

Legend: N source samples, F frames of 10 ms, S output samples.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from rvc_lightning.errors import ConfigurationError

SAMPLE_RATE = 16000
FRAME_SAMPLES = 160
GRID_SAMPLES = 320
"""Cuts are multiples of a content frame of 20 ms."""
FADE_FRAMES = 2
"""Length of the fade around a cut, in frames of 10 ms; even, since half of it lies on either side."""


@dataclass(frozen=True)
class ChunkLengths:
    """How long recordings are cut (specification 10.1: the constants of the peers).

    Raises:
        ConfigurationError: Cuts could meet, or fades would reach beyond the context.
    """

    context_seconds: int = 1
    """Converted on either side of a chunk, in seconds."""
    search_seconds: int = 6
    """A cut is sought this far to either side of where it is due, in seconds."""
    spacing_seconds: int = 38
    """Cuts are due at multiples of this, in seconds."""
    longest_seconds: int = 41
    """What is no longer than this is not cut, in seconds."""

    def __post_init__(self) -> None:
        if self.context_seconds < 1 or not 1 <= self.search_seconds < self.spacing_seconds / 2:
            raise ConfigurationError(f"{self}: context and search take at least 1 s, spacing over twice the search")

    @property
    def context_samples(self) -> int:
        """Samples of source on either side of a chunk."""
        return self.context_seconds * SAMPLE_RATE


@dataclass(frozen=True)
class Chunk:
    """A stretch of the source, in samples at 16 kHz; starts lie on multiples of 320."""

    start: int
    end: int

    def padded(self, context_samples: int) -> slice:
        """Where the chunk with its context lies in the recording padded by `context_samples` on either side."""
        return slice(self.start, self.end + 2 * context_samples)


def split(audio: np.ndarray, lengths: ChunkLengths, stretches: Sequence[tuple[int, int]] | None = None) -> list[Chunk]:
    """Chunks that cover `audio` [N], or the stretches of it, without gap or overlap, cut at quiet places.

    Args:
        audio: The recording.
        lengths: How long chunks are.
        stretches: (start, end) of what to cover, in order and apart, on multiples of 320 but for the end of `audio`;
            None is all of it.
    """
    chunks = []
    for start, end in [(0, len(audio))] if stretches is None else stretches:
        borders = [start, *(start + cut for cut in cut_points(audio[start:end], lengths)), end]
        chunks += [Chunk(first, last) for first, last in itertools.pairwise(borders)]
    return chunks


def cut_points(audio: np.ndarray, lengths: ChunkLengths) -> list[int]:
    """Increasing multiples of 320 inside `audio` [N]: the quietest places near every multiple of the spacing.

    Quiet is where the absolute samples of 10 ms sum to the least (defect I3: the peers sum the samples themselves, so
    that a loud hum counts as quiet).
    """
    if len(audio) <= lengths.longest_seconds * SAMPLE_RATE:
        return []
    search, spacing = lengths.search_seconds * SAMPLE_RATE, lengths.spacing_seconds * SAMPLE_RATE
    # The last chunk is never shorter than a second: fades must fit into it.
    due = range(spacing, len(audio) - search - SAMPLE_RATE, spacing)
    return [_quietest(audio, place - search, place + search) for place in due]


def _quietest(audio: np.ndarray, first: int, last: int) -> int:
    """The multiple of 320 next below the middle of the quietest 10 ms of audio [first, last)."""
    half = FRAME_SAMPLES // 2
    total = np.concatenate([[0.0], np.abs(audio[first - half : last + half], dtype=np.float64).cumsum()])
    loudness = total[FRAME_SAMPLES:] - total[:-FRAME_SAMPLES]
    return (first + int(loudness.argmin())) // GRID_SAMPLES * GRID_SAMPLES


def pad(audio: np.ndarray, context_samples: int) -> np.ndarray:
    """`audio` [N], N >= 1, with `context_samples` of its reflection on either side; short audio is reflected often."""
    # numpy.pad would take a turn for every reflection.
    period = max(2 * (len(audio) - 1), 1)
    place = np.arange(-context_samples, len(audio) + context_samples) % period
    return audio[np.minimum(place, period - place)]


def join(
    pieces: Iterable[np.ndarray], chunks: Sequence[Chunk], context_samples: int, hop_samples: int, samples: int
) -> np.ndarray:
    """What the chunks became, as one recording.

    Args:
        pieces: Of each chunk, its output with that of its contexts, [S]; frame-aligned at the start, and reaching
            at least a fade beyond the chunk's end.
        chunks: The chunks of the source.
        context_samples: Context on either side of each chunk, in source samples.
        hop_samples: Output samples of a frame of 10 ms.
        samples: Length of the result.

    Returns:
        [samples]. Neighbours that agree around a cut are joined exactly: the fades are linear and sum to one. Where no
        chunk is, there is silence.
    """
    joined = np.zeros(samples, dtype=np.float32)
    half = FADE_FRAMES // 2 * hop_samples
    for piece, chunk, (fades_in, fades_out) in zip(pieces, chunks, _neighbours(chunks), strict=True):
        start = chunk.start // FRAME_SAMPLES * hop_samples
        end = min(-(-chunk.end // FRAME_SAMPLES) * hop_samples, samples)
        first, last = start - half * fades_in, end + half * fades_out
        skip = context_samples // FRAME_SAMPLES * hop_samples - (start - first)
        part = piece[skip : skip + last - first].astype(np.float32)
        ramp = (np.arange(2 * half, dtype=np.float32) + 0.5) / max(2 * half, 1)
        # Next to a gap the fade lies inside the chunk: the gap stays silent.
        if first > 0:
            part[: 2 * half] *= ramp[: len(part)]
        if last < samples:
            part[-2 * half :] *= 1 - ramp[-len(part) :]
        joined[first:last] += part
    return joined


def _neighbours(chunks: Sequence[Chunk]) -> Iterator[tuple[bool, bool]]:
    """Of each chunk, whether another ends where it starts, and whether another starts where it ends."""
    starts, ends = {chunk.start for chunk in chunks}, {chunk.end for chunk in chunks}
    return ((chunk.start in ends, chunk.end in starts) for chunk in chunks)
