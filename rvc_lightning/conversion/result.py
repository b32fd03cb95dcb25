"""What the chunks became, brought to its loudness, block by block.

Legend: N samples.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rvc_lightning.audio.frames import SAMPLE_RATE
from rvc_lightning.audio.loudness import peak_of
from rvc_lightning.audio.samples import Samples, spans
from rvc_lightning.conversion.envelope import EnvelopeMix
from rvc_lightning.conversion.options import ConversionOptions
from rvc_lightning.errors import VoiceError

OUTPUT_PEAK = 0.99


def leveled(joined: Samples, sample_rate: int, source: Samples, options: ConversionOptions) -> Iterator[np.ndarray]:
    """Blocks of the result.

    Args:
        joined: Of the voice, [N].
        sample_rate: Its rate in Hz.
        source: What was converted, at 16 kHz.
        options: Of which the volume envelope counts here.

    Returns:
        Float32 blocks that make up [N], within ±0.99.

    Raises:
        VoiceError: The voice gave NaN or infinity.
    """
    mix = EnvelopeMix(joined, sample_rate, source, SAMPLE_RATE, options.volume_envelope)
    # By numpy, for which nothing is greater than NaN.
    peak = float(np.max([peak_of(joined[span] * mix.gain(span)) for span in spans(len(joined))], initial=0.0))
    if not np.isfinite(peak):
        raise VoiceError("the voice gives NaN or infinity; if the precision is not '32-true', try that")
    limit = np.float32(min(1.0, OUTPUT_PEAK / max(peak, 1e-9)))
    return (joined[span] * mix.gain(span) * limit for span in spans(len(joined)))
