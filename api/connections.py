"""The server's connections: how many, and how long one may take to say what it wants.

uvicorn waits for ever for the head of a request, and has no bound on connections that say nothing.
"""

import asyncio
from typing import Any

import h11
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from api.problems import Problem, busy
from api.settings import Settings
from api.stopping import HTTP_SECONDS

HEAD_SECONDS = 10.0
"""From the connection's start, or a further request's first byte, to the end of its headers."""
LARGEST_UNREAD = 40 * 1024
"""Bytes of a head that is not complete yet: more than path and headers may have in `limits.py`."""
MOST_CONNECTIONS = 512
"""Beyond, requests are answered 503."""
MOST_OPEN = 700
"""Beyond, connections are closed at once: below the usual limit of 1024 open files."""
KEEP_ALIVE_SECONDS = 5


class PunctualProtocol(H11Protocol):
    """HTTP/1.1 with a time for the head of each request."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait; closed at once if there are too many."""
        super().connection_made(transport)
        self._answering = self.app
        if len(self.connections) > MOST_OPEN:
            transport.abort()
        else:
            self._wait()

    def data_received(self, data: bytes) -> None:
        """Go on waiting until a request has begun to be answered."""
        # Instead of uvicorn's own limit, which answers in plain text, without Retry-After.
        self.app = self._answering if len(self.connections) <= MOST_CONNECTIONS else _too_many
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._wait()
        else:
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more to wait for."""
        self._stop_waiting()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP gets a problem like everything else."""
        answer = Problem(400, "this is not a request in HTTP, or its head is too large").response()
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()
            return
        headers = [*answer.raw_headers, (b"connection", b"close")]
        for event in (
            h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
            h11.Data(data=bytes(answer.body)),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _wait(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_SECONDS, self._too_late)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_late(self) -> None:
        self._deadline = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()


async def _too_many(scope: Scope, receive: Receive, send: Send) -> None:
    answer = busy(f"{MOST_CONNECTIONS} connections are open already").response()
    answer.headers["Connection"] = "close"
    await answer(scope, receive, send)


def server_options(settings: Settings) -> dict[str, Any]:
    """For `uvicorn.run`."""
    return {
        "loop": "uvloop",
        "proxy_headers": False,
        "host": settings.host,
        "port": settings.port,
        "http": PunctualProtocol,
        "ws": "none",
        "h11_max_incomplete_event_size": LARGEST_UNREAD,
        "timeout_keep_alive": KEEP_ALIVE_SECONDS,
        "timeout_graceful_shutdown": HTTP_SECONDS,
        "server_header": False,
        "log_config": None,
    }
