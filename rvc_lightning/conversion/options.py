"""What can be chosen for a conversion."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rvc_lightning.errors import ConfigurationError

_RANGES = {
    "transpose_semitones": (-48.0, 48.0),
    "index_rate": (0.0, 1.0),
    "protect": (0.0, 0.5),
    "volume_envelope": (0.0, 1.0),
}
"""Lowest and highest value of each number that has them."""


@dataclass(frozen=True)
class ConversionOptions:
    """How a recording is converted (specification section 10).

    Raises:
        ConfigurationError: A value is of the wrong kind or out of range; the message names it and what is allowed.
    """

    transpose_semitones: float = 0.0
    """Shift of the pitch in semitones, 12 to the octave, -48 to 48. Without effect on voices without pitch."""
    index_rate: float = 0.75
    """Share of the features that is taken from the voice's index, 0 (none) to 1. Without effect without an index."""
    protect: float = 0.5
    """How much of the retrieved features unvoiced frames get: 0 (none: consonants and breaths stay nearest to the
    source) to 0.5 (protection off). Without effect without an index or pitch."""
    volume_envelope: float = 1.0
    """Whose loudness over time is heard: 1 the voice's own, 0 the source's, between them a mixture."""
    speaker: int = 0
    """Speaker of the voice, from 0."""
    seed: int = 0
    """Of the noise that is drawn: the same seed gives the same audio."""

    def __post_init__(self) -> None:
        for name, (lowest, highest) in _RANGES.items():
            value = getattr(self, name)
            if not _is_number(value) or not lowest <= value <= highest:
                raise ConfigurationError(f"{name}={value!r}: choose a number from {lowest:g} to {highest:g}")
        for name in ("speaker", "seed"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
                raise ConfigurationError(f"{name}={value!r}: choose a whole number from 0 up")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
