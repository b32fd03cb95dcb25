"""Texts of the page: a table for each language, `assets/page/LANGUAGE.yaml`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from rvc_lightning.cli.resolvers import ASSETS

FOLDER = ASSETS / "page"
LANGUAGES = tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


class Texts:
    """Texts of one language by dotted names, such as `convert.stop`."""

    def __init__(self, language: str = "en") -> None:
        """Read the table of a language, one of `LANGUAGES`."""
        self.language = language
        self.table = dict(_flat(yaml.safe_load(Path(FOLDER, f"{language}.yaml").read_text(encoding="utf-8"))))

    def __call__(self, name: str, /, **values: Any) -> str:
        """Return a text with the values of its placeholders."""
        return self.table[name].format(**values)

    def get(self, name: str, default: str) -> str:
        """Return a text; `default`, in English, if the table of the language does not contain it."""
        return self.table.get(name, default)

    def of_group(self, group: str) -> dict[str, str]:
        """Return the texts of a group by their full names."""
        return {name: text for name, text in self.table.items() if name.startswith(f"{group}.")}


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", str(value)
