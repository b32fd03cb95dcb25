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
        self.table = dict(_flat(yaml.safe_load(Path(FOLDER, f"{language}.yaml").read_text(encoding="utf-8"))))

    def __call__(self, name: str, /, **values: Any) -> str:
        """Return a text with the values of its placeholders."""
        return self.table[name].format(**values)


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", str(value)
