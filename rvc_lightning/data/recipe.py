"""How recordings become a dataset: the settings that decide what its files hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rvc_lightning.audio.frames import FRAMES_PER_SECOND
from rvc_lightning.config.validation import check_whole
from rvc_lightning.data.selection import SelectionConfig
from rvc_lightning.data.slicing import SlicingConfig
from rvc_lightning.errors import ConfigurationError

# No device records at more.
_HIGHEST_RATE = 768_000


@dataclass(frozen=True)
class Recipe:
    """What is made of recordings.

    Attributes:
        sample_rate: of the slices, Hz; a multiple of 100, as one frame is 10 ms.
        pitch: {"name": ..., options}, see `rvc_lightning.pitch`.
        content: {"name": ..., options}, see `rvc_lightning.content`.
        slicing: how to clean, level and cut.
        selection: which recordings are used, and who speaks in them; by default all, and speakers by number.

    Raises:
        ConfigurationError: no recording has such a rate, or a frame of 10 ms no whole number of samples at it.
    """

    sample_rate: int
    pitch: Mapping[str, Any]
    content: Mapping[str, Any]
    slicing: SlicingConfig = field(default_factory=SlicingConfig)
    selection: SelectionConfig = field(default_factory=SelectionConfig)

    def __post_init__(self) -> None:
        check_whole("sample_rate", self.sample_rate, 1, _HIGHEST_RATE)
        if self.sample_rate % FRAMES_PER_SECOND:
            raise ConfigurationError(
                f"sample_rate must be a multiple of {FRAMES_PER_SECOND} Hz: a frame is 10 ms; got {self.sample_rate}"
            )
