"""Controls of the page for conversion options, built from the descriptions of their fields."""

from __future__ import annotations

import contextlib
import html
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import gradio as gr
from gradio.components import Component

from rvc_lightning.app.catalog import OPTIONS_OF_VOICES
from rvc_lightning.app.texts import Texts
from rvc_lightning.config.options import OptionField, option_fields
from rvc_lightning.conversion.effects import EFFECTS
from rvc_lightning.conversion.options import ConversionOptions

EXCLUDED = ("write_f0", "speaker")
"""Options without a control here: a file beside the result, and the speaker, which depends on the voice."""
PROMINENT = ("transpose_semitones", "proposed_pitch_hz")
"""Options that are shown beside the button instead of among the others."""

_IGNORED = ("transpose_semitones", "index_rate", "protect")
"""Options that voices ignore if they do not use them; they reject the others."""

_EFFECTS = "effects"
_FILE_ENDING = "_file"
_SPELLED_UNITS = {"s": "seconds"}
"""Names of units at the end of option names, if they differ from the unit."""


class Controls:
    """A control for each option and each parameter of each effect, visible if the effect is chosen."""

    def __init__(self, text: Texts) -> None:
        """Create the prominent controls in the open block; `add_others` creates the rest."""
        self._text = text
        self._options = _grid(_options(PROMINENT), text)
        self._parameters: dict[str, dict[str, Component]] = {}

    def add_others(self) -> None:
        """Create the controls of the other options in the open block."""
        names = [field.name for field in option_fields(ConversionOptions) if field.name not in (*EXCLUDED, *PROMINENT)]
        self._options |= _grid(_options(names), self._text)
        groups = [self._group_of(name) for name in EFFECTS]
        self._options[_EFFECTS].change(  # type: ignore[attr-defined]
            lambda chosen: [gr.update(visible=name in chosen) for name in EFFECTS],
            self._options[_EFFECTS],
            groups,
            show_progress="hidden",
            api_visibility="private",
        )

    @property
    def components(self) -> set[Component]:
        """All controls, the inputs of `options`."""
        parameters = (control for effect in self._parameters.values() for control in effect.values())
        return {*self._options.values(), *parameters}

    def __getitem__(self, name: str) -> Component:
        """Return the control of an option."""
        return self._options[name]

    def options(self, values: Mapping[Component, Any], **extra: Any) -> ConversionOptions:
        """Return the chosen options.

        Args:
            values: Values of all components.
            **extra: Options without a control.

        Raises:
            ConfigurationError: A value is invalid, or two options contradict each other.
        """
        chosen = {name: values[control] for name, control in self._options.items()}
        chosen |= {
            field.name: _parse(field, chosen[field.name])
            for field in option_fields(ConversionOptions)
            if field.name in chosen
        }
        chosen[_EFFECTS] = [
            {"name": effect} | {name: values[control] for name, control in self._parameters[effect].items()}
            for effect in chosen[_EFFECTS] or []
        ]
        return ConversionOptions.from_values(chosen | extra)

    def updates(self, options: ConversionOptions) -> dict[Component, Any]:
        """Return the values of all controls for some options, except uploads."""
        fields = {field.name: field for field in option_fields(ConversionOptions)}
        updates: dict[Component, Any] = {}
        for name, control in self._options.items():
            if name != _EFFECTS and not name.endswith(_FILE_ENDING):
                updates[control] = _shown(fields[name], getattr(options, name))
        updates[self._options[_EFFECTS]] = [effect.name for effect in options.effects]
        for effect in options.effects:
            for name, value in vars(effect).items():
                updates[self._parameters[effect.name][name]] = value
        return updates

    def for_voice(self, values: Mapping[Component, Any], unused: Collection[str]) -> dict[Component, Any]:
        """Return the updates when a voice is chosen.

        Args:
            values: Values of components, which may include others.
            unused: Options that the voice does not use, see `VoiceCatalog.unused_options`. They are disabled, and reset
                if the voice rejects other values.
        """
        updates = dict(values)
        for name in OPTIONS_OF_VOICES:
            control = self._options[name]
            update = {"value": values[control]} if control in values else {}
            if name in unused and name not in _IGNORED:
                update["value"] = control.value
            updates[control] = gr.update(**update, interactive=name not in unused)
        return updates

    def _group_of(self, effect: str) -> gr.Column:
        with gr.Column(visible=False) as group:
            description = self._text.get(f"effects.{effect}.help", EFFECTS[effect].description)
            gr.HTML(f"<b>{effect_label(effect, self._text)}</b>: {description}")
            self._parameters[effect] = _grid(
                option_fields(EFFECTS[effect]), self._text, f"{effect}-", f"effects.{effect}"
            )
        return group


def _options(names: Collection[str]) -> list[OptionField]:
    return [field for field in option_fields(ConversionOptions) if field.name in names]


def _grid(
    options: Iterable[OptionField], text: Texts, prefix: str = "", group: str = "options"
) -> dict[str, Component]:
    controls = {}
    with gr.Row(elem_classes="options"):
        for field in options:
            # In a separate column, a control is not merged into a form with its neighbours.
            with gr.Column(min_width=0):
                controls[field.name] = control(field, text, prefix, group)
    return controls


def control(field: OptionField, text: Texts, prefix: str = "", group: str = "options") -> Component:
    """Create the control for an option from its type, range, choices, default and help.

    Args:
        field: Description of the option.
        text: Texts of the page.
        prefix: Prefix of the name in the element id 'option-NAME'.
        group: Group of the texts that replace label and help.
    """
    label, info = label_and_help(field, text, group)
    words: dict[str, Any] = {"label": label, "info": info, "elem_id": f"option-{prefix}{field.name}"}
    if field.kinds == (bool,):
        return gr.Checkbox(field.default, **words)
    if field.name == _EFFECTS:
        effects = [(effect_label(name, text), name) for name in EFFECTS]
        return gr.Dropdown(effects, value=[], multiselect=True, **words)
    if field.choices:
        free = [(text("common.default"), "")] if field.optional else []
        return gr.Dropdown([*free, *((name, name) for name in field.choices)], value=field.default or "", **words)
    if field.name.endswith(_FILE_ENDING):
        return _upload(**words)
    if field.optional or not {int, float} & set(field.kinds):
        # A number field shows 0 if empty.
        return gr.Textbox(
            "" if field.default is None else str(field.default), placeholder=text("common.empty"), **words
        )
    precision = None if float in field.kinds else 0
    if field.min is None or field.max is None:
        return gr.Number(field.default, minimum=field.min, maximum=field.max, precision=precision, **words)
    span = field.max - field.min
    # Values between the steps can be typed.
    step = 1 if span >= 20 or precision == 0 else 0.1 if span >= 2 else 0.01
    return gr.Slider(field.min, field.max, field.default, step=step, precision=precision, **words)


def _upload(label: str, info: str, elem_id: str) -> Component:
    """Create an upload: a path would refer to the server."""
    file = gr.File(type="filepath", file_types=[".csv", ".txt"], height=120, label=label, elem_id=elem_id)
    gr.HTML(html.escape(info), elem_classes="info")
    return file


def _parse(field: OptionField, value: Any) -> Any:
    """Convert the value of a control for its option: empty text to None, other text to a number if one is needed."""
    if value == "" and field.optional:
        return None
    if isinstance(value, str) and str not in field.kinds:
        with contextlib.suppress(ValueError):
            return float(value) if float in field.kinds else int(value)
    return value


def _shown(field: OptionField, value: Any) -> Any:
    """Return the value of a control for that of its option."""
    is_text = field.optional or not {bool, int, float} & set(field.kinds)
    if value is None:
        return ""
    return str(value) if is_text else value


def label_and_help(field: OptionField, text: Texts, group: str = "options") -> tuple[str, str]:
    """Return label and help of an option: those of `group` in the texts, or else those of its description."""
    label = text.get(f"{group}.{field.name}.label", label_of(field.name, field.unit))
    return label, _sentence_case(text.get(f"{group}.{field.name}.help", re.sub(r"\bnull\b", "empty", field.help)))


def effect_label(name: str, text: Texts) -> str:
    """Return the label of an effect."""
    return text.get(f"effects.{name}.label", label_of(name, ""))


def label_of(name: str, unit: str) -> str:
    """Return the English label of an option: `transpose_semitones` in semitones -> 'Transpose (semitones)'."""
    words = name.split("_")
    if unit and words[-1].lower() in (unit.lower(), _SPELLED_UNITS.get(unit)):
        words.pop()
    return _sentence_case(" ".join(words)) + (f" ({unit})" if unit else "")


def _sentence_case(text: str) -> str:
    return text[:1].upper() + text[1:]
