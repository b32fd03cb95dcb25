"""The tables of texts are complete."""

import re
from pathlib import Path

import pytest
from voices import VOICES

import rvc_lightning.app
from rvc_lightning.app.commands import EXPERIMENTS, GROUPS, SETTINGS
from rvc_lightning.app.controls import EXCLUDED, label_and_help
from rvc_lightning.app.texts import FOLDER, LANGUAGES, Texts
from rvc_lightning.cli.resolvers import ASSETS
from rvc_lightning.config.options import option_fields
from rvc_lightning.conversion.effects import EFFECTS
from rvc_lightning.conversion.lengths import PRESETS
from rvc_lightning.conversion.options import ConversionOptions
from rvc_lightning.data.selection import SPEAKER_RULES
from rvc_lightning.evaluation.page import TASKS
from rvc_lightning.jobs.job import State
from rvc_lightning.live.options import LiveOptions
from rvc_lightning.separation.base import PARTS
from rvc_lightning.tts import SPEECH_ENGINES
from rvc_lightning.voice.info import SUMMARY, as_rows, read_voice_info

SOURCES = [*Path(rvc_lightning.app.__file__).parent.rglob("*.py"), *(ASSETS / "live").iterdir(), FOLDER / "page.js"]
USED = set(re.findall(r"""\b_?text(?:\(\s*f?|=)["']([^"']+)["']""", "\n".join(map(Path.read_text, SOURCES))))
PREFIXES = tuple(name.partition("{")[0] for name in USED if "{" in name)


ENGLISH = Texts("en").table
DESCRIPTIONS = ("options", "effects", "settings")
"""Groups that replace descriptions of the code; the English table has only some."""


def texts_of_the_page(language):
    return {
        name: text
        for name, text in Texts(language).table.items()
        if name.partition(".")[0] not in (*DESCRIPTIONS, "facts")
    }


def descriptions(language):
    return {name for group in DESCRIPTIONS for name in Texts(language).of_group(group)}


def described():
    """Return the names of all descriptions that the page shows."""
    options = [*option_fields(ConversionOptions), *option_fields(LiveOptions)]
    shown = [f"options.{field.name}" for field in options if field.name not in (*EXCLUDED, "bypass", "mute")]
    for name, effect in EFFECTS.items():
        shown += [f"effects.{name}", *(f"effects.{name}.{field.name}" for field in option_fields(effect))]
    shown += [f"settings.{name}" for name in (*GROUPS, *SETTINGS)]
    return {f"{name}.{part}" for name in shown for part in ("label", "help")}


def test_every_text_of_the_code_is_in_the_table():
    assert len(USED) > 30
    assert not sorted(name for name in USED if "{" not in name and name not in ENGLISH)
    assert not [prefix for prefix in PREFIXES if not any(name.startswith(prefix) for name in ENGLISH)]


def test_every_text_of_the_table_is_used():
    names = texts_of_the_page("en")
    assert not [name for name in names if name not in USED and not name.startswith(PREFIXES)]


def test_every_choice_that_the_page_lists_has_a_text():
    choices = {
        "jobs.states": State,
        "datasets.rules": SPEAKER_RULES,
        "judge.tasks": TASKS,
        "experiments": EXPERIMENTS,
        "create.engines": SPEECH_ENGINES,
        "create.separations": PARTS,
        "live.presets": PRESETS,
    }
    names = [f"{group}.{getattr(choice, 'value', choice)}" for group, listed in choices.items() for choice in listed]
    assert not [name for name in names if name not in ENGLISH]


@pytest.mark.parametrize("language", LANGUAGES)
def test_languages_have_the_same_texts_and_placeholders(language):
    def placeholders(texts):
        return {name: sorted(re.findall(r"{(\w*)}", text)) for name, text in texts.items()}

    assert placeholders(texts_of_the_page(language)) == placeholders(texts_of_the_page("en"))


def test_descriptions_of_the_english_table_belong_to_existing_options():
    assert descriptions("en") <= described()


@pytest.mark.parametrize("language", [language for language in LANGUAGES if language != "en"])
def test_other_languages_describe_every_option_and_setting(language):
    assert descriptions(language) == described()
    facts = {name for name, _ in as_rows(read_voice_info(VOICES[0])) if name}
    assert {f"facts.{name}" for name in (*SUMMARY, *facts)} <= set(Texts(language).table)


def test_description_of_another_language_replaces_the_english_one():
    (field,) = (field for field in option_fields(ConversionOptions) if field.name == "index_rate")
    assert label_and_help(field, Texts("de"))[0] == "Indexanteil"
    assert label_and_help(field, Texts("en"))[0] == "Index rate"
