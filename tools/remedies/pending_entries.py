"""Pending entries as they were, compactly: what gives them back to their consumer."""

import base64
import zlib
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from tools.connection import Argument, Connection
from tools.remedies.saved_commands import raised
from tools.remedies.stream_groups import PAGE, EntryId, Pending, pending_page, pending_rows
from tools.replies import integer, items, mapping

MOST_PAGES = 10_000
CLAIMED_AT_ONCE = 500


class Delivery(NamedTuple):
    """When an entry was last handed out, and how often."""

    id: EntryId
    at_ms: int
    """Server time, milliseconds since the epoch."""
    times: int


def packed_deliveries(deliveries: Iterable[Delivery]) -> str:
    """As text for the journal: some bytes an entry, since ids and times go up in small steps."""
    lines, before = [], (0, 0, 0, 0)
    for (milliseconds, sequence), at, times in deliveries:
        row = (milliseconds, sequence, at, times)
        lines.append(" ".join(str(new - old) for new, old in zip(row, before, strict=True)))
        before = row
    return base64.b64encode(zlib.compress("\n".join(lines).encode(), 9)).decode()


def unpacked_deliveries(text: str) -> Iterator[Delivery]:
    """The same, back."""
    row = (0, 0, 0, 0)
    for line in zlib.decompress(base64.b64decode(text)).decode().split("\n"):
        if line:
            steps = map(int, line.split(" "))
            row = tuple(old + step for old, step in zip(row, steps, strict=True))  # type: ignore[assignment]
            yield Delivery(EntryId(*row[:2]), *row[2:])


class Consumer(NamedTuple):
    """One member of a group."""

    pending: int
    idle_seconds: float
    """Since it last asked for anything."""


async def consumers(connection: Connection, key: bytes, group: bytes) -> dict[bytes, Consumer]:
    """Each consumer by name. Raises CommandFailure."""
    reply = items(await connection.execute("XINFO", "CONSUMERS", key, group))
    return {
        name: Consumer(integer(row.get("pending")), integer(row.get("idle")) / 1000)
        for row in map(mapping, reply)
        if isinstance(name := row.get("name"), bytes)
    }


async def owners(
    connection: Connection, key: bytes, group: bytes, ids: Sequence[EntryId]
) -> dict[EntryId, Pending]:
    """Who has each of these pending; those that nobody has are missing. Raises CommandFailure."""
    asked = [("XPENDING", key, group, str(one), str(one), 1) for one in ids]
    found = [pending_rows(reply) for reply in raised(await connection.execute_many(asked))]
    return {row.id: row for rows in found for row in rows}


async def pages_below(
    connection: Connection, key: bytes, group: bytes, bound: EntryId
) -> AsyncIterator[list[Pending]]:
    """What is pending before an id, a page at a time. Raises CommandFailure."""
    start = "-"
    for _ in range(MOST_PAGES):
        page = await pending_page(connection, key, group, start, f"({bound}", PAGE)
        if page:
            yield page
        if len(page) < PAGE:
            return
        start = f"({page[-1].id}"


async def idle_entries(
    connection: Connection, key: bytes, group: bytes, consumer: bytes, idle_ms: int, most: int
) -> AsyncIterator[list[Pending]]:
    """What one consumer has had pending for so long, a page at a time. Raises CommandFailure."""
    start, found = "-", 0
    for _ in range(MOST_PAGES):
        count = min(PAGE, most - found)
        page = await pending_page(
            connection, key, group, "IDLE", idle_ms, start, "+", count, consumer
        )
        if page:
            yield page
        found += len(page)
        if len(page) < count or found >= most:
            return
        start = f"({page[-1].id}"


def giving_back(
    key: bytes, group: bytes, consumer: bytes, deliveries: Iterable[Delivery], *, force: bool
) -> Iterator[tuple[Argument, ...]]:
    """XCLAIM for those delivered at the same time as often; `force`: also what was acknowledged."""
    for (at_ms, times), same in groupby(deliveries, lambda one: (one.at_ms, one.times)):
        ids = [str(one.id) for one in same]
        for first in range(0, len(ids), CLAIMED_AT_ONCE):
            page = ids[first : first + CLAIMED_AT_ONCE]
            how = ("TIME", at_ms, "RETRYCOUNT", times, *(("FORCE",) if force else ()), "JUSTID")
            yield ("XCLAIM", key, group, consumer, 0, *page, *how)
