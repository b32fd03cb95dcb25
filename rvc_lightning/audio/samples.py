"""Sequences of samples that are read and written in parts, so that memory use does not depend on their length.

Legend: N samples.
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
"""Default length of a part."""

# 4 MB: a minute at 16 kHz.
_MAX_IN_MEMORY = 1 << 20


class Samples(Protocol):
    """A recording, float32 [N]: an array, or an object with the same interface."""

    def __len__(self) -> int:
        """Return N."""

    def __getitem__(self, part: slice, /) -> np.ndarray:
        """Return samples start:stop, float32 [n]; steps are not supported."""


class SampleSink(Protocol):
    """A destination of samples."""

    def __len__(self) -> int:
        """Return the number of samples appended so far, including those dropped since."""

    def append(self, block: np.ndarray, /) -> None:
        """Append samples [n]."""


def spans(samples: int, length: int = BLOCK_SAMPLES) -> Iterator[slice]:
    """Yield consecutive slices of at most `length` that cover `samples`."""
    for start in range(0, samples, length):
        yield slice(start, min(start + length, samples))


def blocks_of(samples: Samples) -> Iterator[np.ndarray]:
    """Yield the samples in blocks, float32 [n]."""
    return (samples[span] for span in spans(len(samples)))


class Scaled:
    """A recording multiplied by a gain."""

    def __init__(self, samples: Samples, gain: float) -> None:
        self.samples, self.gain = samples, np.float32(gain)

    def __len__(self) -> int:
        """Return N."""
        return len(self.samples)

    def __getitem__(self, part: slice) -> np.ndarray:
        """Return samples start:stop, float32 [n]."""
        return self.samples[part] * self.gain


class SpillBuffer:
    """Mono float32 samples [N] with append and random access, in memory up to a limit and in a file beyond it.

    No file stays open, so that the buffer can be sent to another process.
    """

    def __init__(self, folder: Path, max_in_memory: int = _MAX_IN_MEMORY) -> None:
        """Create an empty buffer.

        Args:
            folder: Folder for the file; its owner removes it.
            max_in_memory: Maximum number of samples in memory.
        """
        self._path = folder / f"{uuid.uuid4().hex}.f32"
        self._max_in_memory = max_in_memory
        self._blocks: list[np.ndarray] = []
        self._samples = 0
        self._in_file = False

    def __len__(self) -> int:
        """Return N."""
        return self._samples

    def append(self, block: np.ndarray) -> None:
        """Append samples [n]."""
        self._blocks.append(np.asarray(block, dtype=np.float32))
        self._samples += len(block)
        if self._in_file or self._samples > self._max_in_memory:
            with self._path.open("ab") as file:
                for pending in self._blocks:
                    file.write(pending.tobytes())
            self._blocks, self._in_file = [], True

    def __getitem__(self, part: slice) -> np.ndarray:
        """Return samples start:stop, float32 [n]."""
        start, stop, _ = part.indices(self._samples)
        if self._in_file:
            return np.fromfile(self._path, np.float32, max(stop - start, 0), offset=start * np.float32().itemsize)
        if len(self._blocks) != 1:
            self._blocks = [np.concatenate([np.zeros(0, np.float32), *self._blocks])]
        return self._blocks[0][start:stop]

    def remove(self) -> None:
        """Drop the samples and the file."""
        self._blocks, self._samples, self._in_file = [], 0, False
        self._path.unlink(missing_ok=True)


@contextmanager
def collected(blocks: Iterable[np.ndarray], scratch: Path, max_in_memory: int = 1 << 24) -> Iterator[Samples]:
    """Collect blocks into one recording, which exists until the context exits.

    Args:
        blocks: Blocks, float32 [n].
        scratch: Folder for a temporary folder, which is removed at the end.
        max_in_memory: Maximum number of samples in memory; by default 64 MB, nearly six minutes at 48 kHz.
    """
    with tempfile.TemporaryDirectory(dir=scratch, prefix=TEMPORARY_PREFIX) as folder:
        buffer = SpillBuffer(Path(folder), max_in_memory)
        for block in blocks:
            buffer.append(block)
        yield buffer
