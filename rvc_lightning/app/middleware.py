"""Filter of requests to Gradio, which would read any file of the machine, or address, that a request names."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rvc_lightning.app.problems import API, JOIN, reject
from rvc_lightning.app.storage import VisitorFiles

_UPLOAD = "/gradio_api/upload"
_JSON_ROUTES = {JOIN, "/gradio_api/cancel", "/gradio_api/reset"}
"""Routes that the page calls beside uploads."""
_MAX_JSON_BYTES = 1 << 20
_MAX_FORM_BYTES = 1 << 16
"""Overhead of an upload beside the file."""
_MAX_IDLE_SECONDS = 30.0


class UploadOnlyMiddleware:
    """Reject requests that neither page nor HTTP API take, and those that name files which were not uploaded.

    Bodies are bounded in size, total size and time; `AccessMiddleware` has checked who sent them. Gradio 6.31 does
    neither for a mounted page.
    """

    def __init__(self, app: ASGIApp, uploads: Path, files: VisitorFiles, max_file_bytes: int) -> None:
        """Protect an application.

        Args:
            app: Application to protect.
            uploads: Folder of the uploaded files.
            files: Storage that `uploads` is part of.
            max_file_bytes: Maximum size of an uploaded file.
        """
        self._app, self._uploads, self._files = app, uploads.resolve(), files
        self._max_bytes = max_file_bytes + _MAX_FORM_BYTES

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward a request unchanged, or answer it with the reason why not."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self._app(scope, receive, send)
        elif scope["path"] == _UPLOAD or _is_form(scope):
            await self._upload(scope, receive, send)
        elif scope["path"] in _JSON_ROUTES or scope["path"].startswith(f"{API}/"):
            await self._call(scope, _with_timeout(receive, self._files.keep_seconds), send)
        else:
            await reject(scope, receive, send, 404, "Not found")

    async def _upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        length = Headers(scope=scope).get("content-length", "")
        if not length.isdecimal():
            await reject(scope, receive, send, 411, "the header Content-Length is missing")
        elif int(length) > self._max_bytes:
            await reject(scope, receive, send, 413, "the file is too large")
        else:
            with self._files.reserve(int(length)) as enough:
                if enough:
                    await self._receive_upload(scope, receive, send)
                else:
                    reason = "the page's storage is full; try again in a few minutes"
                    await reject(scope, receive, send, 507, reason)

    async def _receive_upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, _with_timeout(receive, self._files.keep_seconds), send)
        except ClientDisconnect:
            await reject(scope, receive, send, 408, "the upload was interrupted")

    async def _call(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await _read(receive)
        if len(body) > _MAX_JSON_BYTES:
            await reject(scope, receive, send, 413, "the request is too large")
        elif scope["path"] in _JSON_ROUTES and (unknown := self._foreign_file(body)):
            await reject(scope, receive, send, 403, f"'{unknown}' was not uploaded")
        else:
            await self._app(scope, _replay(body, receive), send)

    def _foreign_file(self, body: bytes) -> str | None:
        """Return a file that a body names although it was not uploaded."""
        return next((name for name in _file_names(body) if not self._is_uploaded(name)), None)

    def _is_uploaded(self, name: str) -> bool:
        return "\0" not in name and Path(name).resolve().is_relative_to(self._uploads)


def _is_form(scope: Scope) -> bool:
    """Return whether a request brings files to the HTTP API."""
    kind = Headers(scope=scope).get("content-type", "")
    return scope["path"].startswith(f"{API}/") and kind.lower().startswith("multipart/")


def _with_timeout(receive: Receive, max_seconds: float) -> Receive:
    """Disconnect when a body pauses for `_MAX_IDLE_SECONDS`, or takes longer than `max_seconds`."""
    deadline = time.monotonic() + max_seconds
    complete = False

    async def timed() -> Message:
        nonlocal complete
        if complete:
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), min(_MAX_IDLE_SECONDS, deadline - time.monotonic()))
        except asyncio.TimeoutError:
            return {"type": "http.disconnect"}
        complete = not message.get("more_body", False)
        return message

    return timed


async def _read(receive: Receive) -> bytes:
    body, more = b"", True
    while more and len(body) <= _MAX_JSON_BYTES:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def _file_names(body: bytes) -> Iterator[str]:
    """Return the files that a JSON body names; none if it is not valid JSON."""
    try:
        content = json.loads(body or b"null")
    except (ValueError, RecursionError):
        return
    pending: list[Any] = [content]
    while pending:
        one = pending.pop()
        if isinstance(one, dict):
            yield from [str(one["path"])] if one.get("path") else []
            pending.extend(one.values())
        elif isinstance(one, list):
            pending.extend(one)


def _replay(body: bytes, receive: Receive) -> Receive:
    pending = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return pending.pop() if pending else await receive()

    return replayed
