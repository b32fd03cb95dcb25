"""Serving the page: one address, no tunnel, temporary files that go with the process."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import logging
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import gradio as gr
import uvicorn
from fastapi import FastAPI
from starlette.middleware.trustedhost import TrustedHostMiddleware

from rvc_lightning.app.middleware import UploadOnlyMiddleware
from rvc_lightning.app.page import STYLE, THEME, Page
from rvc_lightning.app.service import ConversionService
from rvc_lightning.errors import ConfigurationError

log = logging.getLogger(__name__)

_LOOPBACK_NAMES = ["localhost", "127.0.0.1", "[::1]"]
_LAST_PORT = 65535
_MEGABYTE = 1 << 20
# Browsers keep a connection open for as long as the page is.
_SECONDS_TO_CLOSE = 1


def serve(service: ConversionService, host: str, port: int) -> None:
    """Serves the page until Ctrl-C or SIGTERM.

    Args:
        service: What converts.
        host: Address to listen on.
        port: And port; 0 takes any that is free.

    Raises:
        ConfigurationError: The address does not exist, or the port is taken.
    """
    with listening(host, port) as listener, temporary_files():
        local = is_loopback(host)
        address = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
        if not local:
            log.warning(
                "host=%s: whoever reaches this machine can use the page, there is no password; browsers give a page "
                "without https no microphone",
                host,
            )
        app = application(service, local)
        log.info("Open %s in a browser. Ctrl-C ends.", address)
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=_SECONDS_TO_CLOSE)
        # uvicorn ends in order, then raises the signal that it was ended by.
        with contextlib.suppress(KeyboardInterrupt), sigterm_as_ctrl_c():
            _Server(config, service).run(sockets=[listener])
    log.info("Ended.")


class _Server(uvicorn.Server):
    """Ends without waiting for a conversion, and without a word on the connections that it cuts."""

    def __init__(self, config: uvicorn.Config, service: ConversionService) -> None:
        super().__init__(config)
        self._studio = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called for Ctrl-C and SIGTERM."""
        self._studio.stop()
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        super().handle_exit(sig, frame)


def application(service: ConversionService, local: bool) -> FastAPI:
    """The page as an ASGI application.

    Args:
        service: What converts.
        local: Whether it is for this machine alone: then a page of the internet that has its name resolve to this
            machine (DNS rebinding) is refused.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    page = Page(service)
    app.add_middleware(UploadOnlyMiddleware, folder=Path(page.blocks.GRADIO_CACHE))
    if local:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=_LOOPBACK_NAMES)
    return gr.mount_gradio_app(
        app,
        page.blocks,
        path="",
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=round(service.limits.most_megabytes * _MEGABYTE),
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        theme=THEME,
        css=STYLE,
    )


@contextlib.contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A listening socket. Raises ConfigurationError where there can be none; the message says why."""
    if not isinstance(port, int) or not 0 <= port <= _LAST_PORT:
        raise ConfigurationError(f"port={port}: choose 0 (any that is free) to {_LAST_PORT}")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        reason = "the port is taken by another program" if error.errno == errno.EADDRINUSE else error.strerror
        raise ConfigurationError(
            f"host={host} port={port}: {reason}; choose another, such as port={port % _LAST_PORT + 1}, or port=0 for "
            "any that is free"
        ) from error
    with listener:
        yield listener


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextlib.contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Raises KeyboardInterrupt for SIGTERM, which would end the process with its temporary files left."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def temporary_files() -> Iterator[None]:
    """Puts every temporary file of the process, whichever library makes it, where it is private and goes at the end."""
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="rvc-app-", ignore_cleanup_errors=True) as folder:
        tempfile.tempdir = folder
        try:
            yield
        finally:
            tempfile.tempdir = before
