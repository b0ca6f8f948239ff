"""Removing keys that are kept already, unless somebody changed them meanwhile.

WATCH before the DUMP, UNLINK in a transaction after it: what was written to since makes the server
refuse the transaction, and then it is found out which key it was.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from tools.connection import CommandFailure, Connection
from tools.remedies.deadlines import milliseconds
from tools.remedies.operation import Saved

CLOCK_MS = 2
"""PTTL and TIME, read one after the other, agree on an expiry to this many milliseconds."""


@dataclass
class Removed:
    """What became of one batch."""

    keys: int = 0
    left: list[Saved] = field(default_factory=list)
    """Changed, or gone by themselves, since they were kept."""
    unguarded: int = 0
    """Of `keys`: removed without the transaction, by a server that was too full for one."""


async def keep_and_watch(
    connection: Connection, keys: Sequence[bytes], *, has_expiretime: bool
) -> list[Saved]:
    """Those keys that exist, with value and expiry; watched from before. Raises CommandFailure."""
    expiry: list[tuple[str, ...]] = [("PEXPIRETIME",)] if has_expiretime else [("PTTL",), ("TIME",)]
    commands: list[tuple[str | bytes, ...]] = [("WATCH", *keys)]
    for key in keys:
        commands += [("DUMP", key), (expiry[0][0], key), *expiry[1:]]
    replies = await connection.execute_many(commands)
    for reply in replies:
        if isinstance(reply, CommandFailure):
            raise reply
    width = 1 + len(expiry)
    saved = []
    for place, key in enumerate(keys):
        payload, left, *clock = replies[1 + place * width : 1 + (place + 1) * width]
        if isinstance(payload, bytes) and isinstance(left, int) and left != -2:
            at = left if left < 0 or not clock else left + milliseconds(clock[0])
            saved.append(Saved(key, payload, None if at < 0 else at))
    return saved


async def remove(connection: Connection, kept: Sequence[Saved], *, has_expiretime: bool) -> Removed:
    """Remove what `keep_and_watch` returned last. Raises CommandFailure."""
    removed = Removed()
    await _remove(connection, kept, removed, has_expiretime=has_expiretime)
    return removed


async def _remove(
    connection: Connection, kept: Sequence[Saved], removed: Removed, *, has_expiretime: bool
) -> None:
    try:
        if (gone := await _in_transaction(connection, kept)) is not None:
            removed.keys += gone
            return
    except CommandFailure as failure:
        if failure.kind != "oom":
            raise
        await _without_guard(connection, kept, removed, has_expiretime=has_expiretime)
        return
    if len(kept) == 1:
        removed.left += kept
        return
    # One of them was touched. Those as they were are tried again, by halves.
    half = len(kept) // 2
    for part in (kept[:half], kept[half:]):
        if same := await _unchanged(connection, part, removed, has_expiretime=has_expiretime):
            await _remove(connection, same, removed, has_expiretime=has_expiretime)


async def _unchanged(
    connection: Connection, kept: Sequence[Saved], removed: Removed, *, has_expiretime: bool
) -> list[Saved]:
    names = [one.name for one in kept]
    again = await keep_and_watch(connection, names, has_expiretime=has_expiretime)
    now = {one.name: one for one in again}
    same = [one for one in kept if _equal(one, now.get(one.name))]
    removed.left += [one for one in kept if one not in same]
    if len(same) < len(kept):  # a change of one that is left alone must not stop the others
        await connection.execute("UNWATCH")
        if same:
            return await _unchanged(connection, same, removed, has_expiretime=has_expiretime)
    return same


def _equal(kept: Saved, now: Saved | None) -> bool:
    if now is None or now.payload != kept.payload:
        return False
    before, after = kept.expires_at_ms, now.expires_at_ms
    if before is None or after is None:
        return before is after
    return abs(before - after) <= CLOCK_MS


async def _in_transaction(connection: Connection, kept: Sequence[Saved]) -> int | None:
    """How many were removed; None: none, since one was touched. Raises CommandFailure."""
    names = [one.name for one in kept]
    replies = await connection.execute_many([("MULTI",), ("UNLINK", *names), ("EXEC",)])
    for reply in replies:
        if isinstance(reply, CommandFailure):
            raise reply
    match replies[-1]:
        case [int() as gone]:
            return gone
    return None


async def _without_guard(
    connection: Connection, kept: Sequence[Saved], removed: Removed, *, has_expiretime: bool
) -> None:
    """At maxmemory a server refuses MULTI, and also whatever would make a value larger."""
    if same := await _unchanged(connection, kept, removed, has_expiretime=has_expiretime):
        await connection.execute("UNWATCH")
        gone = await connection.execute("UNLINK", *(one.name for one in same))
        removed.keys += gone if isinstance(gone, int) else 0
        removed.unguarded += len(same)
