"""Who asks, and may they: bearer tokens with roles.

Without configured tokens the service is for one person on this machine: requests must come from
loopback, to a loopback name (a web page must not reach it by rebinding a name), and not from
another web page.
"""

import hashlib
import hmac
from collections.abc import Callable
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from agent.incident import Role
from api.config import SourceEntry, TokenEntry
from api.problems import Problem
from api.settings import Settings, is_loopback
from api.store.audit import Person

RANKS: dict[str, int] = {"viewer": 0, "responder": 1, "approver": 2, "admin": 3}
LOCAL_ADMIN = Person("local admin", "admin")
_bearer = HTTPBearer(auto_error=False, description="`roc_<public id>_<secret>`")


class Tokens:
    """The configured tokens: stored as SHA-256, found by public id, compared in constant time."""

    def __init__(self, settings: Settings) -> None:
        self._entries: list[TokenEntry | SourceEntry] = [*settings.tokens, *settings.sources]

    def __bool__(self) -> bool:
        return bool(self._entries)

    def person(self, token: str) -> Person | None:
        """Whose token it is."""
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
        public_id = token.split("_", 2)[1] if token.count("_") >= 2 else None
        found: Person | None = None
        for entry in self._entries:
            if entry.id is not None and entry.id != public_id:
                continue
            if hmac.compare_digest(digest, entry.sha256):
                found = _person(entry)
        return found


def _person(entry: TokenEntry | SourceEntry) -> Person:
    if isinstance(entry, SourceEntry):
        return Person(entry.name, "source", source=entry.kind)
    return Person(entry.who, entry.role)


def who(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
) -> Person:
    """The person behind the request, or 401."""
    tokens: Tokens = request.app.state.tokens
    if not tokens:
        _must_be_local(request)
        return LOCAL_ADMIN
    person = tokens.person(credentials.credentials) if credentials else None
    if person is None:
        request.app.state.sign_ins.fail(request.client.host if request.client else "unknown")
        raise Problem(
            401,
            "a valid bearer token is needed",
            headers={"WWW-Authenticate": 'Bearer realm="redis-oncall"'},
        )
    return person


def _must_be_local(request: Request) -> None:
    client = request.client.host if request.client else ""
    # Not request.url: where Host is invalid, that falls back to the address we listen on.
    names = [_host_of(f"http://{request.headers.get('host', '')}")]
    if origin := request.headers.get("origin"):
        names.append(_host_of(origin))
    if not is_loopback(client) or not all(is_loopback(name) for name in names):
        raise Problem(403, "no tokens are configured: only this machine may use the service")


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def at_least(role: Role) -> Callable[[Person], Person]:
    """A dependency: a person of this role or a higher one, or 403."""

    def check(person: Annotated[Person, Depends(who)]) -> Person:
        if RANKS.get(person.role, -1) < RANKS[role]:
            raise Problem(403, f"this needs the role {role} or higher; yours is {person.role}")
        return person

    return check


Viewer = Annotated[Person, Depends(at_least("viewer"))]
Responder = Annotated[Person, Depends(at_least("responder"))]
Approver = Annotated[Person, Depends(at_least("approver"))]


def may_post(person: Person, source: str) -> None:
    """May this token post alerts of that source? Raises Problem."""
    if person.role == "source":
        if person.source not in (None, source):
            raise Problem(403, f"this token may post {person.source} alerts only")
    elif RANKS[person.role] < RANKS["responder"]:
        raise Problem(403, f"this needs the role responder or higher; yours is {person.role}")
