"""How loud a recording is, how much of it is clipped and how much is silent.

Letters: N samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from rvc_lightning.audio.slicer import HOP_SECONDS, level_per_hop

_CLIPPED_FROM = 0.999
LOWEST_DB = -120.0


@dataclass(frozen=True)
class Levels:
    """Figures of a recording as it was found, before any filter.

    Attributes:
        level_db: root mean square of what is not silent, dB of full scale; -120 where all is.
        clipped_share: share of the samples at full scale or beyond.
        silent_share: share of the time that lies below the threshold of silence.
    """

    level_db: float
    clipped_share: float
    silent_share: float


def measure_levels(audio: np.ndarray, sample_rate: int, threshold_db: float) -> Levels:
    """Measure a recording.

    Args:
        audio: float32 [N], N >= 1, at its own rate: resampling rounds off what was clipped.
        sample_rate: Hz.
        threshold_db: what is below this is silence, dB of full scale.
    """
    level = level_per_hop(audio, round(HOP_SECONDS * sample_rate))
    sounding = level[level >= 10 ** (threshold_db / 20)]
    power = float(np.square(sounding).mean()) if len(sounding) else 0.0
    return Levels(
        level_db=max(10 * math.log10(max(power, 1e-30)), LOWEST_DB),
        clipped_share=float(np.count_nonzero(np.abs(audio) >= _CLIPPED_FROM) / len(audio)),
        silent_share=1 - len(sounding) / len(level),
    )
