"""Around every request: bodies that are too large are refused; each request is counted."""

import asyncio
import time

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import metrics
from api.problems import Problem

LARGEST_BODY = 2 * 1024 * 1024
BODY_SECONDS = 30
log = structlog.get_logger(__name__)


class BodyLimit:
    """Answers 413, by the announced length or by what really arrives."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request: its body is read whole before anybody sees it."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            return await self._app(scope, receive, send)
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await _read(dict(scope["headers"]).get(b"content-length", b""), receive)
        except Problem as problem:
            return await problem.response()(scope, receive, send)
        except TimeoutError:
            return await Problem(408, "the body did not arrive").response()(scope, receive, send)
        waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return waiting.pop() if waiting else await receive()

        return await self._app(scope, replay, send)


async def _read(announced: bytes, receive: Receive) -> bytes:
    if announced.isdigit() and int(announced) > LARGEST_BODY:
        raise _too_large()
    body = bytearray()
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > LARGEST_BODY:
            raise _too_large()
    return bytes(body)


def _too_large() -> Problem:
    return Problem(413, f"a request's body may have at most {LARGEST_BODY} bytes")


class Observed:
    """Counts and logs requests, and adds the headers every answer carries."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        started = time.perf_counter()

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                code = message["status"]
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"x-content-type-options", b"nosniff"),
                ]
                metrics.REQUESTS.labels(method=_known(scope["method"]), code=code).inc()
                seconds = round(time.perf_counter() - started, 4)
                log.debug("request", method=scope["method"], path=scope["path"], code=code,
                          seconds=seconds)  # fmt: skip
            await send(message)

        return await self._app(scope, receive, watched)


def _known(method: str) -> str:
    return method if method in ("GET", "HEAD", "POST") else "other"
