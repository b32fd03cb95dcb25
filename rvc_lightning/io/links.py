"""Downloads of links that a user enters: over https, from public addresses, and bounded in size and time.

A server that downloads what a visitor names can be made to reach machines in its own network (server-side request
forgery). Therefore names are resolved here, the connection is made to the very address that was checked, and each
redirect is checked in the same way. Proxies are not used, since they resolve names themselves.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import json
import re
import socket
import ssl
import threading
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, NoReturn
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote, urlsplit

from huggingface_hub import constants

from rvc_lightning.errors import AssetError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_BLOCK_BYTES = 1 << 20
_MAX_LIST_BYTES = 8 << 20
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_HUB_PAGE = re.compile(
    r"/(?P<repository>[^/]+/[^/]+)(?:/(?P<view>blob|resolve|tree)/(?P<revision>[^/]+)(?P<path>/.*)?)?/?"
)
_NOT_MODELS = ("datasets", "spaces", "docs", "api", "collections", "papers")


def is_link(text: str) -> bool:
    """Return whether a text is a link rather than the path of a file."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text) is not None


def is_public(address: Address) -> bool:
    """Return whether an address belongs to the internet: not private, loopback, link-local, multicast or reserved."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address in _NAT64:
            return is_public(ipaddress.IPv4Address(address.packed[-4:]))
        if address.sixtofour is not None or address.teredo is not None:
            return False
    return address.is_global and not address.is_multicast


@dataclass(frozen=True)
class RemoteFile:
    """A file that a link leads to."""

    url: str
    name: str
    """Path in a repository of the hub; elsewhere the last part of the path of the link."""
    size_bytes: int | None = None
    """Size as listed by the hub; None if unknown."""


@dataclass(frozen=True)
class Download:
    """A response that has started."""

    name: str
    """Name of the file that the server declares, else the last part of the path of the link."""
    size_bytes: int | None
    """Size that the server declares."""
    blocks: Iterator[bytes]
    """The content, in blocks."""


@dataclass(frozen=True)
class LinkClient:
    """Reads links within limits."""

    max_bytes: int = 4 << 30
    """Largest size of a file."""
    timeout_seconds: float = 30.0
    """Longest wait for a connection, and for the next byte."""
    max_seconds: float = 3600.0
    """Longest duration of a download."""
    is_allowed: Callable[[Address], bool] = is_public
    """Returns whether to connect to an address."""
    tls: ssl.SSLContext = field(default_factory=ssl.create_default_context)
    """Certificates to trust."""

    @contextlib.contextmanager
    def open(self, link: str) -> Iterator[Download]:
        """Request a link and follow its redirects.

        Raises:
            AssetError: The link or a redirect is not https or leads to an address that is not public, the server does
                not answer or reports an error, or the limits are exceeded; `blocks` raises it as well.
        """
        _check_link(link)
        with _explained(link), _Deadline(self.max_seconds) as deadline:
            opener = _opener(self, deadline)
            with opener.open(urllib.request.Request(link, headers=_HEADERS), timeout=self.timeout_seconds) as response:
                length = response.headers.get("Content-Length", "")
                size_bytes = int(length) if length.isdecimal() else None
                if size_bytes is not None and size_bytes > self.max_bytes:
                    self._reject_size(link)
                name = response.headers.get_filename() or _file_name(link)
                yield Download(name, size_bytes, self._blocks(link, response, size_bytes, deadline))

    def _blocks(self, link: str, response: Any, size_bytes: int | None, deadline: _Deadline) -> Iterator[bytes]:
        """Yield the content. Raises AssetError if it is too long, takes too long, or is shorter than declared."""
        with _explained(link):
            received = 0
            while block := response.read1(_BLOCK_BYTES):
                received += len(block)
                if received > self.max_bytes:
                    self._reject_size(link)
                yield block
            if deadline.has_passed:
                raise TimeoutError(f"it takes longer than {self.max_seconds:.0f} s")
            if size_bytes is not None and received != size_bytes:
                raise TimeoutError(f"the connection ended after {received} of {size_bytes} bytes")

    def _reject_size(self, link: str) -> NoReturn:
        raise AssetError(f"'{link}' is larger than {self.max_bytes / 1e6:.0f} MB, the limit for links")

    def read_json(self, link: str) -> Any:
        """Return the JSON content of a link of at most 8 MiB. Raises AssetError as `open` does."""
        client = LinkClient(_MAX_LIST_BYTES, self.timeout_seconds, self.timeout_seconds, self.is_allowed, self.tls)
        with client.open(link) as download:
            content = b"".join(download.blocks)
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            raise AssetError(f"'{link}' returned something other than a list of files") from error


def resolve_link(link: str, client: LinkClient) -> list[RemoteFile]:
    """Return the files that a link leads to: the file itself, or those of a page of the hub.

    Args:
        link: A file, or a page of a file, a folder or a repository of the hub.
        client: Client for the list of the files.

    Raises:
        AssetError: The hub does not list the files; or as in `LinkClient.open`.
    """
    _check_link(link)
    parts, hub = urlsplit(link), urlsplit(constants.ENDPOINT)
    page = _HUB_PAGE.fullmatch(parts.path)
    if parts.netloc not in (hub.netloc, "huggingface.co") or not page or parts.path.split("/")[1] in _NOT_MODELS:
        return [RemoteFile(link, _file_name(link))]
    base, repository = f"https://{parts.netloc}", page["repository"]
    revision, path = page["revision"] or "main", (page["path"] or "").strip("/")
    if page["view"] in ("blob", "resolve"):
        return [RemoteFile(f"{base}/{repository}/resolve/{revision}/{path}", _file_name(path))]
    listing = f"{base}/api/models/{repository}/tree/{revision}{f'/{path}' if path else ''}?recursive=true"
    try:
        return [
            RemoteFile(
                f"{base}/{repository}/resolve/{revision}/{quote(entry['path'])}", str(entry["path"]), int(entry["size"])
            )
            for entry in client.read_json(listing)
            if entry["type"] == "file"
        ]
    except (LookupError, TypeError, ValueError) as error:
        raise AssetError(f"'{link}': the hub returned something other than a list of files") from error


_HEADERS = {"User-Agent": "rvc-lightning", "Accept-Encoding": "identity"}


def _file_name(link: str) -> str:
    return unquote(urlsplit(link).path).rpartition("/")[2]


def _check_link(link: str) -> None:
    """Raise AssetError unless a link is https, with a host and without a password."""
    try:
        parts = urlsplit(link)
        usable = parts.scheme == "https" and parts.hostname and "@" not in parts.netloc
        _ = parts.port
    except ValueError:
        usable = False
    if not usable or not link.isascii() or not link.isprintable() or " " in link:
        raise AssetError(f"'{link}' is not a link that can be used: only https://HOST/PATH, without a password")


@contextlib.contextmanager
def _explained(link: str) -> Iterator[None]:
    """Convert the errors of a request to AssetError."""
    try:
        yield
    except AssetError:
        raise
    except HTTPError as error:
        with error:
            answer = f"{error.code} {error.reason}".partition("\n")[0]
            raise AssetError(f"'{link}' cannot be downloaded: the server answers {answer}") from None
    except (URLError, OSError, http.client.HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        if isinstance(reason, AssetError):
            raise reason from None
        raise AssetError(
            f"'{link}' cannot be downloaded: {getattr(reason, 'strerror', None) or reason or type(reason).__name__}; "
            "check link and network, or download the file on another machine and use the file itself"
        ) from error


def _opener(client: LinkClient, deadline: _Deadline) -> urllib.request.OpenerDirector:
    """Return an opener that supports https only, without proxies."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        _PublicHandler(client, deadline),
        _CheckedRedirects(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
    ):
        opener.add_handler(handler)
    return opener


class _CheckedRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to links that a user may enter as well."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """Return the next request. Raises AssetError if it is not https."""
        _check_link(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _PublicHandler(urllib.request.AbstractHTTPHandler):
    """Opens https addresses over connections to allowed addresses."""

    def __init__(self, client: LinkClient, deadline: _Deadline) -> None:
        super().__init__()
        self._client, self._deadline = client, deadline

    https_request = urllib.request.AbstractHTTPHandler.do_request_

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        def connection(host: str, **options: Any) -> http.client.HTTPConnection:
            return _PublicConnection(host, self._client, self._deadline, options["timeout"])

        return self.do_open(connection, request)


class _PublicConnection(http.client.HTTPSConnection):
    """A connection to an address that was checked before it was made."""

    def __init__(self, host: str, client: LinkClient, deadline: _Deadline, timeout: float) -> None:
        super().__init__(host, timeout=timeout, context=client.tls)
        self._client, self._deadline = client, deadline

    def connect(self) -> None:
        """Connect to the first allowed address of the host that answers. Raises OSError or AssetError."""
        self.sock = self._client.tls.wrap_socket(self._connect_to_allowed(), server_hostname=self.host)
        self._deadline.watch(self.sock)

    def _connect_to_allowed(self) -> socket.socket:
        found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        allowed = [entry for entry in found if self._client.is_allowed(_address(entry[4]))]
        if not allowed:
            addresses = ", ".join(sorted({str(entry[4][0]) for entry in found}))
            raise AssetError(
                f"the host '{self.host}' has no public address ({addresses}); links into private networks are not "
                "followed"
            )
        failure: OSError | None = None
        for family, kind, protocol, _, address in allowed:
            connection = socket.socket(family, kind, protocol)
            connection.settimeout(self.timeout)
            try:
                connection.connect(address)
                return connection
            except OSError as error:
                connection.close()
                failure = error
        assert failure is not None
        raise failure


def _address(socket_address: tuple[Any, ...]) -> Address:
    # Link-local addresses of IPv6 have a suffix with the interface.
    return ipaddress.ip_address(str(socket_address[0]).partition("%")[0])


class _Deadline:
    """Context manager that shuts down connections after a time, even while a server sends byte by byte."""

    def __init__(self, seconds: float) -> None:
        self._end = monotonic() + seconds
        self._timers: list[threading.Timer] = []

    def __enter__(self) -> _Deadline:
        return self

    def __exit__(self, *exception: object) -> None:
        for timer in self._timers:
            timer.cancel()

    @property
    def has_passed(self) -> bool:
        """Whether the time has elapsed."""
        return monotonic() >= self._end

    def watch(self, connection: socket.socket) -> None:
        """Shut a connection down at the deadline."""

        def shut_down() -> None:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(max(0.0, self._end - monotonic()), shut_down)
        timer.daemon = True
        timer.start()
        self._timers.append(timer)
