"""Looks for baselines on servers that hang, clocks that are set back, and many targets at once."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from unittest.mock import AsyncMock

import pytest
from sqlalchemy import select, update

from agent.context import Target
from api import baselines as looks
from api.settings import Settings
from api.store import incidents
from api.store.baselines import is_quiet, keep, newest, thinned
from api.store.database import Database
from api.store.tables import AlertRow, IncidentRow, LeaseRow
from api.watch import Watch
from evals.servers import BUILDS, Server
from tests.api.paging_room import Room, alert
from tests.api.serving import until
from tests.api.test_baselines import NOW, kept
from tests.deployments import say
from tests.tools.test_departures_attacked import seen
from tools.connection import CommandFailure, Connection
from tools.opening import UnreachableConnection


async def test_a_walk_that_hangs_costs_only_itself_and_is_not_begun_again_at_once(
    database: Database, start_server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, walks = start_server("valkey-9.1"), []

    async def hangs(*_: object) -> None:
        walks.append(1)
        await asyncio.sleep(60)

    monkeypatch.setattr("api.baselines.Walker.connection_for", hangs)
    monkeypatch.setattr("api.baselines.LOOK_SECONDS", 0.5)
    for number in range(3):
        await looks.keep(database, Target("cache-1", server.url), f"worker-{number}", 60)
    assert (await kept(database), walks) == ({"server": 1}, [1])
    assert await left(database) > 600, "it is not walked on every minute"


async def left(database: Database) -> float:
    """Seconds until somebody may look again."""
    async with database.reading() as session:
        expires = await session.scalar(select(LeaseRow.expires))
        return (expires or 0) - await database.clock(session)


async def test_a_walk_that_is_refused_is_not_begun_again_at_once(
    database: Database, start_server: Callable[..., Server]
) -> None:
    server = start_server("valkey-9.1")
    say(server.port, "ACL", "SETUSER", "few", "on", ">p", "~*", "+@all", "-dbsize")
    url = server.url.replace("//", "//few:p@")
    await looks.keep(database, Target("cache-1", url), "worker-0", 60)
    assert await kept(database) == {"server": 1}
    assert await left(database) > 600


async def test_a_node_that_fails_keeps_no_other_from_being_looked_at(
    database: Database, start_server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nodes(connection: Connection, _: Target) -> AsyncIterator[tuple[str, Connection]]:
        yield "10.0.0.1:1", UnreachableConnection("", CommandFailure("timeout", "INFO", "silent"))
        yield "10.0.0.2:1", connection

    monkeypatch.setattr("api.baselines._nodes", nodes)
    monkeypatch.setattr("secrets.choice", lambda there: there[-1])
    await looks.keep(database, Target("many", start_server(BUILDS[-1]).url), "worker-0", 60)
    assert await kept(database, "many") == {"server": 1, "keyspace": 1}


@pytest.mark.parametrize("is_away", [False, True])
async def test_no_round_waits_for_a_look_that_hangs(
    database: Database,
    settings: Callable[..., Settings],
    monkeypatch: pytest.MonkeyPatch,
    is_away: bool,
) -> None:
    """Nor does a look begin twice, or at all where the database is away."""
    told = settings(targets=[{"name": "cache-1", "url": "redis://127.0.0.1:1"}])
    watch = Watch(told, database, "worker-0")
    begun, rounds = [], []

    async def hangs(*_: object) -> None:
        begun.append(1)
        await asyncio.sleep(60)

    async def a_round() -> None:
        rounds.append(1)
        if is_away:
            raise ConnectionError

    monkeypatch.setattr("api.baselines.keep", hangs)
    monkeypatch.setattr(watch, "round", a_round)
    monkeypatch.setattr(watch, "forget", AsyncMock())
    told.config.watch.__dict__["every"] = timedelta(seconds=0.01)
    task = asyncio.create_task(watch.forever())

    async def several() -> bool:
        return len(rounds) > 3

    await until(several, what="rounds go on")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert begun == ([] if is_away else [1])


async def test_a_clock_that_was_set_back_stops_no_looks(
    database: Database, start_server: Callable[..., Server]
) -> None:
    later = incidents.now() + timedelta(days=3)
    async with database.writing() as session:
        await keep(session, "cache-1", seen(later))
    await looks.keep(database, Target("cache-1", start_server("valkey-9.1").url), "w", 60)
    async with database.reading() as session:
        assert (await newest(session, "cache-1"))["", "server"] < later
    assert thinned({NOW, NOW + timedelta(hours=1)}, NOW) == {NOW}


@pytest.mark.parametrize(
    ("severity", "days", "expected"),
    [("warning", 2, True), ("warning", 0.5, False), ("critical", 2, False)],
)
async def test_a_warning_of_days_is_how_the_target_usually_is(
    room: Room, severity: str, days: float, expected: bool
) -> None:
    """As with a limit that was never set: else nothing would ever be kept of such a server."""
    await room.one(alert("f1", "orders-1"))
    now, long_ago = incidents.now(), incidents.now() - timedelta(days=days)
    async with room.database.writing() as session:
        began = {"severity": severity, "starts_at": long_ago}
        await session.execute(update(AlertRow).values(status="firing", **began))
        ended = {"status": "needs_human", "updated_at": now - timedelta(hours=2)}
        await session.execute(update(IncidentRow).values(**ended))
    async with room.database.reading() as session:
        assert await is_quiet(session, "orders-1", now) is expected
