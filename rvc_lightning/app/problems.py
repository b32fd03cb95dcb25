"""Errors of the HTTP API as problem documents (RFC 9457), with the one-line message of the command."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from textwrap import shorten
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from rvc_lightning.errors import (
    AssetError,
    AudioError,
    BusyError,
    InUseError,
    NotWritableError,
    OutOfMemoryError,
    OutOfSpaceError,
    RVCError,
    TooLongError,
    UnknownDatasetError,
    UnknownJobError,
    UnknownVoiceError,
)
from rvc_lightning.io.disk import write_error

API = "/api/v1"
JOIN = "/gradio_api/queue/join"
"""Route of the events of the page, which shows the detail of a problem."""
MEDIA_TYPE = "application/problem+json"
_POLICY_VIOLATION = 1008
_RETRY_SECONDS = "2"
_MAX_VALUE = 60
"""Characters of a rejected value in a message."""

_STATUSES: tuple[tuple[type[RVCError], int], ...] = (
    (UnknownJobError, 404),
    (UnknownVoiceError, 404),
    (UnknownDatasetError, 404),
    (InUseError, 409),
    (TooLongError, 413),
    (AudioError, 415),
    (BusyError, 429),
    (AssetError, 503),
    (OutOfMemoryError, 503),
    (NotWritableError, 503),
    (OutOfSpaceError, 507),
)
"""Status of each error; 422 for all others, which are invalid settings or files."""


class Problem(BaseModel):
    """Why a request was not answered."""

    status: int
    title: str
    """The meaning of the status."""
    detail: str = Field(description="One line: the value, the choices and the remedy")


class ProblemResponse(Response):
    """A problem document."""

    media_type = MEDIA_TYPE

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None) -> None:
        """Describe a problem by its status and one line."""
        problem = Problem(status=status, title=HTTPStatus(status).phrase, detail=detail)
        super().__init__(problem.model_dump_json(), status, headers)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the description of these statuses for the documentation of a route."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"model": Problem, "content": content} for status in statuses}


def add_problems(app: FastAPI) -> None:
    """Answer errors of the API's routes with problem documents."""

    def explain(request: Request, error: Exception) -> Response:
        assert isinstance(error, RVCError)
        status = next((status for kind, status in _STATUSES if isinstance(error, kind)), 422)
        return ProblemResponse(status, str(error), {"Retry-After": _RETRY_SECONDS} if status == 429 else None)

    def explain_request(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return ProblemResponse(422, "; ".join(map(_explain_field, error.errors())))

    def explain_write(request: Request, error: Exception) -> Response:
        if (reason := _no_space(error)) is None:
            raise error
        return explain(request, reason)

    def explain_status(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if reason := _no_space(error.__cause__):
            # FastAPI takes an upload that cannot be stored for a malformed one.
            return explain(request, reason)
        return ProblemResponse(error.status_code, error.detail, dict(error.headers or {}))

    def explain_defect(request: Request, error: Exception) -> Response:
        return ProblemResponse(500, "internal error; the log of the server has the details")

    app.add_exception_handler(RVCError, explain)
    app.add_exception_handler(RequestValidationError, explain_request)
    app.add_exception_handler(HTTPException, explain_status)
    app.add_exception_handler(OSError, explain_write)
    app.add_exception_handler(Exception, explain_defect)


def _explain_field(error: Mapping[str, Any]) -> str:
    """Return one line about a field of a request, from an error of pydantic."""
    # In a union, the name of each type follows the name of the field.
    field, *inner = error["loc"][1:] or ("",)
    name = ".".join([str(field), *(str(part) for part in inner if isinstance(part, int))])
    match error["type"]:
        case "json_invalid":
            return f"the body is not JSON: {error['ctx']['error']} at character {name}"
        case "extra_forbidden":
            return f"unknown field '{name}'; {API}/docs lists the fields"
        case "missing":
            return f"{name}: {error['msg']}"
    return f"{name}={shorten(repr(error['input']), _MAX_VALUE)}: {error['msg']}"


async def reject(
    scope: Scope, receive: Receive, send: Send, status: int, reason: str, headers: dict[str, str] | None = None
) -> None:
    """Answer a request with a status and a reason, and close a WebSocket."""
    if scope["type"] == "websocket":
        await WebSocket(scope, receive, send).close(_POLICY_VIOLATION, reason)
    elif scope["path"].startswith((API, JOIN)):
        await ProblemResponse(status, reason, headers)(scope, receive, send)
    else:
        await PlainTextResponse(reason, status, headers)(scope, receive, send)


def _no_space(error: BaseException | None) -> OutOfSpaceError | None:
    """Return the error of a full disk that an exception stands for; None for any other exception."""
    reason = write_error(error) if isinstance(error, OSError) else None
    return reason if isinstance(reason, OutOfSpaceError) else None
