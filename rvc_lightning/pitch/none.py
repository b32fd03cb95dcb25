"""Placeholder for voices without pitch."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from rvc_lightning.audio.frames import frame_count
from rvc_lightning.pitch.base import PitchExtractor


class NoPitch(PitchExtractor):
    """Extractor that marks every frame as unvoiced."""

    name: ClassVar[str] = "none"
    finds_pitch: ClassVar[bool] = False

    def __call__(self, wav16k: np.ndarray) -> np.ndarray:
        """Return zeros, as `PitchExtractor.__call__`."""
        return np.zeros(frame_count(len(wav16k)), np.float32)
