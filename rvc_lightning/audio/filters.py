"""High-pass filters that take rumble and DC out of a recording before anything else looks at it.

Butterworth of order 5 at 48 Hz, as voices of the RVC family are trained with and converted through.

Letters: N samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from scipy import signal

HIGHPASS_HZ = 48.0
_ORDER = 5
# scipy's own choice for this filter: three times the number of coefficients.
_PADDING_SAMPLES = 3 * (_ORDER + 1)


def highpass_blocks(
    blocks: Iterable[np.ndarray], sample_rate: int, cutoff_hz: float = HIGHPASS_HZ
) -> Iterator[np.ndarray]:
    """Causal high-pass, for preparing training data; how a recording is cut into blocks changes nothing.

    Args:
        blocks: float32 [n] each, empty ones too.
        sample_rate: Hz.
        cutoff_hz: -3 dB point in Hz.

    Returns:
        As many samples, float32 [n] each.
    """
    # Second-order sections stay accurate where cutoff / rate is tiny; one polynomial of order 5 does not.
    sections = signal.butter(_ORDER, cutoff_hz, btype="highpass", fs=sample_rate, output="sos")
    state = np.zeros((len(sections), 2))
    # scipy refuses to filter nothing.
    for block in filter(len, blocks):
        filtered, state = signal.sosfilt(sections, block, zi=state)
        yield filtered.astype(np.float32)


def highpass_zero_phase(audio: np.ndarray, sample_rate: int, cutoff_hz: float = HIGHPASS_HZ) -> np.ndarray:
    """High-pass forward and backward, so without delay, for conversion.

    The ends are extended oddly by 18 samples as `scipy.signal.filtfilt` does, those of a shorter input by as
    many samples as it has to give, so that one sample is enough.

    Args:
        audio: float32 [N], N >= 1.
        sample_rate: Hz.
        cutoff_hz: -6 dB point in Hz.

    Returns:
        float32 [N].
    """
    numerator, denominator = signal.butter(_ORDER, cutoff_hz, btype="highpass", fs=sample_rate)
    padding_samples = min(_PADDING_SAMPLES, len(audio) - 1)
    filtered = signal.filtfilt(numerator, denominator, audio, padlen=padding_samples)
    return filtered.astype(np.float32)
