"""Around every request: each is counted."""

import time

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import metrics

log = structlog.get_logger(__name__)


class Observed:
    """Counts and logs requests."""

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
                metrics.REQUESTS.labels(method=_known(scope["method"]), code=code).inc()
                seconds = round(time.perf_counter() - started, 4)
                log.debug("request", method=scope["method"], path=scope["path"], code=code,
                          seconds=seconds)  # fmt: skip
            await send(message)

        return await self._app(scope, receive, watched)


def _known(method: str) -> str:
    return method if method in ("GET", "HEAD", "POST") else "other"
