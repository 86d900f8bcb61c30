"""`study serve`: the raters' pages and the maintainers' monitor over HTTP, from one process.

    GET  /               the page: consent, checks, instructions, trials
    POST /consent        opens a session: sets the cookie and returns the first pair
    GET  /trial          the pair to show; a reload continues there
    GET  /s/TOKEN.png    an image of that pair, and of no other
    POST /vote           stores a vote; the reply has the next pair and is sent once the vote is on disk
    POST /withdraw       deletes everything of this rater
    GET  /done           the completion code
    GET  /monitor[.json] counts, for maintainers

One thread answers all requests in order, which keeps "stored before the next pair" simple. Source: reports
and studies, section 7.2.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

import uvicorn
from pydantic import Field, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from palette_bench.core.errors import InputError, PaletteBenchError, problem
from palette_bench.core.records import P, Part
from palette_bench.study.middleware import OriginCheck, RateLimiter, refusal, small_body
from palette_bench.study.monitor import monitor_page, progress_of
from palette_bench.study.rater_page import page_policy, rater_page
from palette_bench.study.session import VotingSession, monitor_password
from palette_bench.study.store import PlaceGivenOnError
from palette_bench.study.votes import Rater, TrialAnswer

COOKIE = "palette_bench_session"
_WEEK = 7 * 24 * 3600  # seconds a browser keeps its session
_STATUS = {"PB501": 400, "PB502": 404, "PB503": 409, "PB504": 403}


class Join(Part):
    """The request that a page sends when its reader agrees to take part."""

    join: str = Field(max_length=200)
    participant: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{0,64}$")]


@dataclass(frozen=True)
class StudyService:
    """The HTTP routes of one study.

    Attributes:
        voting: the voting session.
        join_token: token that the raters' address must contain; "" on a loopback address.
        secure: whether raters connect over https.
        pace: the rate limit of each session.
    """

    voting: VotingSession
    join_token: str
    secure: bool
    limiter: RateLimiter

    def routes(self) -> list[Route]:
        """Return all routes: path, handler and methods."""
        return [
            Route("/", self.start),
            Route("/consent", self.consent, methods=["POST"]),
            Route("/trial", self.trial),
            Route("/s/{token}.png", self.image),
            Route("/vote", self.vote, methods=["POST"]),
            Route("/withdraw", self.withdraw, methods=["POST"]),
            Route("/done", self.done),
            Route("/favicon.ico", self.icon),
            Route("/monitor", self.monitor),
            Route("/monitor.json", self.monitor_json),
        ]

    async def start(self, request: Request) -> Response:
        """Answer with the page, which contains no trial."""
        page = rater_page(self.voting.folder, "serve")
        policy = f"{page_policy('serve')}; frame-ancestors 'none'"
        return HTMLResponse(page, headers={"Content-Security-Policy": policy})

    async def consent(self, request: Request) -> Response:
        """Open a session for a person who agreed."""
        asked = _parsed(Join, await small_body(request))
        if self.join_token and not hmac.compare_digest(asked.join.encode(), self.join_token.encode()):
            found = "this is not the address that was sent to you"
            raise InputError(problem("PB504", "join token", found=found))
        token = self.voting.join(asked.participant)
        response = JSONResponse(self.voting.next_pair(self._rater(token)))
        response.set_cookie(
            COOKIE, token, max_age=_WEEK, httponly=True, samesite="strict", secure=self.secure
        )
        return response

    async def trial(self, request: Request) -> Response:
        """Answer with the pair to show, or with null for a browser without a session."""
        begun = COOKIE in request.cookies
        return JSONResponse(self.voting.next_pair(self._session(request)) if begun else None)

    async def icon(self, request: Request) -> Response:
        """Answer 204: there is no icon, but browsers request one."""
        return Response(status_code=204)

    async def image(self, request: Request) -> Response:
        """Answer with an image of the current pair."""
        rater = self._session(request)
        return Response(self.voting.image(rater, request.path_params["token"]), media_type="image/png")

    async def vote(self, request: Request) -> Response:
        """Store a vote; answer with the next pair."""
        rater = self._session(request)
        return JSONResponse(self.voting.vote(rater, _parsed(TrialAnswer, await small_body(request))))

    async def withdraw(self, request: Request) -> Response:
        """Delete everything of a rater, even if the rater's place was given to another."""
        rater = self.voting.store.rater(request.cookies.get(COOKIE, ""))
        if rater is not None:
            self.voting.store.withdraw(rater.rater)
        response = JSONResponse({})
        response.delete_cookie(COOKIE, httponly=True, samesite="strict", secure=self.secure)
        return response

    async def done(self, request: Request) -> Response:
        """Answer with the completion code."""
        return JSONResponse({"code": self.voting.completion(self._session(request))})

    async def monitor(self, request: Request) -> Response:
        """Answer a maintainer with the counts as a page."""
        if not self._maintains(request):
            return _ask_for_password()
        page = monitor_page(self.voting.folder, progress_of(self.voting.folder, self.voting.store))
        return HTMLResponse(page, headers={"Content-Security-Policy": "frame-ancestors 'none'"})

    async def monitor_json(self, request: Request) -> Response:
        """Answer a maintainer with the counts as JSON."""
        if not self._maintains(request):
            return _ask_for_password()
        return JSONResponse(progress_of(self.voting.folder, self.voting.store).model_dump(mode="json"))

    def _session(self, request: Request) -> Rater:
        """Return the rater who sends a request, unless the session sends requests too often."""
        token = request.cookies.get(COOKIE, "")
        rater = self._rater(token)
        if not self.limiter.allows(rater.session):
            raise HTTPException(429, "more than ten requests in a second", {"Retry-After": "1"})
        return rater

    def _rater(self, token: str) -> Rater:
        rater = self.voting.rater(token)
        if rater is None:
            raise InputError(problem("PB504", "session", found="no session, or one that has ended"))
        return rater

    def _maintains(self, request: Request) -> bool:
        scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
        try:
            _, _, password = base64.b64decode(credentials, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return False
        expected = monitor_password(self.voting.folder.secret)
        return scheme.lower() == "basic" and hmac.compare_digest(password.encode(), expected.encode())


def _ask_for_password() -> Response:
    return Response("for maintainers only", 401, {"WWW-Authenticate": 'Basic realm="study monitor"'})


def _parsed(cls: type[P], body: bytes) -> P:
    try:
        return cls.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "request"
        raise InputError(problem("PB501", where, expected=str(first["msg"]))) from None


async def _refuse(request: Request, error: Exception) -> Response:
    """Answer an error with its code; the page's script tells the rater what to do."""
    assert isinstance(error, PaletteBenchError)
    fault = error.problems[0]
    said = [part[:1].upper() + part[1:] for part in (fault.found or fault.expected, fault.fix) if part]
    # 410 tells the page that this session is over for good
    status = 410 if isinstance(error, PlaceGivenOnError) else _STATUS.get(fault.code, 503)
    return refusal(fault.code, ". ".join(said) + ".", status)


async def _plain(request: Request, error: Exception) -> Response:
    """Answer an unknown path, a wrong method or too many requests."""
    assert isinstance(error, HTTPException)
    return JSONResponse({"code": "", "message": error.detail}, error.status_code, error.headers)


def create_app(
    voting: VotingSession, origins: Sequence[str], join_token: str = "", limiter: RateLimiter | None = None
) -> ASGIApp:
    """Return the application of a study served under `origins`, e.g. http://127.0.0.1:8008."""
    secure = all(urlsplit(origin).scheme == "https" for origin in origins)
    service = StudyService(voting, join_token, secure, limiter or RateLimiter())
    handlers = {PaletteBenchError: _refuse, HTTPException: _plain}
    return OriginCheck(Starlette(routes=service.routes(), exception_handlers=handlers), origins)


def run(
    voting: VotingSession,
    address: tuple[str, int],
    join_token: str,
    public_url: str,
    ready: Callable[[str], None],
) -> None:
    """Serve a study until a signal ends the process.

    Args:
        voting: the voting session of the study.
        address: interface and port; port 0 takes a free port.
        join_token: see `StudyService`.
        public_url: the address that raters open, if a proxy is in front of this server; else "".
        ready: called with the address once the port is open.
    """
    with socket.create_server(address) as listener:
        host, port = listener.getsockname()[:2]
        own = [f"http://{host}:{port}", *([f"http://localhost:{port}"] if host == "127.0.0.1" else [])]
        origins = [public_url.rstrip("/")] if public_url else own
        config = uvicorn.Config(
            create_app(voting, origins, join_token),
            log_level="warning",
            access_log=False,  # an access log would contain raters' addresses
            server_header=False,
            proxy_headers=False,
            lifespan="off",
            ws="none",
        )
        ready(origins[0])
        uvicorn.Server(config).run(sockets=[listener])
