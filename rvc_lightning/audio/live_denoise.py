"""Remove steady noise from a stream with a delay of 8 ms.

    window for the spectrum, every 4 ms   |<----------------- 32 ms ----------------->|
    window for the result                                                    |<-8 ms->|

The long window separates the partials of a voice, and the short one limits the delay (D. Mauler and R. Martin, "A Low
Delay, Variable Resolution, Perfect Reconstruction Spectral Analysis-Synthesis System for Speech Enhancement", 2007).
The gains are those of `audio.denoise`.

Legend: N samples, H samples of a hop, K bins of a spectrum.
"""

from __future__ import annotations

import numpy as np

from rvc_lightning.audio.denoise import NoiseTracker
from rvc_lightning.audio.stages import Stage

_HOP_SECONDS = 0.004
_WINDOW_HOPS = 8
_FIRST_SECONDS = 0.5
"""Audio from which the noise is estimated first, and which is not changed."""


class LiveDenoiser(Stage):
    """Remove steady noise; returns as many samples as it takes, `delay_samples` late."""

    def __init__(self, strength: float, sample_rate: int) -> None:
        """Start a stream.

        Args:
            strength: Share of the noise to remove, 0 to 1.
            sample_rate: In Hz.
        """
        self.strength = strength
        """Share of the noise to remove, 0 to 1; may change at any time."""
        self._hop = hop = max(round(_HOP_SECONDS * sample_rate), 1)
        self.delay_samples = 2 * hop
        """Delay of the result."""
        self._seconds = hop / sample_rate
        rise, fall = _quarter_sine((_WINDOW_HOPS - 1) * hop), _quarter_sine(hop)[::-1]
        self._analysis = np.concatenate([rise, fall])
        # Analysis and synthesis multiply to a Hann window, and such windows sum to one.
        self._synthesis = np.concatenate([np.square(fall[::-1]) / rise[-hop:], fall])
        self._past, self._overlap = np.zeros(_WINDOW_HOPS * hop), np.zeros(hop)
        self._waiting, self._ready = np.zeros(0, np.float32), np.zeros(hop, np.float32)
        self._tracker: NoiseTracker | None = None
        self._first_powers: list[np.ndarray] = []

    def push(self, block: np.ndarray) -> np.ndarray:
        """See `Stage`."""
        audio = np.concatenate([self._waiting, block])
        *hops, self._waiting = np.split(audio, range(self._hop, len(audio) + 1, self._hop))
        pieces = [self._ready, *map(self._process, hops)]
        output, self._ready = np.split(np.concatenate(pieces), [len(block)])
        return output

    def finish(self) -> np.ndarray:
        """See `Stage`."""
        return self.push(np.zeros(self.delay_samples, np.float32))

    def _process(self, hop: np.ndarray) -> np.ndarray:
        """Take a hop [H], and return the one before the last, [H]."""
        self._past = np.concatenate([self._past[len(hop) :], hop])
        spectrum = np.fft.rfft(self._past * self._analysis)
        gains = 1 - self.strength * (1 - self._gains(np.square(np.abs(spectrum))))
        piece = np.fft.irfft(spectrum * gains, len(self._past))[-2 * len(hop) :] * self._synthesis
        ready, self._overlap = self._overlap + piece[: len(hop)], piece[len(hop) :]
        return ready.astype(np.float32)

    def _gains(self, power: np.ndarray) -> np.ndarray:
        """Return gains [K] for a power spectrum [K]."""
        if self._tracker is not None:
            return self._tracker.gain(power)
        self._first_powers.append(power)
        if len(self._first_powers) * self._seconds >= _FIRST_SECONDS:
            self._tracker = NoiseTracker(np.stack(self._first_powers), self._seconds)
            self._first_powers = []
        return np.ones_like(power)


def _quarter_sine(samples: int) -> np.ndarray:
    """Return a sine that rises from 0 to 1, [N]."""
    return np.sin(np.pi * (np.arange(samples) + 0.5) / (2 * samples))
