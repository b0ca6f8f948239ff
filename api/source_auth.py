"""Which source sent an alert: by token, password, signature, or a proxy's word.

A signature is over the bytes as they came, and is checked before anything reads them. Every
comparison takes the same time whatever is wrong, and no answer says what was.
"""

import base64
import binascii
import hashlib
import hmac
import re
import time
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

from fastapi import Request
from starlette.datastructures import Headers

from api.auth import (
    LOCAL_ADMIN,
    OutOfTime,
    Tokens,
    count_failure,
    may_post,
    must_be_local,
    person_of,
    refused,
)
from api.peer import peer_of
from api.problems import Problem
from api.source_config import SIGNATURES, XFCC, BasicEntry, HmacEntry, MtlsEntry, SourceEntry
from api.source_config import SourceKind as Kind
from api.store.audit import Person

MOST_SIGNATURES = 8
"""Of one message: PagerDuty sends one for each secret while they change."""
_SECONDS = re.compile(r"[0-9]{1,12}", re.ASCII)
_PAIR = r"""([A-Za-z]+)=("(?:[^"\\]|\\.)*"|[^",;]*)"""
_ONE_CLIENT = re.compile(rf"{_PAIR}(?:;{_PAIR})*")
_PAIRS = re.compile(_PAIR)


@dataclass(frozen=True)
class Sender:
    """Who posts, and what they signed."""

    person: Person
    signed: str = ""
    """The digest of what was signed: the same again is the same message."""


@dataclass(frozen=True)
class Message:
    """A message that nobody has read yet."""

    headers: Headers
    body: bytes
    peer: str
    """The address that is connected to us, whatever the headers say."""
    at: float


async def sender_of(request: Request, kind: Kind) -> Sender:
    """Who sent this, and may they post alerts of that kind? Raises Problem."""
    sender = _sender(request, kind, await request.body())
    if sender is None:
        raise refused(request, _NOBODY)
    if not may_post(sender.person, kind):
        count_failure(request)
        raise Problem(403, f"these credentials may not post {kind} alerts")
    return sender


def known_by_head(request: Request, kind: str) -> bool:
    """Is it known who sends a body, before it is read? False: its signature may tell.

    Raises Problem: it will never be known.
    """
    if _sender(request, kind, b"") is not None:
        return True
    sources = request.app.state.tokens.sources
    if any(source.hmac is not None and source.kind == kind for source in sources):
        return False
    raise refused(request, _NOBODY)


_NOBODY = "valid credentials of a configured source are needed"


def _sender(request: Request, kind: str, body: bytes) -> Sender | None:
    """None: nobody known. Raises Problem: out of time; or without any tokens, from elsewhere."""
    tokens: Tokens = request.app.state.tokens
    if not tokens:
        must_be_local(request)
        return Sender(LOCAL_ADMIN)
    message = Message(request.headers, body, peer_of(request.scope), time.time())
    try:
        return identify(tokens, kind, message)
    except OutOfTime as out_of_time:
        raise refused(request, str(out_of_time)) from None


def identify(tokens: Tokens, kind: str, message: Message) -> Sender | None:
    """The configured source, or person, that the message is proven to be from.

    Whoever sends several kinds with one proof is the source of this kind.
    Raises OutOfTime.
    """
    scheme, _, credentials = (_only(message, "Authorization") or "").partition(" ")
    if scheme.lower() == "bearer" and (person := tokens.person(credentials.strip(), kind)):
        return Sender(person)
    for source in sorted(tokens.sources, key=lambda source: source.kind != kind):
        if source.basic is not None and _knows_password(source.basic, scheme, credentials):
            return Sender(person_of(source))
        if source.mtls is not None and _has_certificate(source.mtls, message):
            return Sender(person_of(source))
        if source.hmac is not None and source.kind == kind:
            signed = _signed(source, source.hmac, message)
            if signed is not None:
                return Sender(person_of(source), hashlib.sha256(signed).hexdigest())
    return None


def _only(message: Message, name: str) -> str | None:
    """A header that is there once: of two, one may be the sender's and one the proxy's."""
    found = message.headers.getlist(name)
    return found[0].encode("latin-1").decode("utf-8", "replace") if len(found) == 1 else None


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode("utf-8", "replace"))


def _knows_password(entry: BasicEntry, scheme: str, credentials: str) -> bool:
    if scheme.lower() != "basic":
        return False
    try:
        user, _, password = base64.b64decode(credentials.strip(), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return False
    is_user = hmac.compare_digest(user, entry.user.encode())
    is_password = _same(hashlib.sha256(password).hexdigest(), entry.sha256)
    return is_user and is_password


def _signed(source: SourceEntry, entry: HmacEntry, message: Message) -> bytes | None:
    """What was signed with a secret of this source; None: nothing."""
    given = _only(message, entry.header or SIGNATURES[source.kind])
    if given is None:
        return None
    body = message.body
    if entry.timestamp_header is not None:
        seconds = _only(message, entry.timestamp_header) or ""
        in_time = _SECONDS.fullmatch(seconds) is not None and (
            abs(message.at - int(seconds)) <= entry.window.total_seconds()
        )
        if not in_time:
            return None
        body = seconds.encode() + b":" + body
    prefix = "v1=" if source.kind == "pagerduty" else ""
    signatures = [one.strip() for one in given.split(",", MOST_SIGNATURES)[:MOST_SIGNATURES]]
    matches = False
    for secret in entry.secrets:
        key = secret.get_secret_value().encode()
        expected = prefix + hmac.new(key, body, hashlib.sha256).hexdigest()
        for signature in signatures:
            matches |= _same(signature, expected)
    return body if matches else None


def _has_certificate(entry: MtlsEntry, message: Message) -> bool:
    """A proxy of ours says that the client's certificate is good and one of these."""
    try:
        address = ip_address(message.peer)
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if not any(address in network for network in entry.proxies):
        return False
    given = _only(message, entry.header) or ""
    if entry.header.lower() == XFCC:
        names = _names_of_the_client(given)
    else:
        names = [given] if _only(message, entry.verified) == "SUCCESS" else []
    return any([_same(name, subject) for name in names for subject in entry.subjects])


def _names_of_the_client(header: str) -> list[str]:
    """Subject and URIs of the one client of Envoy's header; of several, who asked is not known."""
    if _ONE_CLIENT.fullmatch(header) is None:
        return []
    names = []
    for key, value in _PAIRS.findall(header):
        if key.lower() in ("subject", "uri"):
            unquoted = value[1:-1] if value.startswith('"') else value
            names.append(re.sub(r"\\(.)", r"\1", unquoted))
    return [name for name in names if name]
