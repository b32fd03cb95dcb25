"""Recordings as sequences of samples of which a part at a time is in memory.

Letters: N samples.
"""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np

from rvc_lightning.io.files import TEMPORARY_PREFIX

BLOCK_SAMPLES = 1 << 18
"""What is worked on at once, where it does not matter."""

# 4 MB: a minute at 16 kHz.
_MOST_IN_MEMORY = 1 << 20


class Samples(Protocol):
    """A recording, float32 [N]: an array, or what reads like one."""

    def __len__(self) -> int:
        """N."""

    def __getitem__(self, part: slice, /) -> np.ndarray:
        """Samples start:stop, float32 [n]; no steps."""


class Growing(Protocol):
    """What samples can be added to."""

    def __len__(self) -> int:
        """Samples that were added, whether they are still there or not."""

    def append(self, block: np.ndarray, /) -> None:
        """Adds samples [n] to the end."""


def spans(samples: int, length: int = BLOCK_SAMPLES) -> Iterator[slice]:
    """Consecutive parts of at most `length` that make up `samples`."""
    for start in range(0, samples, length):
        yield slice(start, min(start + length, samples))


def blocks_of(samples: Samples) -> Iterator[np.ndarray]:
    """The samples, float32 [n] at a time."""
    return (samples[span] for span in spans(len(samples)))


class Scaled:
    """A recording at another level."""

    def __init__(self, samples: Samples, gain: float) -> None:
        self.samples, self.gain = samples, np.float32(gain)

    def __len__(self) -> int:
        """N."""
        return len(self.samples)

    def __getitem__(self, part: slice) -> np.ndarray:
        """Samples start:stop, float32 [n]."""
        return self.samples[part] * self.gain


class SpillBuffer:
    """Mono float32 samples [N] that are appended block by block and read anywhere: in memory while they are few.

    It may go from one process to another: it keeps no file open.
    """

    def __init__(self, folder: Path, most_in_memory: int = _MOST_IN_MEMORY) -> None:
        """An empty one.

        Args:
            folder: Where a file may be made; whoever made the folder removes it.
            most_in_memory: As many samples may be without one.
        """
        self._path = folder / f"{uuid.uuid4().hex}.f32"
        self._most_in_memory = most_in_memory
        self._blocks: list[np.ndarray] = []
        self._samples = 0
        self._in_file = False

    def __len__(self) -> int:
        """N."""
        return self._samples

    def append(self, block: np.ndarray) -> None:
        """Adds samples [n] to the end."""
        self._blocks.append(np.asarray(block, dtype=np.float32))
        self._samples += len(block)
        if self._in_file or self._samples > self._most_in_memory:
            with self._path.open("ab") as file:
                for waiting in self._blocks:
                    file.write(waiting.tobytes())
            self._blocks, self._in_file = [], True

    def __getitem__(self, part: slice) -> np.ndarray:
        """The samples of a part, whose step is 1."""
        start, stop, _ = part.indices(self._samples)
        if self._in_file:
            return np.fromfile(self._path, np.float32, max(stop - start, 0), offset=start * np.float32().itemsize)
        if len(self._blocks) != 1:
            self._blocks = [np.concatenate([np.zeros(0, np.float32), *self._blocks])]
        return self._blocks[0][start:stop]

    def remove(self) -> None:
        """Drops the samples, and the file if there is one."""
        self._blocks, self._samples, self._in_file = [], 0, False
        self._path.unlink(missing_ok=True)


@contextmanager
def collected(blocks: Iterable[np.ndarray], scratch: Path, most_in_memory: int = 1 << 24) -> Iterator[Samples]:
    """What comes in blocks as one recording, for as long as it takes.

    Args:
        blocks: float32 [n] each.
        scratch: where a folder for it may be made, which vanishes at the end.
        most_in_memory: samples; by default 64 MB, nearly six minutes at 48 kHz.
    """
    with tempfile.TemporaryDirectory(dir=scratch, prefix=TEMPORARY_PREFIX) as folder:
        reel = SpillBuffer(Path(folder), most_in_memory)
        for block in blocks:
            reel.append(block)
        yield reel
