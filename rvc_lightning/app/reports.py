"""The reports of `evaluate`, served for a frame of the page."""

from __future__ import annotations

from fastapi import FastAPI, HTTPException
from fastapi.responses import FileResponse

from rvc_lightning.evaluation.output import PAGE_NAME, REPORTS_FOLDER

ROUTE = "/reports"


def list_reports() -> list[str]:
    """Return the names of the reports, the newest first."""
    found = [path for path in REPORTS_FOLDER.glob(f"*/{PAGE_NAME}") if path.is_file() and not path.is_symlink()]
    return [path.parent.name for path in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)]


def report_time(name: str) -> int:
    """Return the time of a report in ns. Raises OSError if there is none of this name."""
    return (REPORTS_FOLDER / name / PAGE_NAME).stat().st_mtime_ns


def add_reports(app: FastAPI) -> None:
    """Add the route of the reports to an application. They may run no script, and load nothing."""

    def report(name: str) -> FileResponse:
        if name not in list_reports():
            raise HTTPException(404, "no such report")
        headers = {"Content-Security-Policy": "sandbox", "X-Content-Type-Options": "nosniff"}
        return FileResponse(REPORTS_FOLDER / name / PAGE_NAME, media_type="text/html", headers=headers)

    app.add_api_route(f"{ROUTE}/{{name}}", report, include_in_schema=False)
