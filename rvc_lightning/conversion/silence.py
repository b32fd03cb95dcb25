"""Where a recording sounds (specification 10.6): levels every 125 ms, compared with the loudest.

    samples   |....|....|....|....|....|        hop of 2000 samples at 16 kHz
    window    1 hop before ... 1 hop after the level's place, zeros outside the recording

What lies 60 dB or more below the loudest level is silent.

Letters: N samples at 16 kHz.
"""

from __future__ import annotations

import numpy as np

HOP_SAMPLES = 2000
SILENT_DB = -60.0


class SoundDetector:
    """Finds the stretches of a recording, taken block by block, that are not silent."""

    def __init__(self) -> None:
        self._energies: list[np.ndarray] = []
        self._rest = np.zeros(0, dtype=np.float32)
        self._samples = 0

    def push(self, block: np.ndarray) -> None:
        """Takes the next samples, float32 [N]."""
        self._samples += len(block)
        audio = np.concatenate([self._rest, block])
        whole = len(audio) // HOP_SAMPLES * HOP_SAMPLES
        hops = audio[:whole].reshape(-1, HOP_SAMPLES)
        self._energies.append(np.einsum("ij,ij->i", hops, hops, dtype=np.float64))
        self._rest = audio[whole:]

    def stretches(self, grid_samples: int = 1) -> list[tuple[int, int]]:
        """(start, end) of each stretch with sound of what was taken, in order and apart; [] if all of it is silent.

        Args:
            grid_samples: Borders lie on multiples of this, but for that at the end; stretches reach out to them.
        """
        energies = np.concatenate([*self._energies, [np.sum(np.square(self._rest, dtype=np.float64))]])
        windows = energies + np.concatenate([[0.0], energies[:-1]])
        sounds = (windows > windows.max() * 10 ** (SILENT_DB / 10)).astype(np.int8)
        edges = np.diff(sounds, prepend=0, append=0)
        starts = np.flatnonzero(edges == 1) * HOP_SAMPLES // grid_samples * grid_samples
        ends = -(-np.flatnonzero(edges == -1) * HOP_SAMPLES // grid_samples) * grid_samples
        pairs = zip(starts.tolist(), np.minimum(ends, self._samples).tolist(), strict=True)
        return [(start, end) for start, end in pairs if start < end]
