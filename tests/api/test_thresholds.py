"""The runbooks' own alerts without Prometheus: crossed for long enough, told once, over again."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import AsyncMock

import pytest
import redis
from httpx2 import AsyncClient
from sqlalchemy import select, update

from agent.context import Target
from agent.incident import Incident
from agent.runbook import AlertThreshold
from agent.runbook_library import load_library
from agent.thresholds import spoken
from api.app import create_app
from api.problems import Problem, busy
from api.queue import Queue
from api.service import Service
from api.settings import Settings
from api.sizing_config import WatchEntry
from api.store import crossings, events, incidents
from api.store.crossings import Crossing
from api.store.database import Database
from api.store.tables import AlertRow, LeaseRow
from api.store.target_tables import CrossingRow
from api.thresholds import ONE_LOOK, Rule, Thresholds, look, moves, rules
from api.watch import Watch
from evals.servers import BUILDS, Server, stop
from tests.api.serving import serving, token_entries
from tests.api.test_watch import target
from tools.connection import CommandFailure
from tools.reading import Evidence

LIBRARY = load_library()
EVERY = timedelta(minutes=1)
NOW = datetime(2026, 1, 31, 3, tzinfo=UTC)


@pytest.fixture
def service(settings: Callable[..., Settings], database: Database, queue: Queue) -> Any:
    """`service(server)`: a worker's, with one target."""

    def make(server: Server, **watch: Any) -> Service:
        told = settings(targets=[target(server)], watch={"alerts": True} | watch)
        return Service(told, database, queue, LIBRARY, told.agent_targets())

    return make


async def crossed(database: Database) -> dict[str, bool]:
    """Thresholds, and whether they were told."""
    names = {rule.key: spoken(rule.threshold) for rule in rules(LIBRARY, WatchEntry())}
    async with database.reading() as session:
        known = await crossings.of(session, "cache-1")
        return {names.get(key, key): bool(one.told) for key, one in known.items()}


async def goes_by(database: Database, **time: float) -> None:
    async with database.writing() as session:
        for row in await session.scalars(select(CrossingRow)):
            row.since -= timedelta(**time)


async def opened(database: Database) -> list[Incident]:
    async with database.reading() as session:
        return await incidents.page(session)


def fill_to(server: Server, share: float) -> None:
    with redis.Redis(port=server.port) as client:
        for number in range(400):
            memory = client.info("memory")
            if memory["used_memory"] > share * memory["maxmemory"]:
                return
            client.set(f"session:{number}", "x" * 100_000)
    raise AssertionError("it did not fill")


async def above(
    service: Any, start_server: Callable[..., Server]
) -> tuple[Server, Thresholds, Target]:
    """A server above the first threshold, as the first look has found it."""
    server = start_server("valkey-9.1", "--maxmemory", "24mb", "--save", "")
    fill_to(server, 0.78)
    watching = Thresholds(service(server))
    (on,) = watching.service.targets
    await watching.judge(on)
    return server, watching, on


@pytest.mark.parametrize("build", BUILDS)
async def test_memory_that_fills_is_an_alert_after_five_minutes_and_over_when_it_falls(
    service: Any, database: Database, start_server: Callable[..., Server], build: str
) -> None:
    """The seed's 75 %, without Prometheus, across a restart."""
    server = start_server(build, "--maxmemory", "24mb", "--save", "")
    fill_to(server, 0.78)
    first: Service = service(server)
    (on,) = first.targets
    await Thresholds(first).judge(on)
    assert await crossed(database) == {"memory_info.pressure above 75.0 %": False}
    await goes_by(database, minutes=4)
    await Thresholds(first).judge(on)
    assert await opened(database) == []
    await goes_by(database, minutes=1)
    for _ in range(2):
        await Thresholds(service(server)).judge(on)  # another process, and no second alert
    (incident,) = await opened(database)
    (alert,) = incident.alerts
    assert (incident.target, incident.severity, incident.status) == ("cache-1", "warning", "queued")
    assert (alert.source, alert.name) == ("watch", "memory_info.pressure above 75.0 %")
    assert alert.annotations["summary"].startswith("memory_info.pressure is 7")
    assert datetime.now(UTC) - alert.starts_at > timedelta(minutes=5), "since it was crossed"
    with redis.Redis(port=server.port) as client:
        client.execute_command("FLUSHALL", "SYNC")
    async with database.writing() as session:
        row = await incidents.lock(session, incident.id)
        await incidents.move(session, row, "needs_human", "for a test")
    await Thresholds(service(server)).judge(on)
    (incident,) = await opened(database)
    assert (incident.status, incident.alerts[0].status) == ("closed", "resolved")
    assert await crossed(database) == {}


async def test_a_replica_without_its_primary_is_critical_after_a_minute(
    service: Any, database: Database, start_server: Callable[..., Server]
) -> None:
    server = start_server("valkey-9.1", "--maxmemory", "64mb", "--replicaof", "127.0.0.1 1")
    watching = Thresholds(service(server))
    (on,) = watching.service.targets
    await watching.judge(on)
    await goes_by(database, minutes=1)
    await watching.judge(on)
    names = [alert.name for one in await opened(database) for alert in one.alerts]
    assert "replication.master_link_status equal to down" in names


async def test_several_workers_raise_one_alert(
    service: Any, database: Database, start_server: Callable[..., Server]
) -> None:
    server = start_server("valkey-9.1", "--maxmemory", "24mb", "--save", "")
    fill_to(server, 0.88)
    told: Service = service(server)
    watches = [
        Watch(told.settings, database, f"worker-{number}", Thresholds(told)) for number in range(4)
    ]
    await asyncio.gather(*(watch.round() for watch in watches))
    assert set((await crossed(database)).values()) == {False}
    async with database.writing() as session:
        await session.execute(update(LeaseRow).values(expires=0.0))
    await goes_by(database, minutes=6)
    await asyncio.gather(*(watch.round() for watch in watches))
    (incident,) = await opened(database)
    pressure = [alert for alert in incident.alerts if "pressure" in alert.name]
    assert {(alert.name, alert.severity) for alert in pressure} == {
        ("memory_info.pressure above 75.0 %", "warning"),
        ("memory_info.pressure above 85.0 %", "critical"),
    }


async def test_what_cannot_be_reached_stays_as_it_was_known(
    service: Any, database: Database, start_server: Callable[..., Server]
) -> None:
    server, watching, on = await above(service, start_server)
    await asyncio.to_thread(stop, server)
    await goes_by(database, minutes=9)
    before = await crossed(database)
    with contextlib.suppress(CommandFailure):
        await watching.judge(on)
    assert await crossed(database) == before
    assert await opened(database) == []


async def test_an_alert_that_was_refused_is_told_with_the_next_look(
    service: Any,
    database: Database,
    start_server: Callable[..., Server],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, watching, on = await above(service, start_server)
    await goes_by(database, minutes=6)

    async def full(*_: Any) -> Problem:
        raise busy("the queue is full")

    with monkeypatch.context() as patch:
        patch.setattr("api.thresholds.accept", full)
        await watching.judge(on)
    assert await crossed(database) == {"memory_info.pressure above 75.0 %": False}
    await watching.judge(on)
    assert len(await opened(database)) == 1


async def test_a_worker_that_dies_while_it_tells_an_end_silences_nothing(
    service: Any,
    database: Database,
    start_server: Callable[..., Server],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SIGKILL after the end was told, and before that was noted: it crosses anew at once."""
    server, watching, on = await above(service, start_server)
    await goes_by(database, minutes=6)
    await watching.judge(on)
    with redis.Redis(port=server.port) as client:
        client.execute_command("FLUSHALL", "SYNC")
    with monkeypatch.context() as patch:
        patch.setattr("api.store.crossings.end", AsyncMock(side_effect=SystemExit))
        with pytest.raises(SystemExit):
            await watching.judge(on)
    fill_to(server, 0.78)
    for _ in range(2):
        await watching.judge(on)
    assert await crossed(database) == {"memory_info.pressure above 75.0 %": False}
    await goes_by(database, minutes=6)
    await watching.judge(on)
    async with database.reading() as session:
        rows = await session.scalars(select(AlertRow).order_by(AlertRow.starts_at))
        assert [row.status for row in rows] == ["resolved", "firing"]


@pytest.mark.parametrize("watch", [{"alerts": False}, {"skip_targets": "cache-1"}])
async def test_thresholds_that_raise_no_alerts_any_more_end_theirs(
    service: Any, database: Database, start_server: Callable[..., Server], watch: Any
) -> None:
    """Prometheus has come: what `watch` told must not fire for ever."""
    server = start_server("valkey-9.1", "--maxmemory", "24mb", "--save", "")
    fill_to(server, 0.78)
    for minutes in (6, 0):
        told: Service = service(server)
        await Thresholds(told).judge(told.targets[0])
        await goes_by(database, minutes=minutes)
    (before,) = await opened(database)
    off: Service = service(server, **watch)
    for _ in range(2):
        await Thresholds(off).judge(off.targets[0])
    (incident,) = await opened(database)
    assert (before.alerts[0].status, incident.alerts[0].status) == ("firing", "resolved")
    assert await crossed(database) == {}
    async with database.reading() as session:
        said = [row.data for row in await events.after(session, incident.id, 0)]
    assert {"resolved": "memory_info.pressure above 75.0 %"}.items() <= said[-1].items()


# -- one look, judged -----------------------------------------------------------------------


def seen(**reading: Any) -> list[Evidence]:
    return [
        Evidence(
            id="E1", tool="memory_info", args={}, reading=reading, measured=bool(reading),
            taken_at=NOW, target="cache-1", node="n", summary="",
        )
    ]  # fmt: skip


def rule(lasts: float = 300, **bounds: Any) -> Rule:
    threshold = AlertThreshold(when="memory_info.value", **bounds)
    return Rule("key", threshold, ("a-runbook",), timedelta(seconds=lasts))


def known(*, told: bool, minutes: float = 10) -> dict[str, Crossing]:
    since = NOW - timedelta(minutes=minutes)
    return {"key": Crossing("key", since, "an alert" if told else "")}


def judged(one: Rule, before: dict[str, Crossing], **reading: Any) -> tuple[int, int, int]:
    found = moves({"key": one}, before, seen(**reading), NOW, EVERY)
    return len(found.begun), len(found.due), len(found.over)


@pytest.mark.parametrize(
    ("bounds", "value", "moved"),
    [
        ({"above": 0.75}, 0.74, False),
        ({"above": 0.75}, 0.7126, False),
        ({"above": 0.75}, 0.7125, True),
        ({"above": 0}, 1, False),
        ({"above": 0}, 0, True),
        ({"below": 0.9}, 0.91, False),
        ({"below": 0.9}, 0.946, True),
        ({"equals": "err"}, "err", False),
        ({"equals": "err"}, "ok", True),
        ({"above": 0.75}, "a word", False),
    ],
)
def test_what_was_told_is_over_when_it_is_clearly_back(
    bounds: dict[str, Any], value: Any, moved: bool
) -> None:
    assert judged(rule(**bounds), known(told=True), value=value) == (0, 0, int(moved))


def test_how_long_it_has_to_last() -> None:
    at_once, lasting = rule(0, above=1.0), rule(300, above=1.0)
    assert judged(at_once, {}, value=2) == (1, 1, 0)
    assert judged(lasting, {}, value=2) == (1, 0, 0)
    assert judged(lasting, known(told=False, minutes=4), value=2) == (0, 0, 0)
    assert judged(lasting, known(told=False, minutes=4.5), value=2) == (0, 1, 0)
    assert judged(lasting, known(told=True), value=2) == (0, 0, 0), "once"
    assert judged(lasting, known(told=False), value=0.99) == (0, 0, 1), "it begins anew"


@pytest.mark.parametrize("told", [True, False])
def test_what_is_not_measured_neither_begins_nor_ends(told: bool) -> None:
    assert judged(rule(above=1.0), known(told=told)) == (0, 0, 0)
    assert judged(rule(above=1.0), {}) == (0, 0, 0)


def test_what_is_not_watched_any_more_is_over() -> None:
    found = moves({}, known(told=True), [], NOW, EVERY)
    assert [row.threshold for row in found.over] == ["key"]


# -- which are watched ----------------------------------------------------------------------


def test_the_seeds_thresholds_are_watched_and_what_needs_more_says_so() -> None:
    entry = WatchEntry(skip_thresholds=["memory_info.maxmemory"])
    found = {spoken(one.threshold): one.because for one in rules(LIBRARY, entry)}
    assert found["memory_info.pressure above 75.0 %"] == ""
    assert found["memory_info.pressure above 85.0 %"] == ""
    assert "watch.skip_thresholds" in found["memory_info.maxmemory below 1 byte"]
    assert found["clients.blocked above 100"] == "clients needs more than one look at INFO"
    assert "from the server's start on" in found["persistence.aof_delayed_fsync above 0"]
    watched = {name.partition(".")[0] for name, because in found.items() if not because}
    assert watched == set(ONE_LOOK)


async def test_a_look_sends_info_and_time_and_nothing_else(
    start_server: Callable[..., Server], service: Any
) -> None:
    server = start_server("valkey-9.1", "--maxmemory", "64mb")
    with redis.Redis(port=server.port) as client:
        client.config_resetstat()
        pieces = await look(service(server).targets[0])
        asked = {name.removeprefix("cmdstat_") for name in client.info("commandstats")}
    assert [piece.tool for piece in pieces] == list(ONE_LOOK)
    hello = {"hello", "client|id", "client|setname", "client|setinfo", "client|no-touch", "role"}
    assert asked - hello - {"config|resetstat"} == {"info", "time"}


async def test_the_limit_of_a_container_counts_where_the_server_has_none(
    start_server: Callable[..., Server], service: Any
) -> None:
    (on,) = service(start_server("valkey-9.1")).targets
    memory = (await look(replace(on, memory_limit=1 << 30)))[0]
    assert memory.args == {"memory_limit": 1 << 30}
    assert 0 < memory.reading["pressure"] < 1


@pytest.fixture
def told_where(settings: Callable[..., Settings]) -> Any:
    async def ask(**config: Any) -> tuple[dict[str, bool], list[Any]]:
        async with serving(create_app(settings(**config), worker=False)) as client:
            return await _catalogues(client)

    return ask


async def _catalogues(client: AsyncClient) -> tuple[dict[str, bool], list[Any]]:
    on = (await client.get("/v1/targets")).json()["items"]
    books = (await client.get("/v1/runbooks")).json()["items"]
    names = ("memory-pressure", "blocked-clients")
    told = [one for book in books if book["id"] in names for one in book["thresholds"]]
    return {one["name"]: one["watched"] for one in on}, told


async def test_where_they_raise_alerts(told_where: Any) -> None:
    """By default where nobody else sends any; never on what is left out."""
    assert (await told_where())[0] == {"cache-eu": False, "cache-us": False}
    alone = {"tokens": [entry for entry in token_entries() if entry["role"] != "source"]}
    assert (await told_where(**alone))[0] == {"cache-eu": True, "cache-us": True}
    assert not any((await told_where(**alone, watch={"enabled": False}))[0].values())
    some, thresholds = await told_where(watch={"alerts": True, "skip_targets": "cache-us"})
    assert some == {"cache-eu": True, "cache-us": False}
    pressure = [one for one in thresholds if "pressure" in one["threshold"]]
    assert [one["not_watched"] for one in pressure] == ["", ""]
    (blocked,) = [one for one in thresholds if one["not_watched"]]
    assert blocked == {
        "threshold": "clients.blocked above 100", "lasts": "15m", "severity": "info",
        "not_watched": "clients needs more than one look at INFO",
    }  # fmt: skip
