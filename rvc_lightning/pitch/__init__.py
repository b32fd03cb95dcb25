"""Registry of pitch extractors.

To add one, write a file with a `PitchExtractor` or `PitchNetwork`, and add a line to `PITCH_EXTRACTORS` and a YAML file
to `conf/pitch/`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rvc_lightning.config.registry import build
from rvc_lightning.pitch.base import PitchExtractor, PitchNetwork, PitchTracker
from rvc_lightning.pitch.crepe import Crepe, CrepeTiny
from rvc_lightning.pitch.fcpe import Fcpe
from rvc_lightning.pitch.none import NoPitch
from rvc_lightning.pitch.praat import PraatExtractor
from rvc_lightning.pitch.pyin import PyinExtractor
from rvc_lightning.pitch.rmvpe import Rmvpe
from rvc_lightning.pitch.swift_f0 import SwiftF0Extractor
from rvc_lightning.pitch.world import DioExtractor, HarvestExtractor

DEFAULT_PITCH = SwiftF0Extractor.name
"""Extractor for voices that do not name one; every accurate extractor works with every voice."""

PITCH_EXTRACTORS: dict[str, type[PitchExtractor] | type[PitchNetwork]] = {
    extractor.name: extractor
    for extractor in (
        *(SwiftF0Extractor, Rmvpe, Fcpe, Crepe, CrepeTiny),
        *(PyinExtractor, PraatExtractor, HarvestExtractor, DioExtractor, NoPitch),
    )
}


def build_pitch_extractor(name: str, **options: Any) -> PitchTracker:
    """Build a pitch extractor; networks are in evaluation mode.

    Args:
        name: Key of `PITCH_EXTRACTORS`.
        options: Arguments of its constructor.

    Raises:
        ConfigurationError: The name or an option is unknown, or a value is out of range.
        AssetError: The weights cannot be downloaded or read.
    """
    constructors: Mapping[str, Callable[..., PitchTracker]] = PITCH_EXTRACTORS
    tracker = build("pitch extractor", constructors, name, options)
    return tracker.eval() if isinstance(tracker, PitchNetwork) else tracker


def chosen_pitch(settings: Mapping[str, Any] | None) -> PitchTracker | None:
    """Build the extractor of these settings; None without settings. Errors as in `build_pitch_extractor`."""
    return build_pitch_extractor(**settings) if settings else None
