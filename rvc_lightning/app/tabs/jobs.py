"""The jobs of a tab: their state and progress, stop, resume, remove, log and command."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import gradio as gr

from rvc_lightning.app import markup
from rvc_lightning.app.folders import have_same_files
from rvc_lightning.app.labels import error_of, in_words
from rvc_lightning.app.tabs.workplace import QUIET, Workplace
from rvc_lightning.data.report import format_duration
from rvc_lightning.errors import InUseError, RVCError
from rvc_lightning.jobs.job import INPUT, Job, JobProgress, State

REFRESH_SECONDS = 2.0

_LOG_BYTES = 6000
_MAX_SHOWN = 12


class JobsView:
    """List of the jobs of some commands, and the chosen one."""

    def __init__(self, workplace: Workplace, tab: gr.Tab, name: str, commands: Sequence[str]) -> None:
        """Create the components in the open block.

        Args:
            workplace: Shared objects of the tabs.
            tab: Tab of the view; opening it refreshes the list before the first tick of the timer.
            name: Prefix of the element ids.
            commands: Commands whose jobs are listed.
        """
        self._jobs, self._text, self._commands = workplace.jobs, workplace.text, commands
        self._max_waiting = workplace.service.limits.max_waiting
        text = workplace.text
        gr.Markdown(f"## {text('jobs.title')}")
        self.list = gr.HTML(elem_id=f"{name}_jobs", elem_classes="scroll", padding=False)
        with gr.Row(elem_classes="actions"):
            self.choice = gr.Dropdown([], label=text("jobs.job"), elem_id=f"{name}_job", scale=3)
            titles = {"stop": text("common.stop"), "resume": text("jobs.resume"), "remove": text("jobs.remove")}
            self.stop, self.resume, self.remove = (
                gr.Button(title, interactive=False, elem_id=f"{name}_{action}", min_width=100)
                for action, title in titles.items()
            )
        self.message = gr.HTML(elem_id=f"{name}_message", padding=False)
        self.details = gr.HTML(elem_id=f"{name}_details", padding=False)
        self.shown = gr.State("")
        """Changes with the jobs, their states and the choice."""
        self.timer = gr.Timer(REFRESH_SECONDS, active=False)
        self.submitted: list[Any] = [self.choice, self.message, self.timer]
        """Outputs of `submit`."""
        refreshed = [self.list, self.choice, self.details, self.shown, self.stop, self.resume, self.remove]
        for event in (tab.select, self.timer.tick, self.choice.input):
            event(self.refresh, [self.choice, self.shown], refreshed, **QUIET)
        for button, action in ((self.stop, "stop"), (self.resume, "resume"), (self.remove, "remove")):
            button.click(self._acting(action), self.choice, [self.message, self.choice], **QUIET).then(
                self.refresh, [self.choice, self.shown], refreshed, **QUIET
            )

    def refresh(self, chosen: str | None, shown: str) -> tuple[Any, ...]:
        """Return list, choices, details and buttons, as far as they have changed since the state in `shown`."""
        every = self._jobs.jobs()
        jobs = self._listed(every)
        if chosen not in {job.id for job in jobs}:
            chosen = jobs[0].id if jobs else None
        rows = "".join(self._row(job, every) for job in jobs[:_MAX_SHOWN])
        table = f'<table class="list">{rows}</table>' if jobs else markup.hint(self._text("jobs.none"))
        details = self._details(chosen) if chosen else ""
        signature = f"{chosen}{[(job.id, job.state) for job in jobs]}{details}"
        if signature == shown:
            return table, *(6 * [gr.skip()])
        ended = [job.state.is_final for job in jobs if job.id == chosen]
        buttons = [gr.update(interactive=enabled in ended) for enabled in (False, True, True)]
        return table, self._choose(chosen), details, signature, *buttons

    def submit(self, command: str, overrides: Sequence[str], title: str, **others: Any) -> dict[Any, Any]:
        """Submit a job as `JobStore.submit` does; return the updates that choose and announce it.

        Raises:
            BusyError: Too many jobs are waiting.
            InUseError: The same job is waiting or running, such as after a second click.
        """
        self._jobs.check_waiting(self._max_waiting)
        for job in self._jobs.jobs():
            if not job.state.is_final and self._is_same(job, command, overrides, others.get("job_id")):
                raise InUseError(self._text("jobs.is_submitted", title=self.title(job)))
        job = self._jobs.submit(command, overrides, title, **others)
        return {
            self.choice: self._choose(job.id),
            self.message: markup.status(self._text("jobs.submitted", title=title)),
            self.timer: gr.update(active=True),
        }

    def _is_same(self, job: Job, command: str, overrides: Sequence[str], job_id: str | None) -> bool:
        """Return whether a job is the same work as a new one, whose files are in the folder `job_id` if it has any."""
        if job_id is None:
            return (job.command, job.overrides) == (command, tuple(overrides))
        known, new = (
            [one.replace(own, "") for one in texts] for own, texts in ((job.id, job.overrides), (job_id, overrides))
        )
        is_same = (job.command, known) == (command, new)
        return is_same and have_same_files(job.folder / INPUT, self._jobs.folder / job_id / INPUT)

    def _ahead(self, job: Job, jobs: Sequence[Job]) -> str:
        """Return a sentence with the jobs that run before a waiting one; an empty text if there are none."""
        others = [other for other in jobs if other.device == job.device and not other.state.is_final]
        titles = [other.title for other in others if (other.created, other.id) < (job.created, job.id)]
        return self._text("jobs.ahead", titles=", ".join(titles)) if titles else ""

    def title(self, job: Job) -> str:
        """Return title, time of submission and state of a job."""
        return f"{self._name(job)}: {self._text(f'jobs.states.{job.state.value}')}"

    def _name(self, job: Job) -> str:
        """Return the title with the time, which distinguishes jobs with the same title."""
        return f"{job.title}, {datetime.fromtimestamp(job.created):%H:%M:%S}"

    def _listed(self, jobs: Sequence[Job]) -> list[Job]:
        return [job for job in reversed(jobs) if job.command in self._commands]

    def _choose(self, job_id: str | None) -> Any:
        """Return the update that selects a job. It lists all jobs: Gradio rejects a selected job that is not listed."""
        jobs = self._listed(self._jobs.jobs())
        return gr.update(choices=[(self.title(job), job.id) for job in jobs], value=job_id)

    def _acting(self, action: str) -> Any:
        def act(chosen: str | None) -> tuple[Any, Any]:
            if not chosen:
                return markup.error(self._text("jobs.choose")), gr.skip()
            known = {job.id for job in self._jobs.jobs()}
            try:
                result = getattr(self._jobs, action)(chosen)
            except InUseError:
                return markup.error(self._text("jobs.not_ended", title=self.title(self._jobs.job(chosen)))), gr.skip()
            except (RVCError, OSError) as error:
                return error_of(error, self._text), gr.skip()
            if action != "resume":
                return "", gr.skip()
            is_known = result.id in known
            message = markup.error(self._text("jobs.is_submitted", title=self.title(result))) if is_known else ""
            return message, self._choose(result.id)

        return act

    def _row(self, job: Job, jobs: Sequence[Job]) -> str:
        progress = self._jobs.progress(job.id) if job.state in (State.RUNNING, State.STOPPING) else JobProgress()
        cells = [self._text(f"jobs.states.{job.state.value}"), self._duration(job)]
        plain = "".join(f"<td>{markup.escaped(cell)}</td>" for cell in cells)
        is_waiting = job.state is State.WAITING
        last = markup.escaped(self._ahead(job, jobs)) if is_waiting else self._bar(job, progress)
        return f'<tr><th scope="row">{markup.escaped(self._name(job))}</th>{plain}<td>{last}</td></tr>'

    def _duration(self, job: Job) -> str:
        return "" if job.started is None else format_duration((job.ended or time.time()) - job.started)

    def _bar(self, job: Job, progress: JobProgress) -> str:
        if job.error:
            return markup.escaped(markup.sentence(in_words(job.error, self._text)))
        left = None if progress.seconds_left is None else format_duration(progress.seconds_left)
        note = progress.stage + (f", {self._text('jobs.left', duration=left)}" if left else "")
        if progress.share is None:
            return markup.escaped(note)
        percent = f"{100 * progress.share:.0f}"
        return (
            f'<div class="bar" role="progressbar" aria-valuenow="{percent}" aria-label="{markup.escaped(note)}">'
            f'<div style="width:{percent}%"></div></div>{percent} % {markup.escaped(note)}'
        )

    def _details(self, job_id: str) -> str:
        try:
            log, command = self._jobs.log(job_id, _LOG_BYTES), self._jobs.shell_command(job_id)
        except RVCError as error:
            return error_of(error, self._text)
        lines = log.replace("\r", "\n").splitlines()
        shown = markup.command(self._text("common.command"), command)
        return shown + (f'<pre class="log" tabindex="0">{markup.escaped(chr(10).join(lines))}</pre>' if lines else "")
