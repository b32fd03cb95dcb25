"""Settings of the content of a prepared dataset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rvc_lightning.audio.frames import FRAMES_PER_SECOND
from rvc_lightning.config.options import Settings, option
from rvc_lightning.data.selection import SelectionConfig
from rvc_lightning.data.slicing import SlicingConfig
from rvc_lightning.errors import ConfigurationError


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
    separator: dict[str, Any] = option({}, "Name and options of the separator, for `slicing.separate`")
    selection: SelectionConfig = option(help="Which recordings are used, and their speakers")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sample_rate % FRAMES_PER_SECOND:
            raise ConfigurationError(
                f"sample_rate={self.sample_rate}: choose a multiple of {FRAMES_PER_SECOND} Hz, since a frame is 10 ms"
            )
