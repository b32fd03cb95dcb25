"""Errors in the words of the page: labels in place of the names of options, which visitors do not see."""

from __future__ import annotations

import re
from functools import lru_cache

from rvc_lightning.app import markup
from rvc_lightning.app.commands import GROUPS, SETTINGS
from rvc_lightning.app.controls import effect_label, label_and_help
from rvc_lightning.app.texts import Texts
from rvc_lightning.config.options import option_fields
from rvc_lightning.conversion.effects import EFFECTS
from rvc_lightning.conversion.options import ConversionOptions
from rvc_lightning.errors import RVCError
from rvc_lightning.io.disk import explain
from rvc_lightning.live.options import LiveOptions

_FIELDS = {
    "data.seed": "settings.seed.label",
    "key_semitones": "create.key",
    "loudness_lufs": "create.loudness",
    "name": "voices.name",
    "preset": "presets.preset",
    "text": "create.text",
}
"""Texts of the fields for other settings."""
_DOTTED = "|".join(re.escape(name) for name in SETTINGS if "." in name)
_MISSING = ("''", "None", "null")


def error_of(error: RVCError | OSError, text: Texts) -> str:
    """Return the status line of an error."""
    return markup.error(in_words(explain(error), text))


def in_words(message: str, text: Texts) -> str:
    """Return a message of a command with the labels of the page, and words for missing values.

    `proposed_pitch_hz='': choose … or null` becomes `Proposed pitch (Hz) = empty: choose … or empty`. Names that are
    words of the language, such as `seed`, are replaced only before a value.
    """
    (labels, pattern), empty = _labels(text), text("common.empty")

    def with_label(match: re.Match[str]) -> str:
        name, value = match["name"], match["value"]
        if value is None:
            return f"'{labels[name]}'" if re.search("[._]", name) else name
        return f"{labels[name]} = {empty if value in _MISSING else value}"

    # In fields of a training, empty is unchanged, and null is typed.
    absent = "null" if re.search(_DOTTED, message) else empty
    return re.sub(r"\bor null\b", f"or {absent}", pattern.sub(with_label, message))


# Live conversion words its status several times a second.
@lru_cache(maxsize=8)
def _labels(text: Texts) -> tuple[dict[str, str], re.Pattern[str]]:
    """Return the label of each setting that the page offers, and a pattern of a setting with or without its value."""
    fields = (*option_fields(ConversionOptions), *option_fields(LiveOptions))
    labels = {field.name: label_and_help(field, text)[0] for field in fields}
    for effect, kind in EFFECTS.items():
        for field in option_fields(kind):
            label, _ = label_and_help(field, text, f"effects.{effect}")
            labels[f"{effect}.{field.name}"] = f"{effect_label(effect, text)}, {label}"
    for name in (*GROUPS, *SETTINGS):
        # Descriptions and errors of a group name its settings without the group.
        short = name.rpartition(".")[2]
        labels |= dict.fromkeys([name, short] if "_" in short else [name], text(f"settings.{name}.label"))
    labels |= {name: text(key) for name, key in _FIELDS.items()}
    names = "|".join(map(re.escape, sorted(labels, key=len, reverse=True)))
    return labels, re.compile(rf"(?<![\w./'\"-])(?P<name>{names})(?![\w/'\"-]|\.\w)(?:=(?P<value>'[^']*'|[^\s:;,]+))?")
