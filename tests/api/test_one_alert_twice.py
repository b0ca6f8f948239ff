"""Two processes that are told of one alert."""

import asyncio

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from api.store import alerts as store
from api.store import audit
from api.store.homes import Homes
from tests.api.paging_room import Room, alert


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
async def test_nobody_waits_for_an_alert_with_the_end_of_the_trail_locked(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One alert is told of at two places, to two processes; one has written it, and goes on."""
    wrote, may_go_on = asyncio.Event(), asyncio.Event()
    end = store.end

    async def slowly(session: AsyncSession, homes: Homes) -> None:
        await end(session, homes)
        if not wrote.is_set():
            wrote.set()
            await may_go_on.wait()

    await room.send(alert("b", "carts-1"))
    monkeypatch.setattr(store, "end", slowly)
    first = asyncio.create_task(room.send(alert("a", "alone"), alert("b", "carts-1", over=1)))
    await wrote.wait()
    second = asyncio.create_task(room.beside().send(alert("a", "single")))
    waits = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    async with room.database.reading() as session:
        while not await session.scalar(waits):
            await asyncio.sleep(0.01)
            await session.rollback()
    try:
        async with asyncio.timeout(5), room.database.writing() as session:
            await audit.note(session, audit.service(), "view")
    finally:
        may_go_on.set()
        await asyncio.gather(first, second)
