"""Controls of a page for a dataclass of options, made from what its fields say of themselves."""

from __future__ import annotations

import contextlib
import html
import re
from collections.abc import Iterable, Mapping
from typing import Any

import gradio as gr
from gradio.components import Component

from rvc_lightning.config.options import OptionField, option_fields
from rvc_lightning.conversion.effects import EFFECTS
from rvc_lightning.conversion.options import ConversionOptions

NOT_HERE = ("write_f0", "speaker")
"""Options without a control of this kind: a file beside the result, and what depends on the voice."""

_EFFECTS = "effects"
_FILE_ENDING = "_file"
_HELP_HERE = {
    "effects": "they follow each other in the order in which they are chosen",
    "f0_file": "pitch from a file of lines 'seconds,Hz' in place of the recording's own; 0 is unvoiced",
    "output_format": "of the result; wav by default",
}
"""What is said of options on a command line does not always help here."""

_SPELLED_UNITS = {"s": "seconds"}
"""Units that names end in, where they do not end in the unit itself."""


class Controls:
    """A control for each option, and for each parameter of each effect, shown where the effect is chosen."""

    def __init__(self) -> None:
        """Lays them out in the block that is open."""
        self._options = _grid([one for one in option_fields(ConversionOptions) if one.name not in NOT_HERE])
        self._parameters: dict[str, dict[str, Component]] = {}
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
        """All of them: what `options` wants the values of."""
        parameters = (control for effect in self._parameters.values() for control in effect.values())
        return {*self._options.values(), *parameters}

    def options(self, values: Mapping[Component, Any], **more: Any) -> ConversionOptions:
        """What is chosen.

        Args:
            values: Of all components.
            more: Options that have no control here.

        Raises:
            ConfigurationError: Two options contradict each other, or a value is none that can be chosen.
        """
        chosen = {name: values[control] for name, control in self._options.items()}
        chosen |= {
            one.name: _typed(one, chosen[one.name]) for one in option_fields(ConversionOptions) if one.name in chosen
        }
        chosen[_EFFECTS] = [
            {"name": effect} | {name: values[control] for name, control in self._parameters[effect].items()}
            for effect in chosen[_EFFECTS] or []
        ]
        return ConversionOptions.from_values(chosen | more)

    def _group_of(self, effect: str) -> gr.Column:
        with gr.Column(visible=False) as group:
            gr.HTML(f"<b>{_title(effect, '')}</b>: {EFFECTS[effect].about}")
            self._parameters[effect] = _grid(option_fields(EFFECTS[effect]), f"{effect}-")
        return group


def _grid(options: Iterable[OptionField], prefix: str = "") -> dict[str, Component]:
    controls = {}
    with gr.Row(elem_classes="options"):
        for one in options:
            # Of one that stands alone, Gradio makes no form with its neighbours.
            with gr.Column(min_width=0):
                controls[one.name] = control(one, prefix)
    return controls


def control(one: OptionField, prefix: str = "") -> Component:
    """The control that suits an option: its range, choices, default and help are those of the field.

    Args:
        one: The option.
        prefix: Of its id in the page, 'option-NAME'.
    """
    words: dict[str, Any] = {
        "label": _title(one.name, one.unit),
        "info": _HELP_HERE.get(one.name) or re.sub(r"\bnull\b", "empty", one.help),
        "elem_id": f"option-{prefix}{one.name}",
    }
    if one.kinds == (bool,):
        return gr.Checkbox(one.default, **words)
    if one.name == _EFFECTS:
        return gr.Dropdown([(_title(name, ""), name) for name in EFFECTS], value=[], multiselect=True, **words)
    if one.choices:
        free = [("default", "")] if one.optional else []
        return gr.Dropdown([*free, *((name, name) for name in one.choices)], value=one.default or "", **words)
    if one.name.endswith(_FILE_ENDING):
        return _upload(**words)
    if one.optional or not {int, float} & set(one.kinds):
        # A number's own control shows 0 where there is none.
        return gr.Textbox("" if one.default is None else str(one.default), placeholder="empty", **words)
    precision = None if float in one.kinds else 0
    if one.min is None or one.max is None:
        return gr.Number(one.default, minimum=one.min, maximum=one.max, precision=precision, **words)
    span = one.max - one.min
    # Numbers between the steps can be typed.
    step = 1 if span >= 20 or precision == 0 else 0.1 if span >= 2 else 0.01
    return gr.Slider(one.min, one.max, one.default, step=step, precision=precision, **words)


def _upload(label: str, info: str, elem_id: str) -> Component:
    """A file of the browser's machine: a path typed there would be one of the server's."""
    file = gr.File(type="filepath", file_types=[".csv", ".txt"], height=120, label=label, elem_id=elem_id)
    gr.HTML(html.escape(info), elem_classes="info")
    return file


def _typed(one: OptionField, given: Any) -> Any:
    """What a control gives, as its option takes it: what is left empty is None, and of text numbers are made."""
    if given == "" and one.optional:
        return None
    if isinstance(given, str) and str not in one.kinds:
        with contextlib.suppress(ValueError):
            return float(given) if float in one.kinds else int(given)
    return given


def _title(name: str, unit: str) -> str:
    """`transpose_semitones` in semitones -> 'Transpose (semitones)'."""
    words = name.split("_")
    if unit and words[-1].lower() in (unit.lower(), _SPELLED_UNITS.get(unit)):
        words.pop()
    spoken = " ".join(words)
    return f"{spoken[:1].upper()}{spoken[1:]}" + (f" ({unit})" if unit else "")
