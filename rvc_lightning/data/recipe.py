"""Settings of the content of a prepared dataset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rvc_lightning.audio.frames import FRAMES_PER_SECOND
from rvc_lightning.config.options import Settings, option
from rvc_lightning.data.selection import SelectionConfig
from rvc_lightning.data.slicing import SlicingConfig
from rvc_lightning.errors import ConfigurationError

_SPEEDS = (0.5, 2.0)


@dataclass(frozen=True, kw_only=True)
class Recipe(Settings):
    """Settings that determine the content of a prepared dataset.

    Raises:
        ConfigurationError: The sampling rate is out of range or not a multiple of 100 Hz.
    """

    sample_rate: int = option(help="Sampling rate of the slices", unit="Hz", min=FRAMES_PER_SECOND, max=768_000)
    pitch: dict[str, Any] = option(help="Name and options of the pitch extractor, see `rvc_lightning.pitch`")
    content: dict[str, Any] = option(help="Name and options of the content encoder, see `rvc_lightning.content`")
    slicing: SlicingConfig = option(help="How recordings are cut")
    content_speeds: list[float] = option([], "Speeds of playback at which the content is extracted as well")
    separator: dict[str, Any] = option({}, "Name and options of the separator, for `slicing.separate`")
    selection: SelectionConfig = option(help="Which recordings are used, and their speakers")

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(not _is_speed(speed) for speed in self.content_speeds):
            raise ConfigurationError(
                f"preparation.content_speeds={self.content_speeds}: choose a list of numbers from {_SPEEDS[0]:g} to "
                f"{_SPEEDS[1]:g}, without 1"
            )
        if self.sample_rate % FRAMES_PER_SECOND:
            raise ConfigurationError(
                f"sample_rate={self.sample_rate}: choose a multiple of {FRAMES_PER_SECOND} Hz, since a frame is 10 ms"
            )


def _is_speed(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and _SPEEDS[0] <= value <= _SPEEDS[1] and value != 1
