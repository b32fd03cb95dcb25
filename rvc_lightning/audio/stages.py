"""Audio that passes through in blocks: what a stage gives for a recording is the same however it is cut into blocks.

    stage.push(block) ─▶ block, of any length, empty as well        once for each block
    stage.finish()    ─▶ the rest                                   once, at the end

Memory is bounded by what a stage has to know of its surroundings, not by the recording.

Legend: N samples.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import soxr


class Stage(ABC):
    """One step that audio passes through; for one recording only."""

    @abstractmethod
    def push(self, block: np.ndarray) -> np.ndarray:
        """The next samples, float32 [N] -> what is ready of the result, float32 [any]."""

    @abstractmethod
    def finish(self) -> np.ndarray:
        """What is left of the result, float32 [any]; nothing may be pushed afterwards."""


def run(stage: Stage, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """What `stage` makes of a recording that comes in blocks."""
    for block in blocks:
        yield stage.push(block)
    yield stage.finish()


class Chain(Stage):
    """Stages one after the other; without any, audio comes out as it goes in."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.stages = list(stages)

    def push(self, block: np.ndarray) -> np.ndarray:
        """See `Stage`."""
        for stage in self.stages:
            block = stage.push(block)
        return block

    def finish(self) -> np.ndarray:
        """See `Stage`."""
        rest = np.zeros(0, dtype=np.float32)
        for stage in self.stages:
            rest = np.concatenate([stage.push(rest), stage.finish()])
        return rest


class Resampler(Stage):
    """Another sampling rate, as `audio.decode.resample` gives it: the length is rounded up, nothing is lost."""

    def __init__(self, from_rate: int, to_rate: int) -> None:
        self._rates = from_rate, to_rate
        self._stream = soxr.ResampleStream(from_rate, to_rate, 1, dtype="float32", quality="VHQ")
        self._taken = self._given = 0

    def push(self, block: np.ndarray) -> np.ndarray:
        """See `Stage`."""
        self._taken += len(block)
        from_rate, to_rate = self._rates
        if from_rate == to_rate:
            return self._counted(block)
        return self._counted(self._stream.resample_chunk(np.ascontiguousarray(block, dtype=np.float32)))

    def finish(self) -> np.ndarray:
        """See `Stage`."""
        from_rate, to_rate = self._rates
        rest = self._stream.resample_chunk(np.zeros(0, dtype=np.float32), last=True)
        missing = -(-self._taken * to_rate // from_rate) - self._given
        return np.pad(rest[:missing], (0, max(missing - len(rest), 0)))

    def _counted(self, block: np.ndarray) -> np.ndarray:
        self._given += len(block)
        return block


class Parts(Stage):
    """What can only be done to a whole recording, done to parts of it that are cut where it is quiet.

    A part is worked on with what surrounds it, and fades into its neighbour around the cut:

        part 0   |<-------------------------->|<-context>|
        part 1                     |<-context>|<-------------------------->|<-context>|
                                            ><   fade

    Cuts depend on the samples alone, so that blocks do not change the result.
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
        """Gets ready for a recording.

        Args:
            process: Of float32 [N], as many samples.
            sample_rate: In Hz.
            part_seconds: No part is longer than this.
            search_seconds: Nor shorter by more than this, but for the last.
            context_seconds: What `process` gets of the surroundings on either side.
        """
        self._process = process
        self._part, self._search, self._context = (
            round(seconds * sample_rate) for seconds in (part_seconds, search_seconds, context_seconds)
        )
        self._window = max(sample_rate // 100, 2)
        self._buffer = np.zeros(0, dtype=np.float32)
        # Samples at the head of the buffer that were given already and are context now.
        self._before = 0
        self._tail = np.zeros(0, dtype=np.float32)

    def push(self, block: np.ndarray) -> np.ndarray:
        """See `Stage`."""
        self._buffer = np.concatenate([self._buffer, block])
        ready = []
        while len(self._buffer) >= self._before + self._part + self._context:
            ready.append(self._take(self._cut()))
        return np.concatenate(ready) if ready else np.zeros(0, dtype=np.float32)

    def finish(self) -> np.ndarray:
        """See `Stage`."""
        if len(self._buffer) == self._before:
            return self._tail
        done = self._faded(self._process(self._buffer)[self._before - len(self._tail) // 2 :])
        self._buffer = self._buffer[:0]
        return done

    def _cut(self) -> int:
        """The middle of the quietest 10 ms of the last `search` of a part, in samples of the buffer."""
        first = self._before + self._part - self._search
        total = np.concatenate([[0.0], np.abs(self._buffer[first : first + self._search], dtype=np.float64).cumsum()])
        return first + int((total[self._window :] - total[: -self._window]).argmin()) + self._window // 2

    def _take(self, cut: int) -> np.ndarray:
        half = self._window // 2
        done = self._process(self._buffer[: cut + self._context])
        part = self._faded(done[self._before - len(self._tail) // 2 : cut + half])
        self._tail = part[-2 * half :]
        keep = max(cut - self._context, 0)
        self._buffer, self._before = self._buffer[keep:], cut - keep
        return part[: -2 * half]

    def _faded(self, part: np.ndarray) -> np.ndarray:
        """`part`, whose first samples are those of the last tail, with that tail fading out."""
        count = min(len(self._tail), len(part))
        ramp = (np.arange(count, dtype=np.float32) + 0.5) / max(count, 1)
        return np.concatenate([self._tail[:count] * (1 - ramp) + part[:count] * ramp, part[count:]])
