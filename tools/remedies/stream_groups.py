"""Streams as remedies read them: who still needs which entries, and what is pending.

Ids only. The one command that returns values, XRANGE, is sent on the executor's connection alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tools.connection import CommandFailure, Connection, Reply
from tools.replies import integer, items, mapping

MOST_GROUPS = 1_000
"""Each is asked what it has pending; a stream with more is left to people."""
PAGE = 1_000
"""Pending entries read, claimed or acknowledged at a time."""


class EntryId(NamedTuple):
    """`1700000000000-3`: ids of a stream only grow, and are never given twice."""

    milliseconds: int
    sequence: int

    @classmethod
    def of(cls, text: bytes | str) -> "EntryId":
        """As the server writes it. Raises ValueError."""
        shown = text.decode() if isinstance(text, bytes) else text
        first, _, second = shown.partition("-")
        return cls(int(first), int(second or "0"))

    @property
    def next(self) -> "EntryId":
        """The smallest id above this one, for all that a stream can hold."""
        return EntryId(self.milliseconds, self.sequence + 1)

    def __str__(self) -> str:
        return f"{self.milliseconds}-{self.sequence}"


@dataclass(frozen=True)
class Group:
    """A consumer group, as far as a trim must know it."""

    name: bytes
    pending: int
    delivered: EntryId
    """Everything up to here was handed out once."""
    lag: int | None
    """Entries not handed out yet (7.0; None where the server cannot tell)."""
    oldest: EntryId | None
    """The smallest id that somebody has not acknowledged."""

    @property
    def needs_from(self) -> EntryId:
        """Nothing from here on may go."""
        return min(self.oldest or self.delivered, self.delivered)

    def at_most_before(self, length: int) -> int:
        """How many entries can lie before what it needs, at the most."""
        return max(0, length - (self.lag or 0) - self.pending)


@dataclass(frozen=True)
class Stream:
    """A stream and its groups, at one moment."""

    length: int
    groups: list[Group]

    @property
    def needed_from(self) -> EntryId | None:
        """What the slowest group needs first; None: no group reads it."""
        return min((group.needs_from for group in self.groups), default=None)

    def removable(self) -> tuple[int, bool]:
        """Entries before that, and whether it is a count rather than a bound from above."""
        if not self.groups:
            return 0, True
        most = min(group.at_most_before(self.length) for group in self.groups)
        slowest = min(self.groups, key=lambda group: group.needs_from)
        counted = slowest.lag is not None and slowest.pending == 0
        return (slowest.at_most_before(self.length), True) if counted else (most, False)


async def read_stream(connection: Connection, key: bytes) -> Stream:
    """XLEN, XINFO GROUPS and each group's oldest pending id. Raises CommandFailure."""
    reply = items(await connection.execute("XINFO", "GROUPS", key))
    if len(reply) > MOST_GROUPS:
        raise CommandFailure("budget", "XINFO GROUPS", f"{len(reply)} groups are too many to ask")
    rows = [mapping(row) for row in reply]
    names = [name for row in rows if isinstance(name := row.get("name"), bytes)]
    if len(names) != len(rows):
        raise CommandFailure("error", "XINFO GROUPS", "an unexpected reply")
    # What is pending after what was delivered: in between, consumers can only acknowledge.
    oldest = await connection.execute_many(
        [("XPENDING", key, name, "-", "+", 1) for name in names] or [("XLEN", key)]
    )
    length = await connection.execute("XLEN", key)
    groups = [
        Group(
            name=name,
            pending=integer(row.get("pending")),
            delivered=_id(row.get("last-delivered-id")),
            lag=lag if isinstance(lag := row.get("lag"), int) else None,
            oldest=_first(answer),
        )
        for name, row, answer in zip(names, rows, oldest, strict=False)
    ]
    return Stream(length if isinstance(length, int) else 0, groups)


async def first_id(connection: Connection, key: bytes) -> EntryId | None:
    """The id of the oldest entry; None: there is none. Raises CommandFailure.

    XRANGE answers with the entry; of that, nothing but the id is looked at. XINFO STREAM, the
    other way, would return two entries.
    """
    entries = items(await connection.execute("XRANGE", key, "-", "+", "COUNT", 1))
    return _id(items(entries[0])[0]) if entries else None


class Pending(NamedTuple):
    """One entry that was delivered and not acknowledged."""

    id: EntryId
    consumer: bytes
    idle_ms: int
    deliveries: int


async def pending_page(
    connection: Connection, key: bytes, group: bytes, *asked: str | int | bytes
) -> list[Pending]:
    """XPENDING with `[IDLE ms] start end count [consumer]`. Raises CommandFailure."""
    return pending_rows(await connection.execute("XPENDING", key, group, *asked))


def pending_rows(reply: Reply) -> list[Pending]:
    """XPENDING's reply, of its long form. Raises CommandFailure."""
    return [_pending(items(row)) for row in items(reply)]


def _pending(row: Sequence[Reply]) -> Pending:
    match row:
        case [bytes() as entry, bytes() as consumer, int() as idle, int() as deliveries]:
            return Pending(_id(entry), consumer, idle, deliveries)
    raise CommandFailure("error", "XPENDING", "an unexpected reply")


def _first(answer: Reply | CommandFailure) -> EntryId | None:
    if isinstance(answer, CommandFailure):
        raise answer
    rows = items(answer)
    return _pending(items(rows[0])).id if rows else None


def _id(reply: Reply) -> EntryId:
    try:
        return EntryId.of(reply if isinstance(reply, bytes) else b"")
    except ValueError:
        raise CommandFailure("error", "read a stream's id", "an unexpected reply") from None
