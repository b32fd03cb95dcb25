"""The tables of texts are complete."""

import re
from pathlib import Path

import pytest

import rvc_lightning.app
from rvc_lightning.app.texts import LANGUAGES, Texts

SOURCE = "\n".join(path.read_text() for path in Path(rvc_lightning.app.__file__).parent.rglob("*.py"))
USED = set(re.findall(r"""\b_?text\(\s*f?["']([^"']+)["']""", SOURCE))
PREFIXES = tuple(name.partition("{")[0] for name in USED if "{" in name)


def test_every_text_of_the_code_is_in_the_table():
    assert len(USED) > 30
    assert not sorted(name for name in USED if "{" not in name and name not in Texts("en").table)
    assert not [prefix for prefix in PREFIXES if not any(name.startswith(prefix) for name in Texts("en").table)]


def test_every_text_of_the_table_is_used():
    assert not [name for name in Texts("en").table if name not in USED and not name.startswith(PREFIXES)]


@pytest.mark.parametrize("language", LANGUAGES)
def test_languages_have_the_same_texts_and_placeholders(language):
    def placeholders(table):
        return {name: sorted(re.findall(r"{(\w*)}", text)) for name, text in table.items()}

    assert placeholders(Texts(language).table) == placeholders(Texts("en").table)
