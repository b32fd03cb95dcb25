"""Estimated mean opinion score (MOS): how listeners would rate the sound.

Source: C. Reddy et al., "DNSMOS P.835: A Non-Intrusive Perceptual Objective Speech Quality Metric", 2022, by the
networks in the wheel of the package speechmos. DNSMOS was made for noise suppression and ignores the words.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from rvc_lightning.audio.frames import SAMPLE_RATE
from rvc_lightning.io.imports import import_compiled


class OpinionScores(NamedTuple):
    """Estimated mean opinion scores, 1 (bad) to 5 (excellent)."""

    overall: float
    """OVRL, the whole signal."""
    signal: float
    """SIG, only the speech."""
    background: float
    """BAK, only the background noise."""


class OpinionEstimator:
    """Estimate mean opinion scores by DNSMOS."""

    def __init__(self) -> None:
        # Imported here: an optional dependency. The first import is the part of librosa that it uses.
        import_compiled("librosa.feature.spectral")
        from speechmos import dnsmos

        self._run: Any = dnsmos.run

    def estimate(self, wav16k: np.ndarray) -> OpinionScores:
        """Score a recording [N] at 16 kHz, N >= 1; less than 9 s are repeated."""
        # Resampling overshoots full scale slightly, which DNSMOS rejects.
        scores = self._run(np.clip(wav16k, -1, 1).astype(np.float32), SAMPLE_RATE)
        return OpinionScores(*(float(scores[name]) for name in ("ovrl_mos", "sig_mos", "bak_mos")))
