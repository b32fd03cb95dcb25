"""Controls of the presets of a voice."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.components import Component

from rvc_lightning.app import markup
from rvc_lightning.app.controls import Controls
from rvc_lightning.app.tabs.workplace import QUIET, Workplace
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
from rvc_lightning.io.disk import explain


class Presets:
    """Choice of a preset, and an editor among the options."""

    def __init__(self, workplace: Workplace) -> None:
        """Create the choice in the open block; `add_editor` creates the rest."""
        self._catalog, self._text = workplace.service.catalog, workplace.text
        self.choice = gr.Dropdown([], label=self._text("presets.preset"), elem_id="preset", min_width=160)

    def add_editor(self, voice: Component, controls: Controls) -> None:
        """Create the editor in the open block, and connect all to the controls of the options."""
        text = self._text
        with gr.Row(elem_classes="actions"):
            name = gr.Textbox(
                "", label=text("presets.name"), info=text("presets.help"), elem_id="preset_name", max_lines=1, scale=2
            )
            with gr.Column(min_width=160):
                save = gr.Button(text("presets.save"), elem_id="preset_save")
                delete = gr.Button(text("presets.delete"), elem_id="preset_delete")
        result = gr.HTML(elem_id="preset_status", padding=False)

        def apply(chosen_voice: str | None, preset: str | None) -> dict[Any, Any]:
            try:
                values = read_preset(self._catalog.path(chosen_voice or ""), preset) if preset else {}
                return {name: preset or "", **controls.updates(ConversionOptions.from_values(values))}
            except RVCError as error:
                return {result: markup.error(str(error))}

        def save_options(given: dict[Component, Any]) -> dict[Any, Any]:
            try:
                path = self._catalog.path(given[voice] or "")
                saved = save_preset(path, given[name].strip(), controls.options(given))
            except (RVCError, OSError) as error:
                return {result: markup.error(explain(error))}
            return {
                result: markup.status(text("presets.saved", file=saved)),
                self.choice: gr.update(choices=self._choices(list_presets(path)), value=saved.stem),
            }

        def delete_chosen(chosen_voice: str | None, preset: str | None) -> dict[Any, Any]:
            try:
                path = self._catalog.path(chosen_voice or "")
                delete_preset(path, preset or "")
            except (RVCError, OSError) as error:
                return {result: markup.error(explain(error))}
            return {
                result: markup.status(text("presets.deleted", name=preset)),
                self.choice: gr.update(choices=self._choices(list_presets(path)), value=""),
            }

        self.choice.input(apply, [voice, self.choice], [name, result, *controls.components], **QUIET)
        save.click(save_options, {voice, name, *controls.components}, [result, self.choice], **QUIET)
        delete.click(delete_chosen, [voice, self.choice], [result, self.choice], **QUIET)

    def of_voice(self, voice: str, controls: Controls) -> dict[Any, Any]:
        """Return the updates when a voice is chosen: its presets, and the options of the default one.

        Raises:
            ConfigurationError: The default preset is damaged.
        """
        path = self._catalog.path(voice)
        names = list_presets(path)
        has_default = DEFAULT in names
        updates: dict[Any, Any] = {
            self.choice: gr.update(choices=self._choices(names), value=DEFAULT if has_default else "")
        }
        if has_default:
            updates |= controls.updates(ConversionOptions.from_values(read_preset(path, DEFAULT)))
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

    def _choices(self, names: list[str]) -> list[tuple[str, str]]:
        return [(self._text("presets.none"), ""), *((name, name) for name in names)]
