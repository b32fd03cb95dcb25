"""Paths beside a voice. This module imports nothing heavy."""

from __future__ import annotations

from pathlib import Path


def presets_folder(voice: Path) -> Path:
    """Return the folder of the conversion presets of a voice; it exists if the voice has any."""
    return voice.with_suffix(".presets")
