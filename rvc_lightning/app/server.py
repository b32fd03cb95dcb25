"""The server of the page: one address, without a tunnel."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import logging
import signal
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import gradio as gr
import h11
import uvicorn
from fastapi import FastAPI
from starlette.middleware.trustedhost import TrustedHostMiddleware
from uvicorn.protocols.http.h11_impl import H11Protocol

from rvc_lightning.app.live import LivePage
from rvc_lightning.app.look import STYLE, THEME
from rvc_lightning.app.middleware import UploadOnlyMiddleware
from rvc_lightning.app.page import Page
from rvc_lightning.app.service import ConversionService
from rvc_lightning.app.storage import VisitorFiles, visitor_files
from rvc_lightning.app.texts import Texts
from rvc_lightning.errors import ConfigurationError

log = logging.getLogger(__name__)

_LOOPBACK_NAMES = ["localhost", "127.0.0.1", "[::1]"]
_MEGABYTE = 1 << 20
_SHUTDOWN_SECONDS = 1
"""Browsers keep a connection open as long as the page is."""
_HEADER_SECONDS = 20.0


def serve(service: ConversionService, host: str, port: int, settings: Mapping[str, Any]) -> None:
    """Serve the page until Ctrl-C or SIGTERM.

    Args:
        service: Converter of recordings.
        host: Address to listen on.
        port: Port; 0 for any free one.
        settings: Settings of the engine of live conversion.

    Raises:
        ConfigurationError: The address does not exist, or the port is taken.
    """
    limits = service.limits
    storage = visitor_files(round(limits.max_stored_megabytes * _MEGABYTE), 60 * limits.keep_minutes)
    with listening(host, port) as listener, storage as files:
        local = is_loopback(host)
        address = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
        if not local:
            log.warning(
                "host=%s: the page has no password: anyone who reaches this machine can use it; browsers allow the "
                "microphone only on pages with https",
                host,
            )
        config = uvicorn.Config(
            application(service, files, local, settings),
            http=_Protocol,
            ws="wsproto",
            log_level="warning",
            timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        )
        # uvicorn shuts down, then raises the signal again.
        with contextlib.suppress(KeyboardInterrupt), sigterm_as_ctrl_c():
            _Server(config, service, address).run(sockets=[listener])
    log.info("Stopped.")


class _Server(uvicorn.Server):
    """Shut down without waiting for a conversion, and without errors about closed connections."""

    def __init__(self, config: uvicorn.Config, service: ConversionService, address: str) -> None:
        super().__init__(config)
        self._service, self._address = service, address

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Log the address once requests and signals are handled."""
        await super().startup(sockets)
        if self.started:
            log.info("Open %s in a browser. Press Ctrl-C to stop.", self._address)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handle Ctrl-C and SIGTERM."""
        self._service.stop()
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        super().handle_exit(sig, frame)


class _Protocol(H11Protocol):
    """Close connections that do not send a whole request header in time; uvicorn waits forever."""

    _timeout: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the time limit."""
        super().connection_made(transport)
        self._limit_header()

    def data_received(self, data: bytes) -> None:
        """Restart the time limit for each request."""
        super().data_received(data)
        self._limit_header()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the time limit."""
        super().connection_lost(exc)
        if self._timeout:
            self._timeout.cancel()

    def _limit_header(self) -> None:
        if self.conn.their_state is not h11.IDLE:
            if self._timeout:
                self._timeout.cancel()
            self._timeout = None
        elif self._timeout is None:
            self._timeout = self.loop.call_later(_HEADER_SECONDS, self.transport.close)


def application(service: ConversionService, files: VisitorFiles, local: bool, settings: Mapping[str, Any]) -> FastAPI:
    """Build the page as an ASGI application.

    Args:
        service: Converter of recordings.
        files: Storage of uploads and results.
        local: Whether only this machine can reach the page. Then requests for other host names are rejected, which
            internet pages send whose name resolves to this machine (DNS rebinding).
        settings: Settings of the engine of live conversion.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    LivePage(service.catalog, settings, local).add_to(app)
    page = Page(service, Texts())
    max_file_bytes = round(service.limits.max_megabytes * _MEGABYTE)
    uploads = Path(page.blocks.GRADIO_CACHE)
    app.add_middleware(UploadOnlyMiddleware, uploads=uploads, files=files, max_file_bytes=max_file_bytes)
    if local:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=_LOOPBACK_NAMES)
    return gr.mount_gradio_app(
        app,
        page.blocks,
        path="",
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=max_file_bytes,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        theme=THEME,
        css=STYLE,
    )


@contextlib.contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """Open a listening socket. Raises ConfigurationError if that fails; the message contains the reason."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        reason = "another program uses the port" if error.errno == errno.EADDRINUSE else error.strerror
        raise ConfigurationError(
            f"host={host} port={port}: {reason}; choose another, or port=0 for any free port"
        ) from error
    with listener:
        yield listener


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextlib.contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGTERM, which would end the process without removing its temporary files."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
