"""Who did what: noted in the transaction of the deed, chained when it is committed.

`note` only remembers. `Database.writing` appends what was noted as the last thing before the
commit: the chain's head is then the last lock a transaction takes and held for a moment only, so
that it can neither deadlock with others nor make them wait for a long one.
"""

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from sqlalchemy import Connection, bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from agent.redaction import redact_tree
from api.store import appends
from api.store.chain import Entry, Keyring, plain
from api.store.tables import AuditHeadRow, AuditRow

LONGEST_DETAIL = 8_000
"""Characters of a row's detail as JSON; what is longer is cut and says so."""
MOST_UNDER_THE_LOCK = 20
"""Rows of other tables that are written while all others wait: with more, a statement of their own
costs less than the wait for them."""
_NOTED = "audit"


@dataclass(frozen=True)
class Person:
    """Who asks: the name and role of a token."""

    name: str
    role: str
    source: str | None = None
    """The only alert source this token may post to; None: a person's token."""


class WrongKey(Exception):
    """The trail is not continued with another key; the text says what to do."""


@cache
def service(part: str = "executor") -> Person:
    """The service itself, on this machine."""
    return Person(f"{part}@{socket.gethostname()}"[:200], "service")


async def note(
    session: AsyncSession,
    who: Person,
    what: str,
    incident_id: str | None = None,
    **detail: Any,
) -> None:
    """Add a line to the audit trail. It is there when the transaction is committed."""
    session.info.setdefault(_NOTED, []).append(
        {
            "at": datetime.now(UTC),
            "by": who.name,
            "role": who.role,
            "what": what,
            "incident_id": incident_id,
            "detail": plain(redact_tree(detail), LONGEST_DETAIL),
        }
    )


async def append_noted(session: AsyncSession, keys: Keyring | None) -> None:
    """Chain what the transaction noted. The caller commits next. Raises WrongKey."""
    noted: Sequence[dict[str, Any]] = session.info.pop(_NOTED, ())
    if not noted:
        return await appends.written(session)
    if keys is None:
        raise WrongKey("the audit trail has no key in this process")
    await session.flush()  # takes every other lock before the one that all wait for
    if appends.count(session) > MOST_UNDER_THE_LOCK:
        await appends.written(session)
    rows = appends.taken(session)
    await (await session.connection()).run_sync(_append, noted, keys, rows)
    return None


def _append(
    connection: Connection, noted: Sequence[dict[str, Any]], keys: Keyring, more: appends.Rows
) -> None:
    head = connection.execute(_HEAD).one_or_none()
    if head is None:
        raise WrongKey("the audit trail was not begun: start the service once")
    if head.key_id != keys.current.id:
        raise wrong_key(head.key_id, keys)
    rows, seq, mac = [], head.seq, head.mac
    for fields in noted:
        seq += 1
        mac = Entry(seq=seq, key_id=head.key_id, **fields).sealed(keys.current, mac)
        rows.append({**fields, "id": seq, "key_id": head.key_id, "mac": mac})
    appends.write(connection, {**more, _TRAIL: rows}, _MOVED, {"last": seq, "sealed": mac})


# Tables, not rows, and no session: each transaction does this, while all others wait.
_TRAIL, _LAST = (appends.table_of(row) for row in (AuditRow, AuditHeadRow))
_HEAD = select(_LAST).where(_LAST.c.id == 1).with_for_update()
_MOVED = update(_LAST).where(_LAST.c.id == 1).values(seq=bindparam("last"), mac=bindparam("sealed"))


def wrong_key(key_id: str, keys: Keyring) -> WrongKey:
    """That the trail goes on with another key than ours."""
    return WrongKey(
        f"the audit trail in this database goes on with key {key_id}, and the key here is "
        f"{keys.current.id}. Machines that share a database share one key: set REDIS_ONCALL_KEY "
        "here to the other machine's, or copy its file `key` (`redis-oncall doctor` says where). "
        "If the key was changed on purpose, give the one before as REDIS_ONCALL_PREVIOUS_KEYS; "
        "if it is lost: `redis-oncall audit rekey --lost`"
    )
