"""Scripted raters: they ask a study's application, or a server, and keep every byte they were sent."""

from __future__ import annotations

import asyncio
import http.client
import json
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import Any

ORIGIN = "http://127.0.0.1:8008"
SCREEN = {"viewport_w": 1280, "viewport_h": 800, "dpr": 1.0, "device": "keyboard"}


@dataclass(frozen=True)
class Reply:
    """An answer: its status, its headers, and its body as sent."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def data(self) -> Any:
        return json.loads(self.body)

    @property
    def raw(self) -> bytes:
        return repr(self.headers).encode() + self.body


def ask(app: Any, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> Reply:
    """Make one request of an ASGI application, or of the server at an address."""
    if isinstance(app, str):
        return _ask_server(app, method, path, headers, body)
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    target, _, query = path.partition("?")
    scope = {
        **{"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method},
        **{"scheme": "http", "path": target, "raw_path": target.encode(), "query_string": query.encode()},
        **{"root_path": "", "headers": [(k.lower().encode(), v.encode()) for k, v in headers.items()]},
    }
    asyncio.run(app(scope, receive, send))
    names = tuple((k.decode(), v.decode()) for k, v in sent[0]["headers"])
    return Reply(sent[0]["status"], names, b"".join(m.get("body", b"") for m in sent[1:]))


def _ask_server(address: str, method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=60)
    try:
        connection.request(method, path, body or None, headers)
        response = connection.getresponse()
        return Reply(response.status, tuple(response.getheaders()), response.read())
    finally:
        connection.close()


def answer_to(pair: dict[str, Any], choice: str = "L", **changes: Any) -> dict[str, Any]:
    """Return what a browser reports of a pair it showed for 3 s."""
    seen = {"rt_ms": 700, "shown_ms": 3000, "decoded": 1, "focus_lost": 0}
    return {"trial": pair["trial"], "left": pair["left"], "choice": choice, **seen, **SCREEN} | changes


@dataclass
class Rater:
    """A person at a browser that keeps the session's cookie."""

    app: Any
    origin: str = ORIGIN
    cookie: str = ""
    received: list[bytes] = field(default_factory=list)

    def get(self, path: str, **headers: str) -> Reply:
        return self._keep(ask(self.app, "GET", path, self._headers() | headers))

    def post(self, path: str, data: Any, **headers: str) -> Reply:
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        return self._keep(
            ask(self.app, "POST", path, {**self._headers(), "Origin": self.origin} | headers, body)
        )

    def join(self, join: str = "", participant: str = "") -> Reply:
        return self.post("/consent", {"join": join, "participant": participant})

    def finish(self, choice: str = "L") -> None:
        """Answer every pair that is left."""
        pair = self.get("/trial").data
        while "done" not in pair:
            pair = self.post("/vote", answer_to(pair, choice)).data["next"]

    def _headers(self) -> dict[str, str]:
        own = {"Host": self.origin.removeprefix("http://")}
        return own | ({"Cookie": self.cookie} if self.cookie else {})

    def _keep(self, reply: Reply) -> Reply:
        for name, value in reply.headers:
            if name == "set-cookie":
                (morsel,) = SimpleCookie(value).values()
                self.cookie = f"{morsel.key}={morsel.value}"
        self.received.append(reply.raw)
        return reply
