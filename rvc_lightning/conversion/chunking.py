"""Cutting a long recording into chunks and joining what they become: pure arithmetic on whole samples and frames.

A chunk is converted together with what surrounds it, so that every part of the result was made knowing both sides.
The context is dropped afterwards, but for a few milliseconds in which neighbours fade into each other:

    source        |<-------- chunk 0 -------->|<---- chunk 1 ---->|<--- chunk 2 --->|
    window 1                       |<-context>|<----------------->|<-context>|
    kept of it                               <======================>            fades around each cut

The outer contexts are the recording reflected at its ends. Cuts lie where the recording is quiet, and on multiples of
20 ms, so that content and pitch frames of a chunk are those of the whole.

Where nothing is quiet, a cut goes through sound, and no later than the search for it ends. Neighbours go on with the
phase of the pitch and the random draws of the whole recording, so they are nearly the same signal where they overlap.
Fades of signals that agree must sum to one, as linear ones do: equal power is for signals that have nothing in common,
and would lift a steady tone by 3 dB.

Legend: N source samples, F frames of 10 ms, S output samples.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rvc_lightning.audio.frames import CONTENT_SAMPLES, FRAME_SAMPLES, SAMPLE_RATE
from rvc_lightning.audio.samples import Growing, Samples, spans
from rvc_lightning.config.validation import check_whole
from rvc_lightning.errors import ConfigurationError

FADE_FRAMES = 4
"""Length of the fade around a cut, in frames of 10 ms; even, since half of it lies on either side."""


@dataclass(frozen=True)
class ChunkLengths:
    """How long recordings are cut.

    The peers cut every 38 s (specification 10.1). Memory grows with the length of a chunk, and the work of attention
    with its square, while what an encoder hears of speech lies within seconds.

    Raises:
        ConfigurationError: Cuts could meet, or fades would reach beyond the context.
    """

    context_seconds: int = 1
    """Converted on either side of a chunk, in seconds."""
    search_seconds: int = 4
    """A cut is sought this far to either side of where it is due, in seconds."""
    spacing_seconds: int = 24
    """Cuts are due at multiples of this, in seconds."""
    longest_seconds: int = 28
    """What is no longer than this is not cut, in seconds."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            check_whole(f"chunks.{name}", value, 0)
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

    def window(self, audio: Samples, context_samples: int) -> np.ndarray:
        """The chunk with `context_samples` of what surrounds it on either side, of the recording [N]."""
        return reflected(audio, self.start - context_samples, self.end + context_samples)


def split(audio: Samples, lengths: ChunkLengths, stretches: Sequence[tuple[int, int]] | None = None) -> list[Chunk]:
    """Chunks that cover `audio` [N], or the stretches of it, without gap or overlap, cut at quiet places.

    Args:
        audio: The recording.
        lengths: How long chunks are.
        stretches: (start, end) of what to cover, in order and apart, on multiples of 320 but for the end of `audio`;
            None is all of it.
    """
    chunks = []
    for start, end in [(0, len(audio))] if stretches is None else stretches:
        borders = [start, *cut_points(audio, lengths, start, end), end]
        chunks += [Chunk(first, last) for first, last in itertools.pairwise(borders)]
    return chunks


def cut_points(audio: Samples, lengths: ChunkLengths, start: int = 0, end: int | None = None) -> list[int]:
    """Increasing multiples of 320 inside `audio` [start, end): the quietest places near every multiple of the spacing.

    Quiet is where the absolute samples of 10 ms sum to the least (defect I3: the peers sum the samples themselves, so
    that a loud hum counts as quiet).
    """
    end = len(audio) if end is None else end
    if end - start <= lengths.longest_seconds * SAMPLE_RATE:
        return []
    search, spacing = lengths.search_seconds * SAMPLE_RATE, lengths.spacing_seconds * SAMPLE_RATE
    # The last chunk is never shorter than a second: fades must fit into it.
    due = range(start + spacing, end - search - SAMPLE_RATE, spacing)
    return [_quietest(audio, place - search, place + search) for place in due]


def _quietest(audio: Samples, first: int, last: int) -> int:
    """The multiple of 320 next below the middle of the quietest 10 ms of audio [first, last)."""
    half = FRAME_SAMPLES // 2
    total = np.concatenate([[0.0], np.abs(audio[first - half : last + half], dtype=np.float64).cumsum()])
    loudness = total[FRAME_SAMPLES:] - total[:-FRAME_SAMPLES]
    return (first + int(loudness.argmin())) // CONTENT_SAMPLES * CONTENT_SAMPLES


def reflected(audio: Samples, start: int, stop: int) -> np.ndarray:
    """Samples `start` to `stop` of `audio` [N], N >= 1, reflected at both ends as often as it takes: [stop - start]."""
    if start >= 0 and stop <= len(audio):
        return audio[start:stop]
    # numpy.pad would take a turn for every reflection, and the whole recording.
    period = max(2 * (len(audio) - 1), 1)
    place = np.arange(start, stop) % period
    place = np.minimum(place, period - place)
    first = int(place.min())
    return audio[first : int(place.max()) + 1][place - first]


class Joiner:
    """Puts together what the chunks of a recording became, as they come."""

    def __init__(self, joined: Growing, context_samples: int, hop_samples: int, samples: int) -> None:
        """Begins with nothing.

        Args:
            joined: Where the result goes.
            context_samples: Context on either side of each chunk, in source samples.
            hop_samples: Output samples of a frame of 10 ms.
            samples: Length of the result.
        """
        self.joined = joined
        self._context = context_samples // FRAME_SAMPLES * hop_samples
        self._hop_samples, self._samples = hop_samples, samples
        self._half = FADE_FRAMES // 2 * hop_samples
        self._fading: np.ndarray | None = None

    def end(self) -> None:
        """Makes what is left silence."""
        self._be_silent_until(self._samples)

    def add(self, piece: np.ndarray, chunk: Chunk, *, is_followed: bool) -> None:
        """Adds the output of the next chunk. Where no chunk is, there is silence.

        Args:
            piece: Of the chunk with its contexts, [S]; frame-aligned at the start, and reaching at least half a fade
                beyond the chunk's end.
            chunk: Which.
            is_followed: Whether the next one begins where this one ends.
        """
        start = chunk.start // FRAME_SAMPLES * self._hop_samples
        end = min(-(-chunk.end // FRAME_SAMPLES) * self._hop_samples, self._samples)
        first, last = start - self._half * (self._fading is not None), end + self._half * is_followed
        skipped = self._context - (start - first)
        part = piece[skipped : skipped + last - first].astype(np.float32)
        ramp = (np.arange(2 * self._half, dtype=np.float32) + 0.5) / (2 * self._half)
        # Next to a gap the fade lies inside the chunk: the gap stays silent.
        if first > 0:
            part[: len(ramp)] *= ramp[: len(part)]
        if last < self._samples:
            part[-len(ramp) :] *= 1 - ramp[-len(part) :]
        if self._fading is None:
            self._be_silent_until(first)
        else:
            part[: len(ramp)] += self._fading
        part, self._fading = np.split(part, [-len(ramp)]) if is_followed else (part, None)
        self.joined.append(part)

    def _be_silent_until(self, end: int) -> None:
        for span in spans(end - len(self.joined)):
            self.joined.append(np.zeros(span.stop - span.start, np.float32))
