"""Around every request: counted, timed, traced, and known by an id that its log lines carry."""

import asyncio
import re
import secrets
import time
from typing import get_args

import structlog
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agent.telemetry import Span
from api import metrics, tracing
from api.problems import AsPage, busy, fault, never_a_page
from api.source_config import SourceKind

SANE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
"""A request's id that is taken over from its sender: it goes into every log line."""
UNTRACED = ("/healthz", "/readyz", "/metrics")
"""Asked again and again, by machines, about the process and not about its work."""
_ALERTS = {f"/v1/alerts/{kind}": kind for kind in get_args(SourceKind)}
_UNREAD = {413: "size", 503: "busy"}
"""Why a message of alerts was refused before a route was chosen for it."""
log = structlog.get_logger(__name__)


class Observed:
    """The outermost of ours: whatever goes wrong inside is answered, and counted, here."""

    def __init__(self, app: ASGIApp, as_page: AsPage = never_a_page) -> None:
        self._app = app
        self._as_page = as_page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        request = request_id(dict(scope["headers"]).get(b"x-request-id", b""))
        told = tracing.NO_SPAN if scope["path"] in UNTRACED else tracing.span("HTTP", kind="server")
        metrics.IN_FLIGHT.inc()
        try:
            with told as span, structlog.contextvars.bound_contextvars(request=request):
                await self._answer(scope, receive, send, request, span)
        finally:
            metrics.IN_FLIGHT.dec()
        return None

    async def _answer(
        self, scope: Scope, receive: Receive, send: Send, request: str, span: Span
    ) -> None:
        started, begun = time.perf_counter(), False

        async def watched(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"x-request-id", request.encode()),
                ]
                _tell(scope, message["status"], time.perf_counter() - started, span)
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except asyncio.CancelledError:
            if begun:
                raise
            await busy("the service is being stopped").response()(scope, receive, watched)
        except Exception as error:
            if begun:
                raise
            problem = fault(error)
            answer = self._as_page(Request(scope), problem) or problem.response()
            await answer(scope, receive, watched)


def _tell(scope: Scope, status: int, seconds: float, span: Span) -> None:
    method, route = scope["method"], getattr(scope.get("route"), "path", "")
    metrics.answered(method, route, status, seconds)
    span.rename(f"{method if method in metrics.METHODS else 'HTTP'} {route}".rstrip())
    span.set({"http.route": route, "http.response.status_code": status})
    if status >= 500:
        span.fail(str(status))
    if not route and status in _UNREAD and (source := _ALERTS.get(scope["path"])):
        metrics.REFUSED.labels(source=source, because=_UNREAD[status]).inc()
    say = log.warning if status >= 500 else log.debug
    say("request", method=method, route=route, code=status, seconds=round(seconds, 4))


def request_id(sent: bytes) -> str:
    """The sender's, if it is sane; else one of ours."""
    text = sent.decode("latin-1")
    return text if SANE_ID.fullmatch(text) else secrets.token_hex(8)
