"""The protocol over HTTP, with the SDK: a server for each request, which ends with it."""

from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx2
import structlog
from mcp.server.context import ServerRequestContext
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from api.limits import LARGEST_BODY
from api.mcp.server import make_server


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    """One message; nothing of it is left afterwards."""
    manager = StreamableHTTPSessionManager(
        _SERVER, json_response=True, stateless=True, max_request_body_size=LARGEST_BODY
    )
    async with manager.run():
        await manager.handle_request(scope, receive, send)


def _the_same_service(
    context: ServerRequestContext[Any, Any],
) -> AbstractAsyncContextManager[httpx2.AsyncClient]:
    """The API of the application that was asked, for whoever asked it, from where they asked."""
    asked = context.request
    assert isinstance(asked, Request)  # noqa: S101 - it came over HTTP
    host, port = asked.client or ("unknown", 0)
    kept = {name: asked.headers[name] for name in ("authorization",) if name in asked.headers}
    if request_id := structlog.contextvars.get_contextvars().get("request"):
        kept["x-request-id"] = request_id  # log lines of both are found by the same one
    transport = httpx2.ASGITransport(asked.app, raise_app_exceptions=False, client=(host, port))
    return httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=kept)


_SERVER = make_server(_the_same_service)
