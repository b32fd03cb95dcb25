"""Pitch extractors by name.

To add one: a file with a `PitchExtractor`, a line in `PITCH_EXTRACTORS` and a YAML in `conf/pitch/`.
"""

from __future__ import annotations

from typing import Any

from rvc_lightning.pitch.base import PitchExtractor
from rvc_lightning.pitch.none import NoPitch
from rvc_lightning.pitch.pyin import PyinExtractor
from rvc_lightning.pitch.swift_f0 import SwiftF0Extractor
from rvc_lightning.registry import build

PITCH_EXTRACTORS: dict[str, type[PitchExtractor]] = {
    extractor.name: extractor for extractor in (SwiftF0Extractor, PyinExtractor, NoPitch)
}


def build_pitch_extractor(name: str, **options: Any) -> PitchExtractor:
    """Build the extractor of that name.

    Args:
        name: a key of `PITCH_EXTRACTORS`.
        options: what its constructor takes.

    Raises:
        ConfigurationError: no such name or option, or a value it refuses.
    """
    return build("pitch extractor", PITCH_EXTRACTORS, name, options)
