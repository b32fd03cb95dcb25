"""Controls of the presets of a voice."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from rvc_lightning.app import markup
from rvc_lightning.app.controls import Controls
from rvc_lightning.app.tabs.workplace import QUIET, Workplace, reporting, speaker_choice, speakers_of
from rvc_lightning.app.texts import Texts
from rvc_lightning.cli.overrides import format_override
from rvc_lightning.conversion.options import ConversionOptions
from rvc_lightning.conversion.presets import (
    DEFAULT,
    chosen,
    delete_preset,
    list_presets,
    read_preset,
    save_preset,
)
from rvc_lightning.errors import RVCError


def preset_choices(voice: Path, text: Texts) -> list[tuple[str, str]]:
    """Return label and name of each preset of a voice, the first for none."""
    return [(text("presets.none"), ""), *((name, name) for name in list_presets(voice))]


def first_preset(voice: Path) -> str:
    """Return the name of the preset to apply when a voice is chosen; empty for none."""
    return DEFAULT if DEFAULT in list_presets(voice) else ""


class Presets:
    """Choice of a preset, and an editor among the options."""

    def __init__(self, workplace: Workplace, voice: Component, speaker: Component) -> None:
        """Create the choice in the open block; `add_editor` creates the rest."""
        self._catalog, self.text = workplace.service.catalog, workplace.text
        self._voice, self._speaker = voice, speaker
        self.choice = gr.Dropdown([], label=self.text("presets.preset"), elem_id="preset", min_width=160)
        self.applied = gr.State("")
        """Name of the preset whose options are shown; the choice may already be that of the next voice."""

    def add_editor(self, controls: Controls, *changes: Any) -> None:
        """Create the editor in the open block, and connect all to the controls of the options.

        Args:
            controls: The controls.
            *changes: Events that change options other than by input; the preset is then no longer chosen.
        """
        self._controls, text = controls, self.text
        with gr.Row(elem_classes="actions"):
            self.name = gr.Textbox(
                "", label=text("presets.name"), info=text("presets.help"), elem_id="preset_name", max_lines=1, scale=2
            )
            with gr.Column(min_width=160):
                save = gr.Button(text("presets.save"), elem_id="preset_save")
                delete = gr.Button(text("presets.delete"), elem_id="preset_delete")
        self.status = gr.HTML(elem_id="preset_status", padding=False)
        selected, listed = [self._voice, self.choice], [self.status, self.choice, self.applied]
        applied = [self.name, self.status, self.applied, self._speaker, *controls.components]
        self.choice.input(self.apply, selected, applied, **QUIET)
        inputs = [one.input for one in (self._speaker, *controls.components) if hasattr(one, "input")]
        gr.on([*inputs, *changes], None, None, self.choice, js="() => ''")
        save.click(self.save, {self._voice, self._speaker, self.name, *controls.components}, listed, **QUIET)
        delete.click(self.delete, selected, listed, **QUIET)

    @reporting("status")
    def apply(self, voice: str | None, preset: str | None) -> dict[Any, Any]:
        """Show the options of a preset, or the defaults if none is chosen."""
        values = read_preset(self._path(voice), preset) if preset else {}
        return self._updates(voice or "", preset or "", values)

    @reporting("status")
    def save(self, given: dict[Component, Any]) -> dict[Any, Any]:
        """Save the options as a preset."""
        path = self._path(given[self._voice])
        options = self._controls.options(given, speaker=given[self._speaker] or None)
        saved = save_preset(path, given[self.name].strip(), options)
        message = self.text("presets.saved", file=saved)
        chosen_preset = {self.choice: self._list(path, saved.stem), self.applied: saved.stem}
        return {self.status: markup.status(message), **chosen_preset}

    @reporting("status")
    def delete(self, voice: str | None, preset: str | None) -> dict[Any, Any]:
        """Delete a preset; the options stay as they are."""
        path = self._path(voice)
        delete_preset(path, preset or "")
        message = self.text("presets.deleted", name=preset)
        return {self.status: markup.status(message), self.choice: self._list(path, "")}

    def of_voice(self, voice: str, applied: str | None) -> dict[Any, Any]:
        """Return the updates when a voice is chosen: its presets, and the options of the default one.

        Without a default preset, options are kept unless they are those of `applied`, a preset of the previous voice.

        Raises:
            ConfigurationError: The default preset is damaged.
        """
        path = self._path(voice)
        name = first_preset(path)
        updates: dict[Any, Any] = {self.choice: self._list(path, name)}
        if name or applied:
            updates |= self._updates(voice, name, read_preset(path, name) if name else {})
        return updates

    def overrides(self, voice: Any, options: ConversionOptions) -> list[str]:
        """Return the overrides of some options: the preset that sets exactly these, or each option."""
        values = chosen(options)
        for name in list_presets(voice) if values else []:
            try:
                if ConversionOptions.from_values(read_preset(voice, name)) == options:
                    return [format_override("preset", name)]
            except RVCError:
                continue
        return [format_override(name, value) for name, value in values.items()]

    def _path(self, voice: str | None) -> Path:
        return self._catalog.path(voice or "")

    def _updates(self, voice: str, preset: str, values: Mapping[str, Any]) -> dict[Any, Any]:
        """Return the updates that show the values of a preset, with its speaker."""
        options = ConversionOptions.from_values(values)
        speaker = speaker_choice(speakers_of(self._catalog.facts(voice)), options.speaker)
        shown = {self.name: preset, self.applied: preset, self._speaker: gr.update(value=speaker)}
        return shown | self._controls.updates(options)

    def _list(self, voice: Path, value: str) -> Any:
        return gr.update(choices=preset_choices(voice, self.text), value=value)
