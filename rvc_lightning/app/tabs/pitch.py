"""The pitch of the chosen voice, and a button that shifts speech to it."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.components import Component

from rvc_lightning.app import markup
from rvc_lightning.app.tabs.workplace import QUIET
from rvc_lightning.app.texts import Texts


class OwnPitch:
    """Remark about the pitch of a voice, and a button that enters it as the proposed pitch."""

    def __init__(self, text: Texts, name: str, proposed: Component) -> None:
        """Create the components in the open block; `name` is the prefix of the element ids."""
        self._text, self.proposed = text, proposed
        self.hint = gr.HTML(visible=False, padding=False)
        self.button = gr.Button(visible=False, size="sm", elem_id=f"{name}_own_pitch")
        self.pitch = gr.State("")
        """Pitch of the voice in Hz; empty if unknown."""
        self.components = [self.hint, self.button, self.pitch]
        self.button.click(lambda pitch: pitch, self.pitch, proposed, **QUIET)

    def of_voice(self, pitch_hz: float | None, before: str = "", proposed: str = "") -> dict[Any, Any]:
        """Return the updates when a voice is chosen; the pitch of the voice before is replaced by that of this one."""
        pitch = "" if pitch_hz is None else f"{pitch_hz:.0f}"
        label, hint = self._text("pitch.apply", pitch=pitch), self._text("pitch.hint", pitch=pitch)
        updates: dict[Any, Any] = {
            self.pitch: pitch,
            self.hint: gr.update(value=markup.hint(hint), visible=bool(pitch)),
            self.button: gr.update(value=label, visible=bool(pitch)),
        }
        return updates | ({self.proposed: pitch} if before and proposed == before else {})
