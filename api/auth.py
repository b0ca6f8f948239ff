"""Who asks, and may they: bearer tokens with roles.

Without configured tokens the service is for one person on this machine: requests must come from
loopback, to a loopback name (a web page must not reach it by rebinding a name), and not from
another web page.
"""

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from agent.incident import Role
from api.config import TokenEntry
from api.problems import Problem
from api.security_headers import host_of
from api.settings import Settings, is_loopback
from api.sign_ins import SignIns
from api.source_config import SourceEntry
from api.store.audit import Person

RANKS: dict[str, int] = {"viewer": 0, "responder": 1, "approver": 2, "admin": 3}
LOCAL_ADMIN = Person("local admin", "admin")
BEARER = HTTPBearer(auto_error=False, description="`roc_<public id>_<secret>`")


class Tokens:
    """The configured tokens: stored as SHA-256, found by public id, compared in constant time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @property
    def sources(self) -> list[SourceEntry]:
        """Those that may send now."""
        now = datetime.now(UTC)
        return [source for source in self._settings.sources if source.holds(now)]

    @property
    def _entries(self) -> list[TokenEntry | SourceEntry]:
        return [*self._settings.tokens, *self._settings.sources]

    def __bool__(self) -> bool:
        return bool(self._entries)

    def person(self, token: str, kind: str = "") -> Person | None:
        """Whose token it is; of several with the same one, the source of that kind.

        Raises OutOfTime: it is somebody's, and does not hold now.
        """
        public_id = token.split("_", 2)[1] if token.count("_") >= 2 else None
        of_this_id = [e for e in self._entries if e.id is None or e.id == public_id]
        return self._of(digest_of(token), sorted(of_this_id, key=lambda e: _kind(e) == kind))

    def person_of_digest(self, digest: str) -> Person | None:
        """Whose token has this SHA-256. Raises OutOfTime, as above."""
        return self._of(digest, self._entries)

    def _of(self, digest: str, entries: Sequence[TokenEntry | SourceEntry]) -> Person | None:
        found: TokenEntry | SourceEntry | None = None
        for entry in entries:
            if hmac.compare_digest(digest, entry.sha256 or ""):
                found = entry
        if found is not None and not found.holds(now := datetime.now(UTC)):
            raise OutOfTime(found, now)
        return person_of(found) if found else None


def digest_of(token: str) -> str:
    """SHA-256 in hexadecimal: all that is kept of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def _kind(entry: TokenEntry | SourceEntry) -> str | None:
    return getattr(entry, "kind", None)


class OutOfTime(Exception):
    """The token is right, and expired or not valid yet: said to nobody but who has it."""

    def __init__(self, entry: TokenEntry | SourceEntry, now: datetime) -> None:
        over = entry.expires is not None and entry.expires <= now
        when = f"expired at {entry.expires}" if over else f"is not valid before {entry.not_before}"
        super().__init__(f"the token {entry.name} {when}")


def person_of(entry: TokenEntry | SourceEntry) -> Person:
    """As the audit trail names it, with what it may."""
    if isinstance(entry, SourceEntry):
        return Person(entry.name, "source", source=entry.kind)
    return Person(entry.who, entry.role)


async def who(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)],
) -> Person:
    """The person behind the request, or 401."""
    tokens: Tokens = request.app.state.tokens
    if not tokens:
        must_be_local(request)
        return LOCAL_ADMIN
    because = "a valid bearer token is needed"
    try:
        person = tokens.person(credentials.credentials) if credentials else None
    except OutOfTime as out_of_time:
        person, because = None, str(out_of_time)
    if person is None:
        raise refused(request, because)
    return person


async def still(
    request: Request,
    person: Annotated[Person, Depends(who)],
    credentials: Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)],
) -> Callable[[], bool]:
    """A dependency, for answers that last: is who asked still let in, in the same role?"""
    tokens: Tokens = request.app.state.tokens

    def is_let_in() -> bool:
        if not tokens:
            return person == LOCAL_ADMIN
        try:
            return credentials is not None and tokens.person(credentials.credentials) == person
        except OutOfTime:
            return False

    return is_let_in


StillLetIn = Annotated[Callable[[], bool], Depends(still)]


def refused(request: Request, because: str) -> Problem:
    """401; 429 where too much of it comes from one address. What is valid was served before."""
    wait = count_failure(request)
    if wait is not None:
        detail = f"too many failed sign-ins from this address; try again in {wait} s"
        return Problem(429, detail, headers={"Retry-After": str(wait)})
    return Problem(401, because, headers={"WWW-Authenticate": 'Bearer realm="redis-oncall"'})


def count_failure(request: Request) -> int | None:
    """For the audit trail. Seconds that its address has to wait; None: not too many yet."""
    sign_ins: SignIns = request.app.state.sign_ins
    return sign_ins.fail(request.client.host if request.client else "unknown")


def must_be_local(request: Request) -> None:
    """Where nobody has a token: this machine only, or 403."""
    client = request.client.host if request.client else ""
    # Not request.url: where Host is invalid, that falls back to the address we listen on.
    names = [host_of(f"http://{request.headers.get('host', '')}")]
    if origin := request.headers.get("origin"):
        names.append(host_of(origin))
    relayed = any(name in request.headers for name in _RELAYED)
    if relayed or not is_loopback(client) or not all(is_loopback(name) for name in names):
        raise Problem(403, "no tokens are configured: only this machine may use the service")


_RELAYED = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip")
"""A proxy on this machine passes on what comes from others."""


def at_least(role: Role) -> Callable[[Person], Awaitable[Person]]:
    """A dependency: a person of this role or a higher one, or 403."""

    async def check(person: Annotated[Person, Depends(who)]) -> Person:
        must_be(person, role)
        return person

    return check


def must_be(person: Person, role: Role) -> None:
    """Of this role or a higher one. Raises Problem, 403."""
    if not is_at_least(person, role):
        raise Problem(403, f"this needs the role {role} or higher; yours is {person.role}")


def is_at_least(person: Person, role: Role) -> bool:
    """Of this role or a higher one."""
    return RANKS.get(person.role, -1) >= RANKS[role]


Viewer = Annotated[Person, Depends(at_least("viewer"))]
Responder = Annotated[Person, Depends(at_least("responder"))]
Approver = Annotated[Person, Depends(at_least("approver"))]


def may_post(person: Person, source: str) -> bool:
    """May this person, or this source, post alerts of that kind?"""
    if person.role == "source":
        return person.source in (None, source)
    return RANKS[person.role] >= RANKS["responder"]
