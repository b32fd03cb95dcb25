"""Apply a function of fixed-length windows to a recording of any length, block by block.

    window 0  [--------|--------]
    window 1           [--------|--------]        step: here half a window
    window 2                    [--------|--------]
    ready     |========|========|                 weighted by Hann windows

Silence extends the recording at both ends, so that each sample lies in the same number of windows.

Legend: N samples, C channels, W samples of a window, S samples of a step.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rvc_lightning.audio.stages import Stage


class OverlappingWindows(Stage):
    """Weighted sum of the results for overlapping windows; blocks are float32 [n, C]."""

    def __init__(
        self, process: Callable[[np.ndarray], np.ndarray], channels: int, window_samples: int, step_samples: int
    ) -> None:
        """Start a recording.

        Args:
            process: Function from float32 [W, C] to float32 [W, C].
            channels: C.
            window_samples: W.
            step_samples: S, at most W.
        """
        self._process, self._step = process, step_samples
        weights = np.hanning(window_samples + 2)[1:-1]
        padded = np.pad(weights, (0, -window_samples % step_samples))
        # The weights of all windows at the same distance from the start of a step.
        total = np.resize(padded.reshape(-1, step_samples).sum(axis=0), window_samples)
        self._weights = (weights / total).astype(np.float32)[:, None]
        self._lead = window_samples - step_samples
        self._audio = np.zeros((self._lead, channels), np.float32)
        self._sum = np.zeros((window_samples, channels), np.float32)
        self._missing = 0

    def push(self, block: np.ndarray) -> np.ndarray:
        """See `Stage`."""
        self._missing += len(block)
        self._audio = np.concatenate([self._audio, block])
        ready = [self._audio[:0]]
        while len(self._audio) >= len(self._weights):
            ready.append(self._next())
        return np.concatenate(ready)

    def finish(self) -> np.ndarray:
        """See `Stage`."""
        ready = [self._audio[:0]]
        while self._missing > 0:
            self._audio = np.pad(self._audio, ((0, len(self._weights) - len(self._audio)), (0, 0)))
            ready.append(self._next())
        return np.concatenate(ready)

    def _next(self) -> np.ndarray:
        """Process the next window, and return the samples that no later window changes."""
        self._sum += self._process(self._audio[: len(self._weights)]) * self._weights
        finished, rest = self._sum[: self._step], self._sum[self._step :]
        self._sum, self._audio = np.pad(rest, ((0, self._step), (0, 0))), self._audio[self._step :]
        ready = finished[self._lead :][: self._missing]
        self._lead = max(self._lead - self._step, 0)
        self._missing -= len(ready)
        return ready
