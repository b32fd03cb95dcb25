"""The files of a report."""

from __future__ import annotations

import re
from pathlib import Path

from rvc_lightning.evaluation.page import render
from rvc_lightning.evaluation.report import Report
from rvc_lightning.io.files import atomic_path, write_json

JSON_NAME, PAGE_NAME = "evaluation.json", "evaluation.html"
_LONGEST_NAME = 60


def folder_for(name: str) -> Path:
    """Where the report of a voice goes by default, below the working folder whatever a stranger has named the voice."""
    plain = re.sub(r"[^\w.-]+", "_", name).strip("._")[:_LONGEST_NAME]
    return Path("evaluations") / (plain or "voice")


def has_report(folder: Path) -> bool:
    """Whether a folder holds a report already, which `write_report` would replace."""
    return any((folder / name).exists() for name in (JSON_NAME, PAGE_NAME))


def write_report(report: Report, folder: Path) -> Path:
    """Writes `evaluation.json` and `evaluation.html`, each whole or not at all; gives the path of the page."""
    write_json(folder / JSON_NAME, report.to_dict())
    with atomic_path(folder / PAGE_NAME) as temporary:
        temporary.write_text(render(report), encoding="utf-8")
    return folder / PAGE_NAME
