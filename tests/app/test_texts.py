"""The tables of texts are complete."""

import re
from pathlib import Path

import pytest

import rvc_lightning.app
from rvc_lightning.app.commands import EXPERIMENTS
from rvc_lightning.app.texts import LANGUAGES, Texts
from rvc_lightning.data.selection import SPEAKER_RULES
from rvc_lightning.evaluation.page import TASKS
from rvc_lightning.jobs.job import State
from rvc_lightning.separation.base import PARTS
from rvc_lightning.tts import SPEECH_ENGINES

SOURCE = "\n".join(path.read_text() for path in Path(rvc_lightning.app.__file__).parent.rglob("*.py"))
USED = set(re.findall(r"""\b_?text\(\s*f?["']([^"']+)["']""", SOURCE))
PREFIXES = tuple(name.partition("{")[0] for name in USED if "{" in name)


def test_every_text_of_the_code_is_in_the_table():
    assert len(USED) > 30
    assert not sorted(name for name in USED if "{" not in name and name not in Texts("en").table)
    assert not [prefix for prefix in PREFIXES if not any(name.startswith(prefix) for name in Texts("en").table)]


def test_every_text_of_the_table_is_used():
    assert not [name for name in Texts("en").table if name not in USED and not name.startswith(PREFIXES)]


def test_every_choice_that_the_page_lists_has_a_text():
    choices = {
        "jobs.states": State,
        "datasets.rules": SPEAKER_RULES,
        "judge.tasks": TASKS,
        "experiments": EXPERIMENTS,
        "create.engines": SPEECH_ENGINES,
        "create.separations": PARTS,
    }
    names = [f"{group}.{getattr(choice, 'value', choice)}" for group, listed in choices.items() for choice in listed]
    assert not [name for name in names if name not in Texts("en").table]


@pytest.mark.parametrize("language", LANGUAGES)
def test_languages_have_the_same_texts_and_placeholders(language):
    def placeholders(table):
        return {name: sorted(re.findall(r"{(\w*)}", text)) for name, text in table.items()}

    assert placeholders(Texts(language).table) == placeholders(Texts("en").table)
