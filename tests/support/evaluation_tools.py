"""Recordings of known pitch and converters with known results."""

from types import SimpleNamespace

import numpy as np

RATE = 16000


def gliding_tone(hz, seconds=1.0):
    """Return eight harmonics gliding around `hz`, [N] at 16 kHz."""
    time = np.arange(round(seconds * RATE)) / RATE
    cycles = np.cumsum(hz * (1 + 0.2 * np.sin(2 * np.pi * time))) / RATE
    return (sum(np.sin(2 * np.pi * number * cycles) / number for number in range(1, 9)) / 4).astype(np.float32)


class KnownConverter:
    """Stand-in for a VoiceConverter that applies `function` to samples and options."""

    def __init__(self, function, median_f0_hz=None):
        self.voice = SimpleNamespace(median_f0_hz=median_f0_hz, pitch_guided=True)
        self.function = function

    def convert(self, source, options, sample_rate):
        return self.function(source, options), sample_rate
