"""What is let through to Gradio, which would read whatever file of the machine, or address, a request names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_TAKEN = {f"/gradio_api/{name}" for name in ("queue/join", "cancel", "reset")}
"""What the page asks for, beside uploads, whose size Gradio bounds."""
_UPLOAD = "/gradio_api/upload"
_MOST_BYTES = 1 << 20


class UploadOnlyMiddleware:
    """Refuses what the page does not send, and requests that name other files than those that were uploaded.

    A page that is mounted, not launched, does not check that (Gradio 6.31), and addresses are fetched either way.
    """

    def __init__(self, app: ASGIApp, folder: Path) -> None:
        """Stands before an application whose uploads are in `folder`."""
        self._app, self._folder = app, folder.resolve()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets a request through as it came, or answers it with what is wrong."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS") or scope["path"] == _UPLOAD:
            await self._app(scope, receive, send)
            return
        if scope["path"] not in _TAKEN:
            await PlainTextResponse("there is nothing to be asked here", 404)(scope, receive, send)
            return
        body = await _read(receive)
        if len(body) > _MOST_BYTES:
            await PlainTextResponse("the request is too large", 413)(scope, receive, send)
        elif strange := next((name for name in _named(body) if not self._is_uploaded(name)), None):
            await PlainTextResponse(f"'{strange}' was not uploaded", 403)(scope, receive, send)
        else:
            await self._app(scope, _replayed(body, receive), send)

    def _is_uploaded(self, name: str) -> bool:
        return "\0" not in name and Path(name).resolve().is_relative_to(self._folder)


async def _read(receive: Receive) -> bytes:
    body, more = b"", True
    while more and len(body) <= _MOST_BYTES:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def _named(body: bytes) -> Iterator[str]:
    """Files that a request names; those of what is no JSON are nobody's."""
    try:
        content = json.loads(body or b"null")
    except (ValueError, RecursionError):
        return
    waiting: list[Any] = [content]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield from [str(one["path"])] if one.get("path") else []
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)


def _replayed(body: bytes, receive: Receive) -> Receive:
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    return again
