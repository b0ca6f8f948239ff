"""What a message costs the database: hardly more for a hundred alerts than for ten."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event

from api.store.database import Database
from tests.api.paging_room import TARGETS, Room, action, alert, at

TARGET_NAMES = [target["name"] for target in TARGETS]


@contextmanager
def statements(database: Database) -> Iterator[list[str]]:
    """What is asked of the database meanwhile."""
    asked: list[str] = []

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        asked.append(statement)

    engine = database.writer.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        event.remove(engine, "before_cursor_execute", note)


def of(kind: str, many: int) -> list[dict[str, Any]]:
    return [
        alert(f"{kind}-{target}-{number}", target)
        for target in TARGET_NAMES
        for number in range(many)
    ]


async def cost(room: Room, *alerts: dict[str, Any]) -> int:
    with statements(room.database) as asked:
        await room.send(*alerts)
    return len(asked)


async def test_what_is_sent_again_is_recognised_in_few_queries(room: Room) -> None:
    """`repeat_interval`, and the other of a pair of Alertmanagers, send most of what comes."""
    few, many = of("few", 1), of("many", 15)
    await room.send(*few, *many)
    assert await cost(room, *many) <= await cost(room, *few) + 3


async def test_what_joins_an_incident_that_is_looked_at_is_few_statements(room: Room) -> None:
    """On PostgreSQL each is a round trip, and a storm is made of them."""
    await room.send(*of("first", 1))
    with statements(room.database) as asked:
        await room.send(*of("then", 1))
    assert len(asked) <= (10 if room.database.is_sqlite else 7), asked


@pytest.mark.parametrize("status", ["needs_human", "awaiting_approval"])
async def test_what_joins_incidents_that_wait_for_people_asks_once_for_their_last_looks(
    room: Room, status: Any
) -> None:
    for opened in await room.send(*of("first", 1)):
        await room.ends(opened.id, status, action())
    await room.send(*of("then", 1))
    with statements(room.database) as asked:
        await room.send(*of("at once", 15))
    assert len([one for one in asked if "max(events.at)" in one]) <= 1
    writes = [one for one in asked if one.startswith(("INSERT", "UPDATE"))]
    assert len(asked) - len(writes) <= 20


async def test_the_end_of_many_alerts_closes_their_incidents_once(room: Room) -> None:
    opened = await room.send(*of("f", 15))
    for one in opened:
        await room.ends(one.id, "needs_human")
    over = [firing | {"status": "resolved", "endsAt": at(5)} for firing in of("f", 15)]
    with statements(room.database) as asked:
        await room.send(*over)
    assert len(asked) <= 80
    assert {(await room.shown(one.id)).status for one in opened} == {"closed"}
