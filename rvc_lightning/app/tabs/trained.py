"""The result of a training job: its voice, clips to listen to, and the way to the tab Convert."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from rvc_lightning.app import markup
from rvc_lightning.app.tabs.jobs import JobsView
from rvc_lightning.app.tabs.workplace import QUIET, Workplace
from rvc_lightning.errors import RVCError
from rvc_lightning.evaluation.showcase import LISTEN_FOLDER, listed_clips
from rvc_lightning.jobs.job import Job, State
from rvc_lightning.training.run import NOTHING_TRAINED

_MAX_RECORDINGS = 6


class Trained:
    """Voice and clips of the chosen job, if it is a training that has ended well."""

    def __init__(self, workplace: Workplace, jobs: JobsView) -> None:
        """Create the components in the open block."""
        self._workplace, self._text = workplace, workplace.text
        self.message = gr.HTML(elem_id="trained", padding=False)
        self.convert = gr.Button(self._text("trained.convert"), visible=False, elem_id="trained_convert")
        self.voice = gr.State("")
        """Name of the voice."""
        jobs.shown.change(self.show, jobs.choice, [self.message, self.convert, self.voice], **QUIET)

    def show(self, job_id: str | None) -> tuple[str, Any, str]:
        """Return voice and clips of a job, whether to show the button, and the name of the voice."""
        voice, message = "", ""
        # Another visitor may remove the job.
        with contextlib.suppress(RVCError):
            job = self._workplace.jobs.job(job_id or "")
            if job.command == "train" and job.state is State.DONE and (voice := self._voice(job)):
                message = self._message(job)
        return message, gr.update(visible=bool(voice)), voice

    def _voice(self, job: Job) -> str:
        """Return the name of the voice of a training; empty if it was deleted."""
        catalog = self._workplace.service.catalog
        catalog.refresh()
        folder = self._folder(job)
        return next((name for name in catalog.names if (catalog.folder / name).parent == folder), "")

    def _folder(self, job: Job) -> Path:
        """Return the folder of the voice of a training, which is named as that of its runs."""
        run = self._workplace.jobs.progress(job.id).output_folder
        return self._workplace.service.catalog.folder / (run.parent.name if run else job.id)

    def _message(self, job: Job) -> str:
        result = markup.status(self._text("trained.done"))
        if NOTHING_TRAINED in self._workplace.jobs.log(job.id):
            result = markup.error(self._text("trained.nothing"))
        return result + "".join(self._players(job))

    def _players(self, job: Job) -> Iterator[str]:
        """Yield the players of each recording that this training, not an earlier one of the voice, has converted."""
        assert job.started is not None and job.ended is not None
        for name, clips in list(listed_clips(self._folder(job) / LISTEN_FOLDER).items())[:_MAX_RECORDINGS]:
            players = [
                markup.player(
                    self._text(f"trained.clips.{clip}", name=name), markup.data_url("audio/wav", path.read_bytes())
                )
                for clip, path in clips.items()
                if job.started <= path.stat().st_mtime <= job.ended
            ]
            yield f'<div class="players">{"".join(players)}</div>'
