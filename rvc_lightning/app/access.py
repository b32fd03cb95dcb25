"""Who may send requests: the check of host, origin and token, for every route and WebSocket."""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import socket
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import HTMLResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from rvc_lightning.app.problems import reject
from rvc_lightning.errors import ConfigurationError

_TOKEN_BYTES = 32
_MIN_TOKEN_LENGTH = 16
_PARAMETER = "token"

_WELCOME = (
    '<!doctype html><meta http-equiv="refresh" content="0; url=/"><title>rvc_lightning</title><a href="/">Open</a>'
)
"""The page that sets the cookie. A redirect does not work: after a link on another site, browsers send no cookie of
SameSite=Strict along with it."""


@dataclass(frozen=True)
class Access:
    """What a request must have to be answered.

    Attributes:
        is_local: Whether only this machine can reach the server.
        token: Secret that each request must carry, as a cookie or `Authorization: Bearer`; None for none.
        host_names: Names of this server, in lower case. Requests for other names come from pages of the internet whose
            name resolves to this machine (DNS rebinding). Addresses need no name and are always valid on a network.
        is_https: Whether the server uses https.
        port: Port of the server, which is part of the cookie's name.
    """

    is_local: bool
    token: str | None = None
    host_names: frozenset[str] = frozenset({"localhost"})
    is_https: bool = False
    port: int = 0

    @classmethod
    def of(cls, host: str, port: int, token: str | None, names: Collection[str], is_https: bool) -> Access:
        """Return the access to a server that listens on `host`; a network requires a token, which is made if missing.

        Raises:
            ConfigurationError: The token is too short.
        """
        if token is not None and len(token) < _MIN_TOKEN_LENGTH:
            raise ConfigurationError(f"token: use at least {_MIN_TOKEN_LENGTH} characters, or null for a random one")
        is_local = is_loopback(host)
        own = {"localhost", *names} if is_local else {"localhost", host, socket.gethostname(), *names}
        if not is_local and token is None:
            token = secrets.token_urlsafe(_TOKEN_BYTES)
        return cls(is_local, token, frozenset(name.lower() for name in own), is_https, port)

    @property
    def link(self) -> str:
        """End of the link that sets the cookie."""
        return "" if self.token is None else f"/?{_PARAMETER}={self.token}"

    @property
    def cookie(self) -> str:
        """Name of the cookie; browsers send cookies to all ports of a host."""
        return f"rvc_lightning_{self.port}"

    def allows_host(self, host: str) -> bool:
        """Return whether the header `Host` names this server."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
            address = ipaddress.ip_address(name)
        except ValueError:
            return _name(host) in self.host_names
        return address.is_loopback or not self.is_local

    def allows_token(self, given: str | None) -> bool:
        """Return whether a token is right, in constant time; every request is if no token is required."""
        return self.token is None or (given is not None and hmac.compare_digest(given.encode(), self.token.encode()))

    def is_authorized(self, headers: Headers) -> bool:
        """Return whether a request carries the token."""
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self.allows_token(given.strip())
        return self.allows_token(cookie_parser(headers.get("cookie", "")).get(self.cookie))


class AccessMiddleware:
    """Answer only requests that `Access` allows and that no page of another site sent."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        """Protect `app`."""
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward a request unchanged, or answer it with the reason why not."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if not self._access.allows_host(headers.get("host", "")):
            await reject(scope, receive, send, 400, "the header Host names another server; see host_names=")
        elif is_cross_site(headers) and not _is_navigation(scope, headers):
            await reject(scope, receive, send, 403, "requests of other sites are rejected")
        elif scope["type"] == "http" and (given := _token_of_link(scope)) and self._access.allows_token(given):
            await self._welcome(given)(scope, receive, send)
        elif not self._access.is_authorized(headers):
            reason = "a token is required: open the link that the server printed, or send Authorization: Bearer TOKEN"
            await reject(scope, receive, send, 401, reason, {"WWW-Authenticate": "Bearer"})
        else:
            await self._app(scope, receive, send)

    def _welcome(self, token: str) -> HTMLResponse:
        response = HTMLResponse(_WELCOME, headers={"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"})
        if self._access.token is not None:
            response.set_cookie(
                self._access.cookie, token, secure=self._access.is_https, httponly=True, samesite="strict"
            )
        return response


def is_loopback(host: str) -> bool:
    """Return whether an address can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_cross_site(headers: Headers) -> bool:
    """Return whether a browser sent the request from a page of another origin; other clients send neither header."""
    if site := headers.get("sec-fetch-site"):
        return site not in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != headers.get("host")


def _is_navigation(scope: Scope, headers: Headers) -> bool:
    """Return whether a link of another site opens a page, not in a frame of that site; that changes nothing."""
    is_document = headers.get("sec-fetch-dest") == "document" and headers.get("sec-fetch-mode") == "navigate"
    return scope["type"] == "http" and scope["method"] in ("GET", "HEAD") and is_document


def _token_of_link(scope: Scope) -> str | None:
    is_get = scope["method"] == "GET" and scope["path"] == "/"
    query = parse_qs(scope["query_string"].decode("latin-1")) if is_get else {}
    return query.get(_PARAMETER, [None])[0]


def _name(host: str) -> str:
    """Return the name in a header `Host`, without the port."""
    return host.rpartition(":")[0].lower() if ":" in host else host.lower()
