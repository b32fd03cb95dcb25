"""The tab Judge: `evaluate` as a job, and its reports in a frame."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr

from rvc_lightning.app import markup
from rvc_lightning.app.commands import composed
from rvc_lightning.app.folders import store_uploads, subfolders
from rvc_lightning.app.reports import ROUTE, list_reports, report_time
from rvc_lightning.app.tabs.jobs import JobsView
from rvc_lightning.app.tabs.workplace import QUIET, Workplace, reporting, shortened, upload_field
from rvc_lightning.audio.decode import AUDIO_EXTENSIONS
from rvc_lightning.cli.overrides import format_command, format_override
from rvc_lightning.errors import RVCError
from rvc_lightning.evaluation.page import TASKS
from rvc_lightning.jobs.job import INPUT


class JudgeTab:
    """Components and events of the tab."""

    def __init__(self, workplace: Workplace, tab: gr.Tab) -> None:
        """Create the components in the open block, and refresh lists when `tab` is opened."""
        self.workplace, self.text = workplace, workplace.text
        text = self.text
        gr.HTML(markup.hint(text("judge.hint")), padding=False)
        with gr.Row():
            self.refresh = gr.Button(text("common.refresh"), size="sm", render=False)
            self.voice = gr.Dropdown([], label=text("common.voice"), elem_id="judge_voice", buttons=[self.refresh])
            self.task = gr.Dropdown(
                [(text(f"judge.tasks.{task}"), task) for task in TASKS], value="conversion", label=text("judge.task"),
                elem_id="judge_task",
            )  # fmt: skip
        self.files = upload_field(text("judge.files"), "judge_files", AUDIO_EXTENSIONS)
        folders = text("datasets.folder_any" if workplace.is_local else "datasets.folder_below")
        helps = {"audio": folders, "reference": f"{text('judge.reference_help')} {folders}"}
        with gr.Row():
            self.audio, self.reference = (
                gr.Dropdown(
                    [],
                    label=text(f"judge.{name}"),
                    info=info,
                    allow_custom_value=workplace.is_local,
                    elem_id=f"judge_{name}",
                )
                for name, info in helps.items()
            )
        self.start = gr.Button(text("judge.start"), variant="primary", elem_id="judge_start")
        self.message = gr.HTML(elem_id="judge_plan", padding=False)
        self.jobs = JobsView(workplace, tab, "judge", ("evaluate",))
        gr.Markdown(f"## {text('judge.reports')}")
        self.report = gr.Dropdown([], label=text("judge.report"), elem_id="report_choice")
        self.newest = gr.State("")
        """Name and time of the newest report at the last look."""
        self.frame = gr.HTML(elem_id="report", elem_classes="report", padding=False)
        self._connect(tab)

    def _connect(self, tab: gr.Tab) -> None:
        listed = [self.voice, self.audio, self.reference, self.report, self.newest]
        inputs = [self.voice, self.report, self.newest]
        gr.on([tab.select, self.refresh.click, self.jobs.shown.change], self.list_all, inputs, listed, **QUIET)
        self.start.click(
            self.start_evaluation,
            [self.voice, self.task, self.audio, self.reference, self.files],
            [self.message, *self.jobs.submitted],
            **QUIET,
        )
        # A second evaluation of a voice replaces its report.
        gr.on([self.report.change, self.jobs.shown.change], self.show_report, self.report, self.frame, **QUIET)

    def list_all(self, voice: str | None, report: str | None, seen: str) -> tuple[Any, ...]:
        """List voices, folders of recordings and reports; a new report is chosen."""
        catalog = self.workplace.service.catalog
        catalog.refresh()
        names, reports = catalog.names, list_reports()
        newest = f"{reports[0]} {report_time(reports[0])}" if reports else ""
        is_kept = report in reports and seen in ("", newest)
        recordings = list(subfolders(self.workplace.folders.recordings))
        return (
            gr.update(choices=names, value=voice if voice in names else next(iter(names), None)),
            gr.update(choices=recordings),
            gr.update(choices=recordings),
            gr.update(choices=reports, value=report if is_kept else next(iter(reports), None)),
            newest,
        )

    @reporting("message")
    def start_evaluation(
        self, voice: str | None, task: str, audio: str | None, reference: str | None, files: list[str] | None = None
    ) -> dict[Any, Any]:
        """Submit the evaluation on dropped recordings, or on those of a folder, as a job."""
        if not voice:
            raise RVCError(self.text("convert.choose_voice"))
        if not files and not audio:
            raise RVCError(self.text("judge.choose_audio"))
        find, job_id = self.workplace.recordings_folder, self.workplace.jobs.new_id()
        folder = self.workplace.jobs.folder / job_id
        recordings = folder / INPUT / "recordings" if files else find(audio or "")
        overrides = [
            format_override("voice", self.workplace.service.catalog.path(voice)),
            format_override("audio", recordings),
            *([format_override("reference", find(reference))] if reference else []),
            *([format_override("task", task)] if task != "conversion" else []),
        ]
        composed("evaluate", overrides)
        names = shortened(", ".join(Path(path).name for path in files or [audio or ""]))
        title = self.text("judge.job", voice=voice, audio=names)
        with contextlib.ExitStack() as undo:
            undo.callback(shutil.rmtree, folder, ignore_errors=True)
            if files:
                self.workplace.check_uploads(files)
                store_uploads(files, recordings)
            submitted = self.jobs.submit("evaluate", overrides, title, job_id=job_id)
            undo.pop_all()
        command = markup.command(self.text("common.command"), format_command("evaluate", *overrides))
        return submitted | {self.message: command}

    def show_report(self, name: str | None) -> str:
        """Return a frame with a report, which may run nothing."""
        if not name:
            return markup.hint(self.text("judge.none"))
        title = markup.escaped(self.text("judge.title", name=name))
        return f'<iframe sandbox src="{ROUTE}/{quote(name)}?{report_time(name)}" title="{title}"></iframe>'
