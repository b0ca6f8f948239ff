"""What every sweep does, when a part of it cannot be done."""

import asyncio
import json
from collections.abc import Callable
from typing import Any
from unittest.mock import AsyncMock

import pytest

from api.queue import Queue
from api.settings import Settings
from api.store import incidents, processes
from api.store.database import Database
from api.sweeping import Sweeper
from tests.api.paging_room import Room, alert
from tests.api.test_log_redaction import logged

PARTS = {
    "say_alive": "api.store.processes.say_alive",
    "end": "api.store.closing.close_due",
    "look_again": "api.store.looks.begin_due",
    "wake": "api.sweeping.wake",
    "lapse": "api.store.decisions.expire",
    "nudge": "api.store.incidents.unfinished",
}


@pytest.fixture
def sweeper(settings: Callable[..., Settings], database: Database, queue: Queue) -> Sweeper:
    return Sweeper(settings(), database, queue, "me", AsyncMock())


@pytest.mark.parametrize("broken", PARTS)
async def test_a_part_that_fails_keeps_no_other_from_being_done(
    sweeper: Sweeper, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    done: list[str] = []

    def part(name: str) -> AsyncMock:
        async def do(*_: Any, **__: Any) -> list[str]:
            done.append(name)
            if name == broken:
                raise RuntimeError("a bug, with redis://user:hunter2@host in its text")
            return []

        return AsyncMock(side_effect=do)

    for name, where in PARTS.items():
        monkeypatch.setattr(where, part(name))
    await sweeper.sweep()
    assert done == list(PARTS), "that it lives comes first"


async def test_while_the_database_is_away_one_trace_is_enough(
    sweeper: Sweeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    for where in PARTS.values():
        monkeypatch.setattr(where, AsyncMock(side_effect=OSError("nobody listens there")))
    with logged() as written:
        await sweeper.sweep()
    said = [json.loads(line) for line in written.getvalue().splitlines()]
    assert [line["part"] for line in said] == list(PARTS)
    assert ["exception" in line for line in said] == [True] + [False] * 5


async def test_what_it_finds_is_nudged_and_that_it_lives_is_known(
    room: Room, sweeper: Sweeper, queue: Any
) -> None:
    one = await room.one(alert("f", "single"))
    async with asyncio.timeout(5):
        while not queue.nudged:  # by who took the alert
            await asyncio.sleep(0.001)
    queue.nudged.clear()
    await sweeper.sweep()
    assert queue.nudged == [one.id]
    await sweeper.sweep()
    assert queue.nudged == [one.id], "it waits in the queue: not at once again"
    async with room.database.reading() as session:
        clock = await room.database.clock(session)
        assert await processes.workers(session, clock) == 1
        assert await incidents.unfinished(session, clock) == [one.id]
