"""`POST /mcp`: streamable HTTP, without sessions, so that any number of `serve` may answer.

The SDK takes 18 MB and half a second: it is loaded for whoever comes first.
"""

import asyncio
from importlib import import_module

from fastapi import APIRouter, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.auth import Viewer
from api.problems import Problem
from api.security_headers import host_of
from api.service import Service
from api.settings import is_loopback

router = APIRouter(include_in_schema=False)


class _Spoken(Response):
    """The rest of the request is the protocol's: it reads the body, and answers by itself."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        speaking = await asyncio.to_thread(import_module, "api.mcp.speaking")
        await speaking.answer(scope, receive, send)


@router.post("/mcp")
async def mcp(request: Request, _: Viewer) -> Response:
    """One message of the Model Context Protocol, from whoever may read here."""
    origin = request.headers.get("origin")
    if origin is not None and not _is_ours(request, host_of(origin)):
        # modelcontextprotocol.io/specification, Transports: "Servers MUST validate the Origin".
        raise Problem(403, "a page of another site may not speak to this service")
    return _Spoken()


def _is_ours(request: Request, name: str) -> bool:
    service: Service = request.app.state.service
    http = service.settings.config.http
    ours = {host_of(http.url), *(host.lower() for host in http.hosts)} - {""}
    return is_loopback(name) or name in ours
