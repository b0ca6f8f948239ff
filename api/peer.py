"""Who is connected to us, and who that proxy says it asks for: two different things."""

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

_PEER = "redis_oncall.peer"


class Peers:
    """Keeps the address of the connection, then believes X-Forwarded-For of these proxies only."""

    def __init__(self, app: ASGIApp, proxies: str) -> None:
        self._app = ProxyHeadersMiddleware(app, trusted_hosts=proxies)  # type: ignore[arg-type]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "http":
            scope = {**scope, _PEER: _address(scope)}
        await self._app(scope, receive, send)  # type: ignore[arg-type]


def peer_of(scope: Scope) -> str:
    """The address of the connection; "" on a Unix socket."""
    return str(scope[_PEER]) if _PEER in scope else _address(scope)


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""
