"""Cut a long recording into chunks and join their outputs, in whole samples and frames.

A chunk is converted together with context on both sides. The context is then dropped, except for a few milliseconds in
which neighbours are cross-faded:

    source        |<-------- chunk 0 -------->|<---- chunk 1 ---->|<--- chunk 2 --->|
    window 1                       |<-context>|<----------------->|<-context>|
    kept of it                               <======================>            fades around each cut

The recording is reflected at its ends. Cuts lie in quiet places and on multiples of 20 ms, so that the content and
pitch frames of a chunk are those of the whole recording.

Where no place is quiet, a cut goes through sound. Neighbours share the phase of the pitch and the random numbers of the
whole recording, so they nearly agree where they overlap, and linear fades, which sum to one, keep the level. Fades of
equal power are for uncorrelated signals, and would raise a steady tone by 3 dB.

Legend: N source samples, F frames of 10 ms, S output samples.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rvc_lightning.audio.frames import CONTENT_SAMPLES, FRAME_SAMPLES, SAMPLE_RATE
from rvc_lightning.audio.samples import Samples, SampleSink, spans
from rvc_lightning.conversion.lengths import ChunkLengths

FADE_FRAMES = 4
"""Length of the fade around a cut, in frames of 10 ms; even, since half of it lies on either side."""


@dataclass(frozen=True)
class Chunk:
    """Part of the source, in samples at 16 kHz; starts at a multiple of 320."""

    start: int
    end: int

    def window(self, audio: Samples, context_samples: int) -> np.ndarray:
        """Return the chunk of the recording [N] with `context_samples` on either side."""
        return reflected(audio, self.start - context_samples, self.end + context_samples)


def split(audio: Samples, lengths: ChunkLengths, parts: Sequence[tuple[int, int]] | None = None) -> list[Chunk]:
    """Return chunks that cover `audio` [N], or parts of it, without gap or overlap, cut at quiet places.

    Args:
        audio: Recording.
        lengths: Lengths of the chunks.
        parts: (start, end) of each part to cover, in order and without overlap, at multiples of 320 except for the end
            of `audio`; None covers all of it.
    """
    chunks = []
    for start, end in [(0, len(audio))] if parts is None else parts:
        borders = [start, *cut_points(audio, lengths, start, end), end]
        chunks += [Chunk(first, last) for first, last in itertools.pairwise(borders)]
    return chunks


def cut_points(audio: Samples, lengths: ChunkLengths, start: int = 0, end: int | None = None) -> list[int]:
    """Return the quietest place of `audio` [start, end) near each multiple of the spacing, as multiples of 320.

    The quietest place has the smallest sum of absolute samples over 10 ms (SPECIFICATION.md, section 10.3).
    """
    end = len(audio) if end is None else end
    if end - start <= lengths.longest_seconds * SAMPLE_RATE:
        return []
    search, spacing = lengths.search_seconds * SAMPLE_RATE, lengths.spacing_seconds * SAMPLE_RATE
    # The last chunk is at least a second long: fades must fit into it.
    due = range(start + spacing, end - search - SAMPLE_RATE, spacing)
    return [_quietest(audio, place - search, place + search) for place in due]


def _quietest(audio: Samples, first: int, last: int) -> int:
    """Return the middle of the quietest 10 ms of audio [first, last), rounded down to a multiple of 320."""
    half = FRAME_SAMPLES // 2
    total = np.concatenate([[0.0], np.abs(audio[first - half : last + half], dtype=np.float64).cumsum()])
    loudness = total[FRAME_SAMPLES:] - total[:-FRAME_SAMPLES]
    return (first + int(loudness.argmin())) // CONTENT_SAMPLES * CONTENT_SAMPLES


def reflected(audio: Samples, start: int, stop: int) -> np.ndarray:
    """Return samples `start` to `stop` of `audio` [N], N >= 1, reflected at both ends as often as needed."""
    if start >= 0 and stop <= len(audio):
        return audio[start:stop]
    # numpy.pad would loop over the reflections, and load the whole recording.
    period = max(2 * (len(audio) - 1), 1)
    position = np.arange(start, stop) % period
    position = np.minimum(position, period - position)
    first = int(position.min())
    return audio[first : int(position.max()) + 1][position - first]


class Joiner:
    """Joins the outputs of consecutive chunks."""

    def __init__(
        self,
        joined: SampleSink,
        context_samples: int,
        hop_samples: int,
        samples: int,
        fade_frames: int = FADE_FRAMES,
    ) -> None:
        """Start with an empty output.

        Args:
            joined: Destination of the output.
            context_samples: Context on either side of each chunk, in source samples.
            hop_samples: Output samples per frame of 10 ms.
            samples: Length of the output.
            fade_frames: Length of a fade, in frames of 10 ms; even.
        """
        self.joined = joined
        self._context = context_samples // FRAME_SAMPLES * hop_samples
        self._hop_samples, self._samples = hop_samples, samples
        self._half = fade_frames // 2 * hop_samples
        self._fading: np.ndarray | None = None

    def end(self) -> None:
        """Fill the rest of the output with silence."""
        self._append_silence_until(self._samples)

    def add(self, piece: np.ndarray, chunk: Chunk, *, is_followed: bool) -> None:
        """Add the output of the next chunk; gaps between chunks are silent.

        Args:
            piece: Output of the chunk with its context, [S]; starts at a frame, and extends at least half a fade beyond
                the end of the chunk.
            chunk: The chunk.
            is_followed: Whether the next chunk starts where this one ends.
        """
        start = chunk.start // FRAME_SAMPLES * self._hop_samples
        end = min(-(-chunk.end // FRAME_SAMPLES) * self._hop_samples, self._samples)
        first = start if self._fading is None else start - self._half
        last = end + self._half if is_followed else end
        skipped = self._context - (start - first)
        part = piece[skipped : skipped + last - first].astype(np.float32)
        ramp = (np.arange(2 * self._half, dtype=np.float32) + 0.5) / (2 * self._half)
        # Next to a gap the fade lies inside the chunk: the gap stays silent.
        if first > 0:
            part[: len(ramp)] *= ramp[: len(part)]
        if last < self._samples:
            part[-len(ramp) :] *= 1 - ramp[-len(part) :]
        if self._fading is None:
            self._append_silence_until(first)
        else:
            part[: len(ramp)] += self._fading
        part, self._fading = np.split(part, [-len(ramp)]) if is_followed else (part, None)
        self.joined.append(part)

    def _append_silence_until(self, end: int) -> None:
        for span in spans(end - len(self.joined)):
            self.joined.append(np.zeros(span.stop - span.start, np.float32))
