"""Looking at the keys of one prefix: a bounded sample, or page by page."""

import math
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from tools.connection import LONGEST_PIPELINE, CommandFailure, Connection
from tools.remedies.vitals import read_vitals

PAGE = 500
MOST_SCANNED = 50_000
SURVEY_SECONDS = 2.0
MOST_LOOKED_AT = 2_000
"""Keys of the prefix whose expiry is read in a survey."""
MOST_SIZED = 1_000
"""Whose mean size is taken. Its standard error: 6 % where one key in ten is 20 times as large."""
MOST_PAGES = 1_000_000
"""Far above any keyspace's pages, far below forever."""


def escaped(prefix: str) -> bytes:
    r"""The prefix for MATCH, its own glob characters (`*?[]\`) taken literally."""
    return re.sub(rb"([*?\[\]\\^])", rb"\\\1", prefix.encode())


@dataclass(frozen=True)
class Survey:
    """A sample of the keyspace, and the prefix in it."""

    scanned: int
    """Keys seen, of any name."""
    matched: int
    """Keys of the prefix whose expiry was read."""
    without_ttl: int
    """Of those."""
    keys: int
    """Of the prefix; estimated over the whole database, as the next."""
    keys_without_ttl: int
    mean_bytes: float | None
    """Of those without expiry, from MEMORY USAGE of a few; of all of them, if so asked."""
    complete: bool
    """The whole database was seen."""
    has_nx: bool
    """PEXPIREAT knows NX here (Redis 7.0)."""

    @property
    def without_ttl_share(self) -> float:
        """Of the keys of the prefix."""
        return self.without_ttl / self.matched if self.matched else 0.0


async def survey(connection: Connection, prefix: str, *, size_of_all: bool = False) -> Survey:
    """SCAN a bounded part of the database, PTTL of the prefix's keys. Raises CommandFailure."""
    start = prefix.encode()
    scanned, found, cursor, complete = 0, [], 0, False
    until = time.monotonic() + SURVEY_SECONDS
    seen: set[bytes] = set()
    while scanned < MOST_SCANNED and time.monotonic() < until:
        cursor, keys = _page(await connection.execute("SCAN", cursor, "COUNT", PAGE))
        fresh = [key for key in keys if key not in seen]
        seen.update(fresh)
        scanned += len(fresh)
        found += [key for key in fresh if key.startswith(start)]
        if cursor == 0:
            complete = True
            break
    # The first of a scan are just those that a batch cut short has been to.
    looked_at = _evenly(found, MOST_LOOKED_AT)
    left = await connection.execute_many([("PTTL", k) for k in looked_at]) if looked_at else []
    for ttl in left:  # counted as one that expires, a refusal would look like success
        if isinstance(ttl, CommandFailure):
            raise ttl
    forever = [key for key, ttl in zip(looked_at, left, strict=True) if ttl == -1]
    share = len(forever) / len(looked_at) if looked_at else 0.0
    total = await connection.execute("DBSIZE")
    total = total if isinstance(total, int) else scanned
    of_all = len(found) if complete else total * len(found) / max(scanned, 1)
    return Survey(
        scanned=scanned,
        matched=len(looked_at),
        without_ttl=len(forever),
        keys=round(of_all),
        keys_without_ttl=round(of_all * share),
        mean_bytes=await _mean_bytes(
            connection, _evenly(looked_at if size_of_all else forever, MOST_SIZED)
        ),
        complete=complete,
        has_nx=(await read_vitals(connection)).at_least(7),
    )


async def matching_pages(
    connection: Connection, prefix: str, count: int
) -> AsyncIterator[list[bytes]]:
    """All keys of the prefix, a SCAN page at a time (pages may be empty). Raises CommandFailure."""
    start = prefix.encode()
    async for keys in pages_like(connection, escaped(prefix) + b"*", count):
        # The server matched already; a key outside of the prefix must never pass, so once more.
        ours = [key for key in dict.fromkeys(keys) if key.startswith(start)]
        for first in range(0, max(len(ours), 1), LONGEST_PIPELINE // 2):
            yield ours[first : first + LONGEST_PIPELINE // 2]


async def pages_like(
    connection: Connection, pattern: bytes, count: int
) -> AsyncIterator[list[bytes]]:
    """All keys of a pattern, a SCAN page at a time (pages may be empty). Raises CommandFailure."""
    cursor = 0
    for _ in range(MOST_PAGES):
        reply = await connection.execute("SCAN", cursor, "MATCH", pattern, "COUNT", count)
        cursor, keys = _page(reply)
        yield keys
        if cursor == 0:
            return


def _evenly(keys: list[bytes], most: int) -> list[bytes]:
    return keys[:: math.ceil(len(keys) / most) or 1]


async def _mean_bytes(connection: Connection, keys: list[bytes]) -> float | None:
    if not keys:
        return None
    replies = await connection.execute_many([("MEMORY", "USAGE", key) for key in keys])
    sizes = [reply for reply in replies if isinstance(reply, int)]
    return sum(sizes) / len(sizes) if sizes else None


def _page(reply: object) -> tuple[int, list[bytes]]:
    match reply:
        case [bytes() as cursor, list() as keys]:
            return int(cursor), [key for key in keys if isinstance(key, bytes)]
    raise CommandFailure("error", "SCAN", "an unexpected reply")
