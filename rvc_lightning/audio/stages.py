"""Stages that process audio block by block; the result does not depend on the lengths of the blocks.

    stage.push(block) ─▶ block of any length, possibly empty        once for each block
    stage.finish()    ─▶ remaining samples                          once, at the end

Memory use depends on the context that a stage needs, not on the length of the recording.

Legend: N samples.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import soxr


class Stage(ABC):
    """One processing step; each instance processes one recording."""

    @abstractmethod
    def push(self, block: np.ndarray) -> np.ndarray:
        """Process the next samples, float32 [N]; return the samples that are ready, float32 [any]."""

    @abstractmethod
    def finish(self) -> np.ndarray:
        """Return the remaining samples, float32 [any]; `push` must not be called afterwards."""


def run(stage: Stage, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the result of `stage` for a recording in blocks."""
    for block in blocks:
        yield stage.push(block)
    yield stage.finish()


class Chain(Stage):
    """A sequence of stages; an empty one returns its input."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.stages = list(stages)

    def push(self, block: np.ndarray) -> np.ndarray:
        """See `Stage`."""
        for stage in self.stages:
            block = stage.push(block)
        return block

    def finish(self) -> np.ndarray:
        """See `Stage`."""
        rest: np.ndarray | None = None
        for stage in self.stages:
            rest = stage.finish() if rest is None else np.concatenate([stage.push(rest), stage.finish()])
        return np.zeros(0, dtype=np.float32) if rest is None else rest


class PerChannel(Stage):
    """A stage for each channel of blocks [N, C]."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.stages = list(stages)

    def push(self, block: np.ndarray) -> np.ndarray:
        """See `Stage`."""
        return np.stack([stage.push(channel) for stage, channel in zip(self.stages, block.T, strict=True)], axis=1)

    def finish(self) -> np.ndarray:
        """See `Stage`."""
        return np.stack([stage.finish() for stage in self.stages], axis=1)


class Resampler(Stage):
    """Resample like `audio.decode.resample`; the length is rounded up."""

    def __init__(self, from_rate: int, to_rate: int) -> None:
        self._rates = from_rate, to_rate
        self._stream = soxr.ResampleStream(from_rate, to_rate, 1, dtype="float32", quality="VHQ")
        self._n_in = self._n_out = 0

    def push(self, block: np.ndarray) -> np.ndarray:
        """See `Stage`."""
        self._n_in += len(block)
        from_rate, to_rate = self._rates
        if from_rate == to_rate:
            return self._count(block)
        return self._count(self._stream.resample_chunk(np.ascontiguousarray(block, dtype=np.float32)))

    def finish(self) -> np.ndarray:
        """See `Stage`."""
        from_rate, to_rate = self._rates
        rest = self._stream.resample_chunk(np.zeros(0, dtype=np.float32), last=True)
        missing = -(-self._n_in * to_rate // from_rate) - self._n_out
        return np.pad(rest[:missing], (0, max(missing - len(rest), 0)))

    def _count(self, block: np.ndarray) -> np.ndarray:
        self._n_out += len(block)
        return block


class Parts(Stage):
    """Apply a process for whole recordings to parts, which are cut at quiet places.

    Each part is processed with context on both sides and cross-faded with its neighbour around the cut:

        part 0   |<-------------------------->|<-context>|
        part 1                     |<-context>|<-------------------------->|<-context>|
                                            ><   fade

    Cuts depend on the samples only, not on the blocks.
    """

    def __init__(
        self,
        process: Callable[[np.ndarray], np.ndarray],
        sample_rate: int,
        *,
        part_seconds: float = 20.0,
        search_seconds: float = 5.0,
        context_seconds: float = 1.0,
    ) -> None:
        """Start a recording.

        Args:
            process: Function from float32 [N] to float32 [N].
            sample_rate: In Hz.
            part_seconds: Maximum length of a part.
            search_seconds: Length of the end of a part in which the quietest place is cut.
            context_seconds: Context that `process` gets on each side.
        """
        self._process = process
        self._part, self._search, self._context = (
            round(seconds * sample_rate) for seconds in (part_seconds, search_seconds, context_seconds)
        )
        self._window = max(sample_rate // 100, 2)
        self._buffer = np.zeros(0, dtype=np.float32)
        # Samples at the start of the buffer that serve as context only, since they are returned already.
        self._before = 0
        self._tail = np.zeros(0, dtype=np.float32)

    def push(self, block: np.ndarray) -> np.ndarray:
        """See `Stage`."""
        self._buffer = np.concatenate([self._buffer, block])
        ready = []
        while len(self._buffer) >= self._before + self._part + self._context:
            ready.append(self._process_part(self._cut()))
        return np.concatenate(ready) if ready else np.zeros(0, dtype=np.float32)

    def finish(self) -> np.ndarray:
        """See `Stage`."""
        if len(self._buffer) == self._before:
            return self._tail
        processed = self._cross_faded(self._process(self._buffer)[self._before - len(self._tail) // 2 :])
        self._buffer = self._buffer[:0]
        return processed

    def _cut(self) -> int:
        """Return the position in the buffer of the quietest 10 ms in the last `search` samples of a part."""
        first = self._before + self._part - self._search
        cumulative = np.concatenate(
            [[0.0], np.abs(self._buffer[first : first + self._search], dtype=np.float64).cumsum()]
        )
        return first + int((cumulative[self._window :] - cumulative[: -self._window]).argmin()) + self._window // 2

    def _process_part(self, cut: int) -> np.ndarray:
        """Process the part up to `cut`; return its finished samples, without the tail to cross-fade."""
        half = self._window // 2
        processed = self._process(self._buffer[: cut + self._context])
        part = self._cross_faded(processed[self._before - len(self._tail) // 2 : cut + half])
        self._tail = part[-2 * half :]
        keep = max(cut - self._context, 0)
        self._buffer, self._before = self._buffer[keep:], cut - keep
        return part[: -2 * half]

    def _cross_faded(self, part: np.ndarray) -> np.ndarray:
        """Cross-fade the last tail into `part`, whose first samples cover the same time."""
        count = min(len(self._tail), len(part))
        ramp = (np.arange(count, dtype=np.float32) + 0.5) / max(count, 1)
        return np.concatenate([self._tail[:count] * (1 - ramp) + part[:count] * ramp, part[count:]])
