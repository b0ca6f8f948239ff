"""Refused logins, commands and keys. Source: ACL LOG."""

from tools.catalogue import Arguments
from tools.connection import Connection, Reply
from tools.reading import Reading
from tools.replies import decimal, integer, items, mapping, text


class AclDenial(Reading):
    """One entry. Names are untrusted text."""

    count: int
    reason: str
    """auth, command, key, channel"""
    context: str
    object: str
    username: str
    client_address: str
    client_name: str = ""
    """As it named itself; empty if it had not, as before a login."""
    age_seconds: float


class AclLog(Reading):
    """Newest 64 entries of ACL LOG."""

    entries: list[AclDenial]
    total_denials: int
    """Sum of counts."""


class AclLogArguments(Arguments):
    """None."""


NEWEST = 64


async def acl_log(connection: Connection, args: AclLogArguments) -> AclLog:
    """Refused logins, commands, keys and channels; ages in seconds. Source: ACL LOG 64."""
    reply = await connection.execute("ACL", "LOG", NEWEST)
    entries = [_denial(mapping(raw)) for raw in items(reply)]
    return AclLog(entries=entries, total_denials=sum(entry.count for entry in entries))


def _denial(raw: dict[str, Reply]) -> AclDenial:
    client = text(raw.get("client-info"), 1_000)
    named = dict(part.partition("=")[::2] for part in client.split())
    return AclDenial(
        count=integer(raw.get("count")),
        reason=text(raw.get("reason")),
        context=text(raw.get("context")),
        object=text(raw.get("object")),
        username=text(raw.get("username")),
        client_address=named.get("addr", ""),
        client_name=named.get("name", ""),
        age_seconds=decimal(raw.get("age-seconds")) or 0.0,
    )
