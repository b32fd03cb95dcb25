"""The HTTP API, /api/v1: voices, conversions, datasets, training runs and jobs."""

from __future__ import annotations

import asyncio
import mimetypes
import shutil
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from fastapi import APIRouter, Depends, FastAPI, Form, Request, UploadFile
from fastapi.security import HTTPBearer
from fastapi_offline import FastAPIOffline
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse

from rvc_lightning.app import api_commands as commands
from rvc_lightning.app.api_models import (
    ConvertForm,
    Dataset,
    JobStatus,
    PrepareRequest,
    Recordings,
    RecordingsForm,
    TrainRequest,
    Voice,
    VoiceFacts,
)
from rvc_lightning.app.commands import checked_training
from rvc_lightning.app.deletion import delete_dataset
from rvc_lightning.app.folders import Folders, prepared_datasets, subfolders
from rvc_lightning.app.problems import API, add_problems, problems
from rvc_lightning.app.service import ConversionService
from rvc_lightning.audio.discovery import display_name
from rvc_lightning.conversion.options import DEFAULT_FORMAT
from rvc_lightning.data.manifest import read_header
from rvc_lightning.errors import BusyError, DatasetError, InUseError, UnknownJobError, UnknownVoiceError
from rvc_lightning.io.disk import explain_write_errors
from rvc_lightning.io.files import atomic_path
from rvc_lightning.io.names import plain_name
from rvc_lightning.jobs.job import INPUT, OUTPUT, Job, State
from rvc_lightning.jobs.store import JobStore
from rvc_lightning.version import __version__

_EVENT_SECONDS = 0.5
_KEEP_ALIVE_SECONDS = 15.0

_Responses: TypeAlias = dict[int | str, dict[str, Any]]
_FORM = Form(media_type="multipart/form-data")
_AUDIO: _Responses = {200: {"content": {"audio/*": {"schema": {"type": "string", "format": "binary"}}}}}
_TEXT: _Responses = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}
_EVENTS: _Responses = {200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}}
_ACCEPTED: _Responses = {202: {"model": JobStatus, "description": "The job"}}


class Api:
    """The routes of the HTTP API."""

    def __init__(self, service: ConversionService, jobs: JobStore, folders: Folders) -> None:
        """Initialize the API.

        Args:
            service: Converter of recordings; its voices stay in memory between requests.
            jobs: Jobs of the server.
            folders: Folders of the server.
        """
        self._service, self._jobs, self._folders = service, jobs, folders
        self._requests = 0
        # Requests wait here, and not in threads, of which there are few.
        self._turn = asyncio.Lock()

    def application(self, *, has_token: bool) -> FastAPI:
        """Return the routes with their documentation, which loads nothing from other hosts, to be mounted at `API`."""
        app = FastAPIOffline(docs_url="/docs", redoc_url=None, title="rvc_lightning", version=__version__)
        bearer = [Depends(HTTPBearer(auto_error=False))] if has_token else []
        router = APIRouter(dependencies=bearer, responses=problems(400, 401, 403, 422))
        lists = {"voices": self.voices, "recordings": self.recordings, "datasets": self.datasets, "jobs": self.jobs}
        for name, function in lists.items():
            router.get(f"/{name}")(function)
        router.get("/voices/{name:path}", responses=problems(404))(self.voice)
        router.delete("/datasets/{name}", status_code=204, responses=problems(404, 409, 503))(self.delete_dataset)
        busy = problems(404, 408, 411, 413, 415, 429, 503, 507)
        router.post("/convert", response_class=Response, responses={**_AUDIO, **_ACCEPTED, **busy})(self.convert)
        upload = problems(408, 409, 411, 413, 503, 507)
        router.post("/recordings", status_code=201, responses=upload)(self.add_recordings)
        for path, submit in (("/prepare", self.prepare), ("/train", self.train)):
            router.post(path, status_code=202, responses=problems(413, 429, 503, 507))(submit)
        one = "/jobs/{job_id}"
        router.get(one, responses=problems(404))(self.job)
        router.delete(one, status_code=204, responses=problems(404, 409))(self.remove)
        router.post(f"{one}/cancel", responses=problems(404))(self.cancel)
        router.post(f"{one}/resume", status_code=202, responses=problems(404, 409, 429))(self.resume)
        router.get(f"{one}/log", response_class=Response, responses={**_TEXT, **problems(404)})(self.log)
        router.get(f"{one}/events", response_class=Response, responses={**_EVENTS, **problems(404)})(self.events)
        router.get(f"{one}/result", response_class=Response, responses={**_AUDIO, **problems(404, 409)})(self.result)
        app.include_router(router)
        add_problems(app)
        return app

    def voices(self) -> list[Voice]:
        """List the voices."""
        self._service.catalog.refresh()
        return [Voice(name=name) for name in self._service.catalog.names]

    def voice(self, name: str) -> VoiceFacts:
        """Describe a voice."""
        self._check_voice(name)
        return VoiceFacts.model_validate(self._service.catalog.facts(name))

    def recordings(self) -> list[Recordings]:
        """List the folders of recordings."""
        folders = Path(self._folders.recordings)
        return [Recordings(name=name, files=_files(folders / name)) for name in subfolders(folders)]

    def add_recordings(self, form: Annotated[RecordingsForm, _FORM]) -> Recordings:
        """Add recordings to a folder."""
        folder = Path(self._folders.recordings, form.name)
        if folder.is_symlink():
            raise InUseError(f"'{form.name}' is a link; choose another name")
        targets = [folder / _name_of(upload) for upload in form.files]
        for number, target in enumerate(targets):
            if target.exists() or target in targets[:number]:
                raise InUseError(f"'{form.name}' has a file '{target.name}' already; choose another name")
        with ExitStack() as undo:
            for upload, target in zip(form.files, targets, strict=True):
                with atomic_path(target) as temporary, temporary.open("wb") as stream:
                    shutil.copyfileobj(upload.file, stream)
                undo.callback(target.unlink)
            undo.pop_all()
        return Recordings(name=form.name, files=_files(folder))

    def datasets(self) -> list[Dataset]:
        """List the prepared datasets."""
        return list(filter(None, map(self._dataset, prepared_datasets(self._folders.datasets))))

    def delete_dataset(self, name: str) -> None:
        """Delete a prepared dataset that nothing uses; the recordings that it was prepared from are kept."""
        delete_dataset(name, self._folders, self._jobs)

    async def convert(self, request: Request, form: Annotated[ConvertForm, _FORM]) -> Response:
        """Convert a recording to a voice; the answer is the audio, or the job if `as_job` is set."""
        if form.as_job:
            job = await run_in_threadpool(self._submit_conversion, form)
            return JSONResponse(job.model_dump(mode="json"), 202, {"Location": f"{API}/jobs/{job.id}"})
        with self._admitted():
            async with _client_leaves(request) as has_left, self._turn:
                return await run_in_threadpool(self._convert, form, has_left)

    def prepare(self, request: PrepareRequest) -> JobStatus:
        """Prepare recordings as a dataset, in the background."""
        overrides = commands.prepare_overrides(request, self._folders)
        return self._submit("prepare", overrides, request.name or request.audio)

    def train(self, request: TrainRequest) -> JobStatus:
        """Train a voice, in the background."""
        overrides = commands.train_overrides(request, self._folders)
        checked_training(overrides)
        return self._submit("train", overrides, request.name or request.audio or str(request.experiment))

    def jobs(self) -> list[JobStatus]:
        """List the jobs, oldest first."""
        return list(map(self._status, self._jobs.jobs()))

    def job(self, job_id: str) -> JobStatus:
        """Describe a job, with its progress."""
        return self._status(self._jobs.job(job_id))

    def remove(self, job_id: str) -> None:
        """Remove an ended job with its log and uploaded files; what the command wrote elsewhere is kept."""
        self._jobs.remove(job_id)

    def cancel(self, job_id: str) -> JobStatus:
        """Stop a job as Ctrl-C does; a training saves its state."""
        return self._status(self._jobs.stop(job_id))

    def resume(self, job_id: str) -> JobStatus:
        """Submit an ended job again, once until that has ended; a training resumes from its last checkpoint."""
        self._check_queue()
        return self._status(self._jobs.resume(job_id))

    def log(self, job_id: str) -> PlainTextResponse:
        """Return the last part of the output of a job."""
        return PlainTextResponse(self._jobs.log(job_id))

    def events(self, job_id: str) -> StreamingResponse:
        """Send the description of a job whenever it changes, until it has ended, as server-sent events."""
        self._jobs.job(job_id)
        return StreamingResponse(self._events(job_id), media_type="text/event-stream")

    def result(self, job_id: str) -> FileResponse:
        """Return the audio of a conversion that was submitted as a job."""
        job = self._jobs.job(job_id)
        if not job.state.is_final:
            raise InUseError(f"job '{job_id}' is {job.state.value}; its result is not complete")
        files = sorted((job.folder / OUTPUT).glob("[!.]*")) if job.state is State.DONE else []
        if not files:
            raise UnknownJobError(f"job '{job_id}' has no result to download")
        return _audio_response(files[0])

    def _check_voice(self, name: str) -> None:
        catalog = self._service.catalog
        if name not in catalog.names:
            catalog.refresh()
        if name not in catalog.names:
            raise UnknownVoiceError(f"unknown voice '{name}'; {API}/voices lists them")

    def _dataset(self, name: str) -> Dataset | None:
        """Return a dataset; None if it is damaged."""
        try:
            header = read_header(Path(self._folders.datasets, name))
        except DatasetError:
            return None
        return Dataset(name=name, sample_rate=header.sample_rate, slices=header.slices, speakers=header.speakers)

    @contextmanager
    def _admitted(self) -> Iterator[None]:
        """Count a conversion, also while it waits. Raises BusyError if there are too many."""
        limit = self._service.limits.max_requests
        if self._requests >= limit:
            raise BusyError(f"{limit} conversions are already requested; try again in a few seconds")
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1

    def _convert(self, form: ConvertForm, has_left: threading.Event) -> FileResponse:
        """Convert after the conversions that were requested earlier on the page, unless the client leaves."""

        def check(*_: Any) -> None:
            if has_left.is_set():
                raise BusyError("the client has left")

        check()
        self._check_voice(form.voice)
        folder = Path(tempfile.mkdtemp())
        remove = partial(shutil.rmtree, folder, ignore_errors=True)
        with ExitStack() as undo:
            undo.callback(remove)
            f0_file = None if form.f0_file is None else _save(form.f0_file, folder / "f0")
            options = commands.conversion_options(form, f0_file)
            recording = _save(form.recording, folder / INPUT)
            with self._service.line.ticket() as turn:
                for _ in turn:
                    check()
                result = self._service.convert(form.voice, recording, options, folder, check)
            undo.pop_all()
        return _audio_response(result, BackgroundTask(remove))

    def _submit_conversion(self, form: ConvertForm) -> JobStatus:
        self._check_voice(form.voice)
        self._check_queue()
        options = commands.conversion_options(form, None)
        job_id = self._jobs.new_id()
        folder = self._jobs.folder / job_id
        with ExitStack() as undo:
            undo.callback(shutil.rmtree, folder, ignore_errors=True)
            recording = _save(form.recording, folder / INPUT)
            stem = f"{recording.stem}_{Path(form.voice).stem}"
            target = folder / OUTPUT / f"{stem}.{options.output_format or DEFAULT_FORMAT}"
            overrides = commands.convert_overrides(form, self._service.catalog.path(form.voice), recording, target)
            if form.f0_file is not None:
                # With the recording, whose name never begins with a dot, so that `JobStore.resume` copies both.
                curve = _save(form.f0_file, folder / INPUT / ".f0")
                overrides.append(commands.format_override("f0_file", curve))
            status = self._status(self._jobs.submit("convert", overrides, recording.name, job_id=job_id))
            undo.pop_all()
        return status

    def _submit(self, command: str, overrides: list[str], title: str) -> JobStatus:
        self._check_queue()
        return self._status(self._jobs.submit(command, overrides, title))

    def _check_queue(self) -> None:
        self._jobs.check_waiting(self._service.limits.max_waiting)

    def _status(self, job: Job) -> JobStatus:
        return JobStatus.of(job, self._jobs.progress(job.id), self._jobs.shell_command(job.id))

    async def _events(self, job_id: str) -> AsyncIterator[str]:
        sent, sent_at = None, 0.0
        while sent is None or not sent.state.is_final:
            try:
                status = await run_in_threadpool(self.job, job_id)
            except UnknownJobError:
                return
            if status != sent:
                yield f"data: {status.model_dump_json()}\n\n"
            elif time.monotonic() - sent_at > _KEEP_ALIVE_SECONDS:
                yield ": waiting\n\n"
            else:
                await asyncio.sleep(_EVENT_SECONDS)
                continue
            sent, sent_at = status, time.monotonic()


@asynccontextmanager
async def _client_leaves(request: Request) -> AsyncIterator[threading.Event]:
    """Yield an event that is set when the client closes the connection."""
    has_left = threading.Event()

    async def watch() -> None:
        # After its body, a request brings only this message.
        while (await request.receive())["type"] != "http.disconnect":
            pass
        has_left.set()

    watcher = asyncio.create_task(watch())
    try:
        yield has_left
    finally:
        watcher.cancel()


def _name_of(upload: UploadFile) -> str:
    """Return the name for the file of an upload."""
    return plain_name(Path(upload.filename or "").name, "recording")


def _save(upload: UploadFile, folder: Path) -> Path:
    """Write an upload into a new folder."""
    path = folder / _name_of(upload)
    with explain_write_errors(path):
        folder.mkdir(parents=True)
        with path.open("xb") as stream:
            shutil.copyfileobj(upload.file, stream)
    return path


def _files(folder: Path) -> list[str]:
    """Return the names of the files of a folder, without hidden ones."""
    return sorted(display_name(Path(path.name)) for path in folder.glob("[!.]*") if path.is_file())


def _audio_response(path: Path, background: BackgroundTask | None = None) -> FileResponse:
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return FileResponse(path, media_type=kind, filename=path.name, background=background)
