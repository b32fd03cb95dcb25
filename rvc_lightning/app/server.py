"""The server of the page: one address, without a tunnel."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import signal
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import gradio as gr
import h11
import uvicorn
from fastapi import FastAPI
from starlette.responses import RedirectResponse
from uvicorn.protocols.http.h11_impl import H11Protocol

from rvc_lightning.app.access import Access, AccessMiddleware
from rvc_lightning.app.api import Api
from rvc_lightning.app.folders import Folders
from rvc_lightning.app.live import LivePage
from rvc_lightning.app.look import STYLE, THEME, head
from rvc_lightning.app.middleware import UploadOnlyMiddleware
from rvc_lightning.app.page import Page
from rvc_lightning.app.problems import API, add_problems
from rvc_lightning.app.reports import add_reports
from rvc_lightning.app.service import ConversionService, Limits
from rvc_lightning.app.storage import VisitorFiles, visitor_files
from rvc_lightning.app.tabs.workplace import Workplace
from rvc_lightning.app.texts import Texts
from rvc_lightning.errors import ConfigurationError, RVCError
from rvc_lightning.io.disk import explain
from rvc_lightning.io.locks import remove_deleted
from rvc_lightning.jobs.store import JobStore

log = logging.getLogger(__name__)

_MEGABYTE = 1 << 20
_SHUTDOWN_SECONDS = 1
"""Browsers keep a connection open as long as the page is."""
_HEADER_SECONDS = 20.0
_WATCH_SECONDS = 5.0


def serve(site: Site, host: str, port: int, certificate: Certificate | None) -> None:
    """Serve page and HTTP API until Ctrl-C or SIGTERM. Jobs continue after that.

    Args:
        site: Objects that answer requests.
        host: Address to listen on.
        port: Port; 0 for any free one.
        certificate: Certificate for https; None for http.

    Raises:
        ConfigurationError: The address does not exist, the port is taken, the certificate cannot be read, or the token
            is too short.
    """
    limits = site.service.limits
    max_bytes, keep_seconds = round(limits.max_stored_megabytes * _MEGABYTE), 60 * limits.keep_minutes
    storage = visitor_files(max_bytes, keep_seconds, site.jobs.folder)
    with listening(host, port) as listener, storage as files:
        port = listener.getsockname()[1]
        access = Access.of(host, port, site.token, site.host_names, certificate is not None)
        config = uvicorn.Config(
            application(site, files, access),
            http=_Protocol,
            ws="wsproto",
            log_level="warning",
            timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
            **({} if certificate is None else certificate.checked()),
        )
        address = f"{'http' if certificate is None else 'https'}://{_reachable(host)}:{port}{access.link}"
        # uvicorn shuts down, then raises the signal again.
        with contextlib.suppress(KeyboardInterrupt), sigterm_as_ctrl_c(), _watched(site):
            _Server(config, site.service, address).run(sockets=[listener])
    log.info("Stopped.")


@dataclass(frozen=True)
class Site:
    """Objects that answer requests.

    Attributes:
        service: Converter of recordings.
        jobs: Jobs of the server.
        folders: Folders of the server.
        settings: Settings of the engine of live conversion.
        token: Secret that requests must carry; None for a random one where the network reaches the server.
        host_names: Further names of the server.
        language: Language of the page.
        links: Whether voices may be imported from links.
        config_dir: Folder of experiments of the user; None for none.
    """

    service: ConversionService
    jobs: JobStore
    folders: Folders
    settings: Mapping[str, Any]
    token: str | None = None
    host_names: tuple[str, ...] = ()
    language: str = "en"
    links: bool = True
    config_dir: str | None = None


@dataclass(frozen=True)
class Certificate:
    """Files of the certificate of the server, in PEM format."""

    certificate: str
    key: str | None

    def checked(self) -> dict[str, Any]:
        """Return the files as arguments of uvicorn. Raises ConfigurationError if they cannot be used."""
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.certificate, self.key)
        except OSError as error:
            raise ConfigurationError(
                f"ssl_certfile={self.certificate} ssl_keyfile={self.key}: {error.strerror or error}; choose a "
                "certificate and its key, both in PEM format"
            ) from error
        return {"ssl_certfile": self.certificate, "ssl_keyfile": self.key}


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


def application(site: Site, files: VisitorFiles, access: Access) -> FastAPI:
    """Build page and HTTP API as an ASGI application.

    Args:
        site: Objects that answer requests.
        files: Storage of uploads and results.
        access: Requests that are answered.
    """
    page = page_of(site, access.is_local)
    app = routes(site, access)
    protect(app, site.service.limits, files, Path(page.blocks.GRADIO_CACHE), access)
    return gr.mount_gradio_app(
        app,
        page.blocks,
        path="",
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=_max_file_bytes(site.service.limits),
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        theme=THEME,
        css=STYLE,
        head=head(Texts(site.language)),
    )


def page_of(site: Site, is_local: bool) -> Page:
    """Build the page; `is_local` is whether only this machine can reach it."""
    return Page(
        partial(
            Workplace,
            service=site.service,
            jobs=site.jobs,
            folders=site.folders,
            text=Texts(site.language),
            is_local=is_local,
            links=site.links,
            config_dir=site.config_dir,
        )
    )


def routes(site: Site, access: Access) -> FastAPI:
    """Return the HTTP API, its documentation, the live page and reports, without checks of requests."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.mount(API, Api(site.service, site.jobs, site.folders).application(has_token=access.token is not None))
    app.add_api_route("/docs", lambda: RedirectResponse(f"{API}/docs"))
    LivePage(site.service.catalog, site.settings, access.is_local, Texts(site.language)).add_to(app)
    add_reports(app)
    add_problems(app)
    return app


def protect(app: FastAPI, limits: Limits, files: VisitorFiles, uploads: Path, access: Access) -> None:
    """Check every request of an application.

    Args:
        app: Application to protect.
        limits: Limits of uploads.
        files: Storage of uploads and results.
        uploads: Folder of the uploads of the page, part of `files`.
        access: Requests that are answered.
    """
    app.add_middleware(UploadOnlyMiddleware, uploads=uploads, files=files, max_file_bytes=_max_file_bytes(limits))
    app.add_middleware(AccessMiddleware, access=access)


def _max_file_bytes(limits: Limits) -> int:
    return round(limits.max_megabytes * _MEGABYTE)


@contextlib.contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """Open a listening socket. Raises ConfigurationError if that fails; the message contains the reason."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, dualstack_ipv6=_is_dual_stack(host))
    except OSError as error:
        reason = "another program uses the port" if error.errno == errno.EADDRINUSE else error.strerror
        raise ConfigurationError(
            f"host={host} port={port}: {reason}; choose another, or port=0 for any free port"
        ) from error
    with listener:
        yield listener


def _is_dual_stack(host: str) -> bool:
    """Return whether a socket for an address of IPv6 takes connections to addresses of IPv4 as well."""
    return host == "::" and socket.has_dualstack_ipv6()


def _reachable(host: str) -> str:
    """Return the name of the server in its link: its address on the network if it listens on all."""
    if host == "0.0.0.0" or _is_dual_stack(host):
        host = _own_address(socket.AF_INET, "192.0.2.1") or "127.0.0.1"
    elif host == "::":
        host = _own_address(socket.AF_INET6, "2001:db8::1") or "::1"
    return f"[{host}]" if ":" in host else host


def _own_address(family: socket.AddressFamily, other: str) -> str | None:
    """Return the address from which this machine would send to another one; None without a route."""
    # Chooses a route, and sends nothing.
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as route:
        route.connect((other, 1))
        return str(route.getsockname()[0])
    return None


@contextlib.contextmanager
def _watched(site: Site) -> Iterator[None]:
    """Keep the supervisor of the jobs running, remove expired uploads, at the end all, and complete deletions."""
    closed, keep_seconds = threading.Event(), 60 * site.service.limits.keep_minutes

    def watch() -> None:
        for folder in (site.folders.datasets, site.folders.runs):
            remove_deleted(Path(folder))
        while True:
            with _errors_logged():
                site.jobs.sweep(keep_seconds)
            with _errors_logged():
                site.jobs.wake()
            if closed.wait(_WATCH_SECONDS):
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        closed.set()
        watcher.join()
        with _errors_logged():
            site.jobs.sweep(keep_seconds=0)


@contextlib.contextmanager
def _errors_logged() -> Iterator[None]:
    """Log errors such as a full disk, or a client that removes the same job, instead of raising them."""
    try:
        yield
    except (RVCError, OSError) as error:
        log.warning("%s", explain(error))


@contextlib.contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGTERM, which would end the process without removing its temporary files."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
