"""What a request may be, mostly before anybody looks at who sent it: size, shape, time and number.

Whoever exceeds one of these gets a problem with its 4xx, or 503 where waiting helps. The connection
itself is bounded in `api/connections.py`. All of them stand in a table of api/README.md.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.json_shape import json_too_much
from api.problems import AsPage, Problem, busy, never_a_page
from api.source_auth import known_by_head

LARGEST_BODY = 256 * 1024
ALERTS = "/v1/alerts/"
OF_JSON = ("/v1/", "/mcp")
"""What else is posted are forms of the console: any text may stand in those."""
LARGEST_ALERTS = 2 * 1024 * 1024
"""Of these nothing is parsed before it is known who sent them."""
LARGEST_OF_ANYBODY = 64 * 1024
"""Of a body, before it is asked who sends it: 500 of these leave room for others."""
LARGEST_BODIES = 64 * 1024 * 1024
"""Bytes of all bodies that are held at a time."""
LARGEST_UNKNOWN = 16 * 1024 * 1024
"""Bytes of those whose sender only a signature over the whole can tell."""
BODY_SECONDS = 30
LONGEST_TARGET = 4 * 1024
"""Bytes of path and query."""
MOST_HEADERS = 100
LARGEST_HEADERS = 32 * 1024
"""Bytes of all of them."""
MOST_REQUESTS = 500
"""Answered at a time, streams included."""
ALWAYS = ("/healthz", "/readyz", "/metrics")
"""Answered also when there are too many: a service that is busy is not dead."""


class Limits:
    """Refuses what is too much; a body is read whole before anybody sees it."""

    def __init__(self, app: ASGIApp, as_page: AsPage = never_a_page) -> None:
        self._app = app
        self._as_page = as_page
        self._requests = 0
        self._bodies = _Held()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        with contextlib.ExitStack() as held:
            try:
                _check_head(scope)
                if scope["path"] not in ALWAYS:
                    held.enter_context(self._counted())
                if scope["method"] not in ("GET", "HEAD"):
                    receive = await self._body(scope, receive, held)
            except Problem as problem:
                answer = self._as_page(Request(scope), problem) or problem.response()
                return await answer(scope, receive, send)
            except _HungUp:
                return None
            return await self._app(scope, receive, send)

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        if self._requests >= MOST_REQUESTS:
            raise busy(f"{MOST_REQUESTS} requests are being answered already")
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1

    async def _body(self, scope: Scope, receive: Receive, held: contextlib.ExitStack) -> Receive:
        share = held.enter_context(self._bodies.share())
        announced = dict(scope["headers"]).get(b"content-length", b"")
        alerts = scope["path"].startswith(ALERTS)
        largest = LARGEST_ALERTS if alerts else LARGEST_BODY
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await _read(scope, announced, receive, share, largest)
        except TimeoutError:
            raise Problem(408, f"the body did not arrive within {BODY_SECONDS} s") from None
        is_json = scope["path"].startswith(OF_JSON) and not alerts
        if is_json and (because := json_too_much(body)) is not None:
            raise Problem(422, "the request cannot be understood", [("body", because)])
        waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return waiting.pop() if waiting else await receive()

        return replay


@dataclass
class _Held:
    """Bytes of all bodies, and of those from nobody knows whom."""

    bytes: int = 0
    unknown: int = 0

    @contextlib.contextmanager
    def share(self) -> "Iterator[_Share]":
        share = _Share(self)
        try:
            yield share
        finally:
            self.bytes -= share.bytes
            self.unknown -= share.unknown


@dataclass
class _Share:
    """Bytes of one body."""

    of: _Held
    bytes: int = 0
    unknown: int = 0

    def take(self, more: int, *, known: bool) -> None:
        unknown = 0 if known else self.bytes + more - self.unknown
        if self.of.bytes + more > LARGEST_BODIES or self.of.unknown + unknown > LARGEST_UNKNOWN:
            raise busy("too many large requests at a time")
        self.bytes += more
        self.of.bytes += more
        self.unknown += unknown
        self.of.unknown += unknown


def _check_head(scope: Scope) -> None:
    # Without a server (tests), the path as it was sent may be absent.
    path: Any = scope.get("raw_path") or scope["path"]
    if len(path) + len(scope["query_string"]) > LONGEST_TARGET:
        raise Problem(414, f"path and query may have at most {LONGEST_TARGET} bytes")
    headers = scope["headers"]
    if len(headers) > MOST_HEADERS or sum(map(len, chain(*headers))) > LARGEST_HEADERS:
        much = f"{MOST_HEADERS} headers of {LARGEST_HEADERS} bytes in all"
        raise Problem(431, f"a request may have at most {much}")


class _HungUp(Exception):
    """Whoever sends a part of a body has asked for nothing."""


async def _read(
    scope: Scope, announced: bytes, receive: Receive, share: _Share, largest: int
) -> bytes:
    if announced.isdigit() and int(announced[:20]) > largest:
        raise _too_large(largest)
    body = bytearray()
    known = more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _HungUp
        part = message.get("body", b"")
        if len(body) + len(part) > largest:
            raise _too_large(largest)
        if len(body) <= LARGEST_OF_ANYBODY < len(body) + len(part):
            known = known_by_head(Request(scope), scope["path"].removeprefix(ALERTS))
        share.take(len(part), known=known)
        body += part
        more = message.get("more_body", False)
    return bytes(body)


def _too_large(largest: int) -> Problem:
    return Problem(413, f"a body may have at most {largest} bytes here")
