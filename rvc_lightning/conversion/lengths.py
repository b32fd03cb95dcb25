"""Lengths of the parts in which a recording or a stream is converted, as settings of the commands."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from rvc_lightning.config.options import Settings, option
from rvc_lightning.errors import ConfigurationError

_MIN_LOOKAHEAD_SECONDS = 0.025
"""With 25 ms, one content frame of 20 ms lies in the lookahead, into which the fade extends."""


@dataclass(frozen=True)
class ChunkLengths(Settings, group="chunks"):
    """Lengths of chunks and of their context.

    Other tools cut every 38 s (SPECIFICATION.md, section 10.1). Memory grows with the length of a chunk and the cost of
    attention with its square, while content depends on a few seconds of speech.

    Raises:
        ConfigurationError: A length is out of range, or cuts could meet.
    """

    context_seconds: int = option(1, "context on either side of a chunk, dropped from the output", unit="s", min=1)
    search_seconds: int = option(4, "distance searched on either side of a cut for a quiet place", unit="s", min=1)
    spacing_seconds: int = option(24, "distance between cuts; shorter chunks need less memory", unit="s", min=1)
    longest_seconds: int = option(28, "longest recording that is not cut", unit="s", min=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.search_seconds >= self.spacing_seconds / 2:
            raise ConfigurationError(
                f"chunks.search_seconds={self.search_seconds}: choose less than half of "
                f"chunks.spacing_seconds={self.spacing_seconds}"
            )

    @property
    def context_samples(self) -> int:
        """Context on either side of a chunk, in samples at 16 kHz."""
        return _samples(self.context_seconds)


@dataclass(frozen=True)
class StreamLengths(Settings, group="stream"):
    """Lengths of a block and of its context, both rounded up to 20 ms, and of what follows.

    Raises:
        ConfigurationError: A length is out of range.
    """

    block_seconds: float = option(
        0.24, "audio converted at a time; longer blocks cost less and add latency", unit="s", min=0.02, max=60
    )
    context_seconds: float = option(1.0, "preceding audio converted again with each block", unit="s", min=0.1, max=60)
    lookahead_seconds: float = option(
        0.1,
        "following audio to wait for, which adds latency; a short lookahead makes the ends of blocks less accurate",
        unit="s",
        min=_MIN_LOOKAHEAD_SECONDS,
        max=60,
    )
    fade_seconds: float = option(
        0.04,
        "fade between blocks, half of which adds to the latency; rounded up to 20 ms",
        unit="s",
        min=0.02,
        max=0.04,
    )

    @property
    def block_samples(self) -> int:
        """Block length in samples at 16 kHz."""
        return _samples(self.block_seconds)

    @property
    def context_samples(self) -> int:
        """Context length in samples at 16 kHz."""
        return _samples(self.context_seconds)

    @property
    def lookahead_samples(self) -> int:
        """Lookahead length in samples at 16 kHz."""
        from rvc_lightning.audio.frames import SAMPLE_RATE

        return math.ceil(self.lookahead_seconds * SAMPLE_RATE)

    @property
    def fade_frames(self) -> int:
        """Length of a fade in frames of 10 ms."""
        from rvc_lightning.audio.frames import FRAME_SAMPLES

        return _samples(self.fade_seconds) // FRAME_SAMPLES


PRESETS = {
    # For a GPU: below 60 ms with any device and voice.
    "lowest_latency": StreamLengths(
        block_seconds=0.02, context_seconds=0.5, lookahead_seconds=0.025, fade_seconds=0.02
    ),
    "low_latency": StreamLengths(block_seconds=0.08, context_seconds=0.5, lookahead_seconds=0.025, fade_seconds=0.02),
    "balanced": StreamLengths(block_seconds=0.12, context_seconds=0.8, lookahead_seconds=0.06, fade_seconds=0.04),
    "quality": StreamLengths(),
}
"""Lengths by the name of a preset, from the lowest latency to the least computation."""


@dataclass(frozen=True)
class BlockSettings(Settings):
    """Lengths as in `conf/live.yaml`: a preset, and single lengths that differ from it."""

    preset: str = option(choices=tuple(PRESETS))
    stream: dict[str, Any] = option(help="Fields of `StreamLengths`; null: as in the preset")

    def lengths(self) -> StreamLengths:
        """Return the lengths. Raises ConfigurationError if one is out of range."""
        changed = {name: value for name, value in self.stream.items() if value is not None}
        return StreamLengths.from_values(asdict(PRESETS[self.preset]) | changed)


def _samples(seconds: float) -> int:
    """Return samples at 16 kHz, rounded up to 20 ms."""
    # Imported here to keep --help quick.
    from rvc_lightning.audio.frames import CONTENT_SAMPLES, SAMPLE_RATE

    return math.ceil(seconds * SAMPLE_RATE / CONTENT_SAMPLES - 1e-9) * CONTENT_SAMPLES
