"""Who looks at a page: a token, once, becomes a cookie of this site.

The cookie is sealed with a key of the installation (Fernet) and holds no token, only the digest of
one: a token that is taken out of the configuration, or expires, ends its sessions with it. Nothing
is kept here, so any process of the service knows them. Without configured tokens there is nothing
to sign in to: pages are for this machine alone, like the API.

A form carries a seal of its own for its session (OWASP: "signed double-submit"), and what says that
it comes from another site is refused before that.
"""

import base64
import json
import secrets
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlsplit

from cryptography.fernet import Fernet, InvalidToken
from fastapi import Depends, Request
from fastapi.responses import Response

from agent.incident import Role
from api.auth import LOCAL_ADMIN, OutOfTime, Tokens, is_at_least, must_be_local
from api.keys import subkey
from api.problems import Problem
from api.security_headers import host_of
from api.settings import Settings
from api.store.audit import Person

SECONDS = 12 * 3600
"""A session, and a form that is open: one shift."""
COOKIE = "redis-oncall"
LOCAL = "local"
"""The session of this machine, where nobody has a token."""
NOBODY = "nobody"
"""The session of a form to sign in with."""
MOST_FIELDS = 50


class SignInNeeded(Exception):
    """Nobody is signed in, or not any more."""


class Sessions:
    """Seals of this installation."""

    def __init__(self, settings: Settings) -> None:
        """Blocks on the disk. Raises KeyUnusable."""
        self._seal = Fernet(base64.urlsafe_b64encode(subkey(settings, "sessions")))
        self._http = settings.config.http

    def sealed(self, **content: str) -> str:
        """Content that only this installation can have written."""
        return self._seal.encrypt(json.dumps(content).encode()).decode("ascii")

    def opened(self, sealed: str) -> dict[str, str]:
        """What was sealed less than a shift ago; nothing otherwise."""
        try:
            content = json.loads(self._seal.decrypt(sealed.encode(), ttl=SECONDS))
        except (InvalidToken, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def is_https(self, request: Request) -> bool:
        """Does the browser speak TLS? What ends it may stand before us: the configuration says."""
        if request.url.scheme == "https" or self._http.hsts:
            return True
        public = self._http.url.startswith("https:") and host_of(self._http.url)
        return public == host_of(f"http://{request.headers.get('host', '')}")


@dataclass(frozen=True)
class Visitor:
    """Who looks, and for which session forms are made."""

    person: Person
    session: str
    digest: str
    """Of the token; empty: none was needed."""
    sessions: Sessions

    def may(self, role: Role) -> bool:
        """Is it of this role or a higher one?"""
        return is_at_least(self.person, role)

    @cached_property
    def csrf(self) -> str:
        """The seal of this page's forms."""
        return self.sessions.sealed(form=self.session)

    @property
    def signs_out(self) -> bool:
        """Is there something to sign out of?"""
        return bool(self.digest)


async def visiting(request: Request) -> Visitor:
    """A dependency: who looks. Raises SignInNeeded; Problem where only this machine may look."""
    tokens: Tokens = request.app.state.tokens
    sessions: Sessions = request.app.state.sessions
    if not tokens:
        must_be_local(request)
        return Visitor(LOCAL_ADMIN, LOCAL, "", sessions)
    content = sessions.opened(request.cookies.get(cookie_name(request), ""))
    digest = content.get("digest", "")
    person = person_now(tokens, digest)
    if person is None:
        raise SignInNeeded
    return Visitor(person, content.get("session", ""), digest, sessions)


Visiting = Annotated[Visitor, Depends(visiting)]


def person_now(tokens: Tokens, digest: str) -> Person | None:
    """Whose token that is, if it still lets a person in."""
    try:
        person = tokens.person_of_digest(digest) if digest else None
    except OutOfTime:
        return None
    return person if person is not None and is_at_least(person, "viewer") else None


def cookie_name(request: Request) -> str:
    """With TLS one that no other host and no plain connection can set (`__Host-`)."""
    sessions: Sessions = request.app.state.sessions
    return f"__Host-{COOKIE}" if sessions.is_https(request) else COOKIE


def let_in(request: Request, response: Response, digest: str) -> None:
    """A new session, in a cookie that scripts cannot read and other sites' forms do not send."""
    sessions: Sessions = request.app.state.sessions
    response.set_cookie(
        cookie_name(request),
        sessions.sealed(digest=digest, session=secrets.token_hex(8)),
        max_age=SECONDS,
        path="/",
        secure=sessions.is_https(request),
        httponly=True,
        samesite="lax",  # strict: a link in a message would ask to sign in again
    )


def send_out(request: Request, response: Response) -> None:
    """No session any more in this browser."""
    sessions: Sessions = request.app.state.sessions
    response.delete_cookie(
        cookie_name(request), path="/", secure=sessions.is_https(request), httponly=True,
        samesite="lax",
    )  # fmt: skip


async def posted(request: Request, visitor: Visiting) -> dict[str, str]:
    """A dependency: the fields of a form of ours, sent from a page of this session."""
    return await form_of(request, visitor.session)


Posted = Annotated[dict[str, str], Depends(posted)]


async def form_of(request: Request, session: str) -> dict[str, str]:
    """The fields of a form that was made for this session. Raises Problem."""
    must_be_our_page(request)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise Problem(415, "a form of the console is expected")
    try:
        body = (await request.body()).decode("utf-8")
        pairs = parse_qsl(body, keep_blank_values=True, max_num_fields=MOST_FIELDS)
    except ValueError:
        raise Problem(422, "the form cannot be read") from None
    # A browser sends a line's end as two characters, and counts it as one.
    fields = {name: text.replace("\r\n", "\n") for name, text in pairs}
    sessions: Sessions = request.app.state.sessions
    form: Any = sessions.opened(fields.pop("csrf", "")).get("form")
    if not form or not secrets.compare_digest(str(form).encode(), session.encode()):
        raise Problem(
            403,
            "Nothing was done: the page is too old, or of another session. Go back, copy what you "
            "typed, load the page again, and repeat it.",
        )
    return fields


def must_be_our_page(request: Request) -> None:
    """Not another site's, as browsers tell it. Raises Problem, 403."""
    site = request.headers.get("sec-fetch-site", "same-origin")
    origin = request.headers.get("origin")
    same = origin is None or urlsplit(origin).netloc == request.headers.get("host", "")
    if site not in ("same-origin", "none") or not same:
        raise Problem(403, "this comes from another site's page")
