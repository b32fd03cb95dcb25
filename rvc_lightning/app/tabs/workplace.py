"""Objects that the tabs share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from rvc_lightning.app.service import ConversionService
from rvc_lightning.app.texts import Texts
from rvc_lightning.voice.info import VoiceInfo

QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
"""Arguments of events without progress."""


@dataclass(frozen=True)
class Workplace:
    """Objects that the tabs share."""

    blocks: gr.Blocks
    service: ConversionService
    text: Texts


def speakers_of(facts: VoiceInfo) -> list[tuple[str, int | str]]:
    """Return label and value of each speaker: the name, or the number if it has no unique one."""
    names = facts.speaker_names
    unique = {number: name for number, name in enumerate(names) if name and names.count(name) == 1}
    return [(unique.get(number, str(number)), unique.get(number, number)) for number in range(max(facts.speakers, 1))]
