"""Files of an evaluation report."""

from __future__ import annotations

from pathlib import Path

from rvc_lightning.evaluation.page import render
from rvc_lightning.evaluation.report import Report
from rvc_lightning.io.files import atomic_path, write_json
from rvc_lightning.io.names import plain_name

JSON_NAME, PAGE_NAME = "evaluation.json", "evaluation.html"
REPORTS_FOLDER = Path("evaluations")
"""Default folder of the reports, below the working folder."""


def default_folder(voice_name: str) -> Path:
    """Return the default folder of a voice's report, inside the working folder for any voice name."""
    return REPORTS_FOLDER / plain_name(voice_name, "voice")


def has_report(folder: Path) -> bool:
    """Return whether the folder contains a report, which `write_report` would replace."""
    return any((folder / name).exists() for name in (JSON_NAME, PAGE_NAME))


def write_report(report: Report, folder: Path) -> Path:
    """Write `evaluation.json` and `evaluation.html` atomically; return the path of the latter."""
    write_json(folder / JSON_NAME, report.to_dict())
    with atomic_path(folder / PAGE_NAME) as temporary:
        temporary.write_text(render(report), encoding="utf-8")
    return folder / PAGE_NAME
