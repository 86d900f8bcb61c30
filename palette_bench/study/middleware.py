"""HTTP protection of a study server: host and origin check, security headers, rate limit, size limit.

Host and Origin must be addresses under which the study is served. This blocks requests from other sites and
DNS rebinding. A session may make at most ten requests a second. Source: reports and studies, section 7.2.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from palette_bench.core.errors import InputError, problem

REQUESTS_PER_SECOND = 10
MANY_SESSIONS = 1000  # from here on, the limiter forgets those that are silent
MAX_BODY = 4096  # bytes; a vote has about 250

_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


class OriginCheck:
    """ASGI middleware that refuses foreign hosts and foreign pages, and adds security headers."""

    def __init__(self, app: ASGIApp, origins: Iterable[str]) -> None:
        """Wrap `app`, which is served under `origins`, e.g. http://127.0.0.1:8008."""
        self._app = app
        self._origins = frozenset(origins)
        self._hosts = frozenset(urlsplit(origin).netloc for origin in self._origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return

        async def safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in {**_HEADERS, "Content-Security-Policy": POLICY}.items():
                    headers.setdefault(name, value)
            await send(message)

        request, fault = Request(scope), ""
        if request.headers.get("host") not in self._hosts:
            fault = "this study is served under another address"
        elif request.method not in {"GET", "HEAD"} and request.headers.get("origin") not in self._origins:
            fault = "the request comes from a page of another site"
        if fault:
            await refusal("PB504", fault, 403)(scope, receive, safely)
        else:
            await self._app(scope, receive, safely)


class RateLimiter:
    """A token bucket per session: a burst of ten requests, refilled by ten requests a second."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start with full buckets."""
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}  # key -> (requests left, time of that count)

    def allows(self, key: str) -> bool:
        """Take one request from a session's bucket; return False if the bucket is empty."""
        now = self._clock()
        if len(self._buckets) >= MANY_SESSIONS:  # a bucket of a second ago is as full as a new one
            self._buckets = {k: bucket for k, bucket in self._buckets.items() if now - bucket[1] < 1}
        left, then = self._buckets.get(key, (float(REQUESTS_PER_SECOND), now))
        left = min(float(REQUESTS_PER_SECOND), left + (now - then) * REQUESTS_PER_SECOND)
        allowed = left >= 1
        self._buckets[key] = (left - allowed, now)
        return allowed


async def small_body(request: Request) -> bytes:
    """Return a request's body.

    Raises:
        InputError: PB501, the body is larger than 4,096 bytes; the rest is not read.
    """
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY:
            raise InputError(
                problem("PB501", "request", expected=f"at most {MAX_BODY:,} bytes", found="more")
            )
    return body


def refusal(code: str, message: str, status: int) -> JSONResponse:
    """Return an error as JSON for the page's script."""
    return JSONResponse({"code": code, "message": message}, status)
