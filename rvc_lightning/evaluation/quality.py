"""How good it sounds: a network's estimate of what listeners would say.

Source: C. Reddy et al., "DNSMOS P.835: A Non-Intrusive Perceptual Objective Speech Quality Metric", 2022, by the
networks in the wheel of the package speechmos. It was made for noise suppression: of the words it hears nothing.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from rvc_lightning.audio.frames import SAMPLE_RATE


class Quality(NamedTuple):
    """Estimated mean opinions, 1 (bad) to 5 (excellent)."""

    overall: float
    """OVRL."""
    signal: float
    """SIG, of the speech itself."""
    background: float
    """BAK, of the silence behind it."""


class QualityJudge:
    """Estimates opinions."""

    def __init__(self) -> None:
        # Here, since it is an extra.
        from speechmos import dnsmos

        self._run: Any = dnsmos.run

    def judge(self, wav16k: np.ndarray) -> Quality:
        """Listens to a recording [N] at 16 kHz, N >= 1; what is shorter than 9 s is heard repeatedly."""
        # Resampling goes a little beyond full scale, which is refused.
        scores = self._run(np.clip(wav16k, -1, 1).astype(np.float32), SAMPLE_RATE)
        return Quality(*(float(scores[name]) for name in ("ovrl_mos", "sig_mos", "bak_mos")))
