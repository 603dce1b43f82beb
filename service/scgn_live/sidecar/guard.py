"""Who may ask: a bearer token where one is set, and no stranger's web page."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from scgn_live.settings import Settings
from scgn_live.sidecar.problems import Problem, problem_response

FREE = ("/livez", "/readyz", "/v2/health/live", "/v2/health/ready")
PAGE = ("/", "/live/")  # what a browser loads before anybody can type a token; holds no data
SAFE = ("GET", "HEAD", "OPTIONS")


class Guard:
    """Decides by token and by where a browser's page came from."""

    def __init__(self, token: str | None, loopback: bool) -> None:
        self._token, self._loopback = token, loopback

    @classmethod
    def of(cls, settings: Settings) -> Guard:
        """The guard that the settings ask for; SettingsError when the token's file is unusable."""
        return cls(settings.token(), not settings.beyond("http"))

    @property
    def needs_token(self) -> bool:
        return self._token is not None

    def allows(self, token: str | None) -> bool:
        """Whether a token is the right one, in a time that tells nothing of it."""
        if self._token is None:
            return True
        given = (token or "").encode("utf-8", "surrogatepass")
        return hmac.compare_digest(given, self._token.encode())

    def origin_allowed(self, headers: Mapping[str, str]) -> bool:
        """False for a page of another site: it must come from this very host and port.

        On loopback without a token the host must be loopback's own name, or a name that a
        stranger's server made point here (DNS rebinding) would do.
        """
        host = headers.get("host", "")
        if self._loopback and not self.needs_token and not _is_loopback(host):
            return False
        origin = headers.get("origin")
        return origin is None or _place(origin) == host.lower()


def _place(origin: str) -> str | None:
    """Host and port of a page; None for what is no address."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def _is_loopback(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


class GuardMiddleware:
    """ASGI middleware: 403 for a stranger's page, 401 without the token. WebSockets guard their own
    door, as a browser's page cannot send the header with one.
    """

    def __init__(self, app: ASGIApp, guard: Guard) -> None:
        self._app, self._guard = app, guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        problem = self._problem(scope) if scope["type"] == "http" else None
        if problem is None:
            await self._app(scope, receive, send)
        else:
            await problem_response(problem)(scope, receive, send)

    def _problem(self, scope: Scope) -> Problem | None:
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        path, method = scope["path"], scope["method"]
        if path in FREE and method in SAFE:
            return None  # probes come with any host, and tell nothing
        if not self._guard.origin_allowed(headers):
            host, origin = headers.get("host"), headers.get("origin")
            return Problem(403, None, f"expected a page of this service, got {origin} at {host}")
        page = path == PAGE[0] or path.startswith(PAGE[1])
        if (page and method in SAFE) or self._guard.allows(_bearer(headers)):
            return None
        problem = Problem(401, None, "expected the header `Authorization: Bearer <token>`")
        problem.headers = {"WWW-Authenticate": 'Bearer realm="scgn-live"'}
        return problem


def _bearer(headers: Mapping[str, str]) -> str | None:
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else None
