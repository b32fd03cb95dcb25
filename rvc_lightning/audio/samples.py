"""Long recordings as sequences of samples of which a part at a time is in memory.

Letters: N samples.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np

from rvc_lightning.files import TEMPORARY_PREFIX

BLOCK_SAMPLES = 1 << 20
# 64 MB: nearly six minutes at 48 kHz.
_MOST_IN_MEMORY = 1 << 24
_SAMPLE_BYTES = 4


class Samples(Protocol):
    """A recording, float32 [N]: an array, or what reads like one."""

    def __len__(self) -> int:
        """N."""

    def __getitem__(self, part: slice, /) -> np.ndarray:
        """Samples start:stop, float32 [n]; no steps."""


def blocks_of(samples: Samples, block_samples: int = BLOCK_SAMPLES) -> Iterator[np.ndarray]:
    """The samples, float32 [n] at a time, n = `block_samples` but for the last one."""
    for start in range(0, len(samples), block_samples):
        yield samples[start : start + block_samples]


@contextmanager
def collected(blocks: Iterable[np.ndarray], scratch: Path, most_in_memory: int = _MOST_IN_MEMORY) -> Iterator[Samples]:
    """What comes in blocks as one recording: in memory, or in a file where it is long.

    Args:
        blocks: float32 [n] each.
        scratch: folder of the file, which vanishes at the end.
        most_in_memory: samples.
    """
    kept: list[np.ndarray] = []
    with tempfile.TemporaryFile(dir=scratch, prefix=TEMPORARY_PREFIX) as file:
        in_file = 0
        for block in blocks:
            kept.append(block)
            if sum(map(len, kept)) > (0 if in_file else most_in_memory):
                in_file += sum(file.write(part.tobytes()) for part in kept) // _SAMPLE_BYTES
                kept = []
        file.flush()
        yield _InFile(file, in_file) if in_file else np.concatenate([np.zeros(0, dtype=np.float32), *kept])


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


class _InFile:
    """Samples in an open file."""

    def __init__(self, file: BinaryIO, samples: int) -> None:
        self.file, self.samples = file, samples

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, part: slice) -> np.ndarray:
        start, stop, _ = part.indices(self.samples)
        self.file.seek(start * _SAMPLE_BYTES)
        return np.frombuffer(self.file.read(max(stop - start, 0) * _SAMPLE_BYTES), dtype=np.float32)
