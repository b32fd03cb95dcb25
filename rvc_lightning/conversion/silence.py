"""Detection of sound in a recording (SPECIFICATION.md, section 10.6): levels every 125 ms relative to the loudest.

    samples   |....|....|....|....|....|        hop of 2000 samples at 16 kHz
    window    1 hop before ... 1 hop after each level, zeros outside the recording

Levels 60 dB or more below the loudest are silent.

Legend: N samples at 16 kHz.
"""

from __future__ import annotations

import numpy as np

HOP_SAMPLES = 2000
SILENT_DB = -60.0


class SoundDetector:
    """Finds the parts of a recording that are not silent, block by block."""

    def __init__(self) -> None:
        self._energies: list[np.ndarray] = []
        self._rest = np.zeros(0, dtype=np.float32)
        self._samples = 0

    def push(self, block: np.ndarray) -> None:
        """Add the next samples, float32 [N]."""
        self._samples += len(block)
        audio = np.concatenate([self._rest, block])
        whole = len(audio) // HOP_SAMPLES * HOP_SAMPLES
        hops = audio[:whole].reshape(-1, HOP_SAMPLES)
        self._energies.append(np.einsum("ij,ij->i", hops, hops, dtype=np.float64))
        self._rest = audio[whole:]

    def parts(self, grid_samples: int = 1) -> list[tuple[int, int]]:
        """Return (start, end) of each part with sound, in order and without overlap; [] if all samples are silent.

        Args:
            grid_samples: Parts are extended to multiples of this, except at the end of the recording.
        """
        energies = np.concatenate([*self._energies, [np.sum(np.square(self._rest, dtype=np.float64))]])
        windows = energies + np.concatenate([[0.0], energies[:-1]])
        sounds = (windows > windows.max() * 10 ** (SILENT_DB / 10)).astype(np.int8)
        edges = np.diff(sounds, prepend=0, append=0)
        starts = np.flatnonzero(edges == 1) * HOP_SAMPLES // grid_samples * grid_samples
        ends = -(-np.flatnonzero(edges == -1) * HOP_SAMPLES // grid_samples) * grid_samples
        pairs = zip(starts.tolist(), np.minimum(ends, self._samples).tolist(), strict=True)
        return [(start, end) for start, end in pairs if start < end]
