"""Taking an expiry away again, unless the application has given the key another meanwhile."""

from collections.abc import Sequence

from tools.connection import CommandFailure, Connection, Reply
from tools.remedies.deadlines import Deadlines

TRIES = 3
"""Of one key that is written to all the time, before it is done without the guard: with our expiry
left on it, it would die."""


async def persist(connection: Connection, keys: Sequence[bytes], deadlines: Deadlines) -> int:
    """PERSIST of those that carry exactly their deadline; how many. Raises CommandFailure."""
    try:
        kept = await _in_transaction(connection, keys, deadlines)
    except CommandFailure as failure:
        if failure.kind != "oom":  # a full server refuses a transaction, not PERSIST itself
            raise
        await connection.execute("UNWATCH")
        return await _without_guard(connection, keys, deadlines)
    if kept is not None:
        return kept
    if len(keys) > 1:  # one of them was touched: by halves
        half = len(keys) // 2
        return await persist(connection, keys[:half], deadlines) + await persist(
            connection, keys[half:], deadlines
        )
    for _ in range(TRIES):
        if (kept := await _in_transaction(connection, keys, deadlines)) is not None:
            return kept
    return await _without_guard(connection, keys, deadlines)


async def _in_transaction(
    connection: Connection, keys: Sequence[bytes], deadlines: Deadlines
) -> int | None:
    """None: nothing was done, since one was touched between the look and the write."""
    await connection.execute("WATCH", *keys)
    ours = await deadlines.carried_by(connection, list(keys))
    if not ours:
        await connection.execute("UNWATCH")
        return 0
    commands = [("MULTI",), *(("PERSIST", key) for key in ours), ("EXEC",)]
    match (await _all(connection, commands))[-1]:
        case [*done]:
            return sum(one == 1 for one in done)
    return None


async def _without_guard(
    connection: Connection, keys: Sequence[bytes], deadlines: Deadlines
) -> int:
    ours = await deadlines.carried_by(connection, list(keys))
    done = await _all(connection, [("PERSIST", key) for key in ours]) if ours else []
    return sum(one == 1 for one in done)


async def _all(connection: Connection, commands: Sequence[tuple[str | bytes, ...]]) -> list[Reply]:
    replies: list[Reply] = []
    for reply in await connection.execute_many(commands):
        if isinstance(reply, CommandFailure):
            raise reply
        replies.append(reply)
    return replies
