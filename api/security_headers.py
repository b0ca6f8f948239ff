"""The headers of every answer, and the names that the service answers to."""

from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import HEADERS, Problem
from api.settings import is_loopback

HSTS = "max-age=31536000; includeSubDomains"


class SecurityHeaders:
    """Adds them where an answer has none of its own. `tls`: browsers may insist on https."""

    def __init__(self, app: ASGIApp, *, tls: bool) -> None:
        self._app = app
        self._headers = HEADERS | ({"Strict-Transport-Security": HSTS} if tls else {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, watched if scope["type"] == "http" else send)


class KnownHosts:
    """Answers 421 to a Host that is not one of the service's names.

    Names of this machine always are. `exempt` paths are answered all the same: probes ask by
    address.
    """

    def __init__(self, app: ASGIApp, *, hosts: Iterable[str], exempt: Iterable[str]) -> None:
        self._app = app
        self._hosts = {host.lower() for host in hosts}
        self._exempt = frozenset(exempt)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http" or scope["path"] in self._exempt or self._known(scope):
            return await self._app(scope, receive, send)
        wrong = Problem(421, "this service has another name; see `http.hosts` of its configuration")
        return await wrong.response()(scope, receive, send)

    def _known(self, scope: Scope) -> bool:
        name = host_of(f"http://{Headers(scope=scope).get('host', '')}")
        return name in self._hosts or is_loopback(name)


def host_of(url: str) -> str:
    """Without user, port and path, in lower case; nothing if it cannot be read."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
