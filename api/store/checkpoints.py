"""The graph's checkpoints that nothing goes on from any more."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select

from api.store.database import Database
from api.store.incidents import FINAL
from api.store.tables import IncidentRow

THREADS_AT_ONCE = 500
KEPT_AFTER = timedelta(hours=1)
"""Whoever looks for why a run ended as it did finds its steps for so long."""


async def forget_finished(database: Database, saver: Any, now: datetime) -> int:
    """Delete those of finished incidents, of earlier attempts and of incidents that are gone.

    Whatever is looked at again starts another attempt. How many threads were deleted.
    """
    gone, after = 0, ""
    while threads := await _threads(database, saver, after):
        after = threads[-1]
        for thread in await _finished(database, threads, now):
            await saver.adelete_thread(thread)
            gone += 1
    return gone


async def _threads(database: Database, saver: Any, after: str) -> list[str]:
    """The ids of some threads, in order."""
    query = "SELECT DISTINCT thread_id FROM checkpoints WHERE thread_id > {} ORDER BY 1 LIMIT {}"
    if database.is_sqlite:
        told = (after, THREADS_AT_ONCE)
        return [row[0] for row in await saver.conn.execute_fetchall(query.format("?", "?"), told)]
    async with saver.conn.connection() as connection:
        found = await connection.execute(query.format("%s", "%s"), (after, THREADS_AT_ONCE))
        return [row["thread_id"] for row in await found.fetchall()]


async def _finished(database: Database, threads: list[str], now: datetime) -> list[str]:
    # `<incident>/<attempt>/<graph version>`: see agent/run.py
    named = {thread: thread.split("/") for thread in threads}
    ids = {parts[0] for parts in named.values()}
    columns = IncidentRow.id, IncidentRow.attempt, IncidentRow.status, IncidentRow.updated_at
    async with database.reading() as session:
        rows = (await session.execute(select(*columns).where(IncidentRow.id.in_(ids)))).all()
    over = {row.id for row in rows if row.status in FINAL and row.updated_at < now - KEPT_AFTER}
    needed = {(row.id, str(row.attempt)) for row in rows if row.id not in over}
    return [thread for thread, parts in named.items() if tuple(parts[:2]) not in needed]
