"""Pitch extractors by name.

To add one: a file with a `PitchExtractor` or `PitchNetwork`, a line in `PITCH_EXTRACTORS` and a YAML in `conf/pitch/`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rvc_lightning.config.registry import build
from rvc_lightning.pitch.base import PitchExtractor, PitchNetwork, PitchTracker
from rvc_lightning.pitch.crepe import Crepe, CrepeTiny
from rvc_lightning.pitch.fcpe import Fcpe
from rvc_lightning.pitch.none import NoPitch
from rvc_lightning.pitch.pyin import PyinExtractor
from rvc_lightning.pitch.rmvpe import Rmvpe
from rvc_lightning.pitch.swift_f0 import SwiftF0Extractor

DEFAULT_PITCH = SwiftF0Extractor.name
"""Of voices that do not name theirs: any exact extractor serves any voice."""

PITCH_EXTRACTORS: dict[str, type[PitchExtractor] | type[PitchNetwork]] = {
    extractor.name: extractor for extractor in (SwiftF0Extractor, Rmvpe, Fcpe, Crepe, CrepeTiny, PyinExtractor, NoPitch)
}


def build_pitch_extractor(name: str, **options: Any) -> PitchTracker:
    """Build the extractor of that name, a network in evaluation mode.

    Args:
        name: a key of `PITCH_EXTRACTORS`.
        options: what its constructor takes.

    Raises:
        ConfigurationError: no such name or option, or a value it refuses.
        AssetError: its weights cannot be had.
    """
    constructors: Mapping[str, Callable[..., PitchTracker]] = PITCH_EXTRACTORS
    tracker = build("pitch extractor", constructors, name, options)
    return tracker.eval() if isinstance(tracker, PitchNetwork) else tracker


def chosen_pitch(settings: Mapping[str, Any] | None) -> PitchTracker | None:
    """Build the extractor that settings choose; None if they are None. Errors as in `build_pitch_extractor`."""
    return build_pitch_extractor(**settings) if settings else None
