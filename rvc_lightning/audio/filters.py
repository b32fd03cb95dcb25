"""High-pass filters that remove rumble and DC from recordings before analysis.

Butterworth filters of order 5 at 48 Hz, as in training and conversion of RVC voices.

Legend: N samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache

import numpy as np
from scipy import signal

HIGHPASS_HZ = 48.0
_ORDER = 5
# The default of scipy for this filter: three times the number of coefficients.
_PADDING_SAMPLES = 3 * (_ORDER + 1)


def highpass_blocks(
    blocks: Iterable[np.ndarray], sample_rate: int, cutoff_hz: float = HIGHPASS_HZ
) -> Iterator[np.ndarray]:
    """Apply a causal high-pass, for training data; the result does not depend on the blocks.

    Args:
        blocks: Blocks, float32 [n], possibly empty.
        sample_rate: In Hz.
        cutoff_hz: -3 dB point in Hz.

    Returns:
        As many samples in blocks, float32 [n].
    """
    # Second-order sections stay accurate where cutoff / rate is tiny; one polynomial of order 5 does not.
    sections = signal.butter(_ORDER, cutoff_hz, btype="highpass", fs=sample_rate, output="sos")
    state = np.zeros((len(sections), 2))
    # scipy rejects empty input.
    for block in filter(len, blocks):
        filtered, state = signal.sosfilt(sections, block, zi=state)
        yield filtered.astype(np.float32)


def highpass_zero_phase(audio: np.ndarray, sample_rate: int, cutoff_hz: float = HIGHPASS_HZ) -> np.ndarray:
    """Apply a high-pass forward and backward, without delay, for conversion.

    The ends are extended by odd reflection of 18 samples as in `scipy.signal.filtfilt`, or of all samples of a shorter
    input, so that one sample is enough.

    Args:
        audio: float32 [N], N >= 1.
        sample_rate: In Hz.
        cutoff_hz: -6 dB point in Hz.

    Returns:
        float32 [N].
    """
    numerator, denominator = _coefficients(sample_rate, cutoff_hz)
    padding_samples = min(_PADDING_SAMPLES, len(audio) - 1)
    filtered = signal.filtfilt(numerator, denominator, audio, padlen=padding_samples)
    return filtered.astype(np.float32)


@cache
def _coefficients(sample_rate: int, cutoff_hz: float) -> tuple[np.ndarray, np.ndarray]:
    """Return numerator and denominator of the high-pass. Cached, since live conversion filters each block."""
    return signal.butter(_ORDER, cutoff_hz, btype="highpass", fs=sample_rate)
