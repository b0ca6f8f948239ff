"""Looks at targets' memory for its trend: one an interval over all workers, kept for a while."""

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest
import redis
from sqlalchemy import func, insert, select, update

from agent.context import Target
from api.metrics import REGISTRY
from api.past import Past
from api.settings import Settings
from api.store.database import Database
from api.store.leases import acquire
from api.store.tables import LeaseRow
from api.store.target_tables import SampleRow
from api.watch import AGAIN_AT_A_TIME, Watch, sample
from evals.servers import Server
from tests.api.serving import until
from tools.connection import CommandFailure
from tools.growth import Trend, fit
from tools.opening import open_for_reading
from tools.reads import READS
from tools.resize import InstanceResize

MIB = 1 << 20


def target(server: Server, name: str = "cache-1", **more: Any) -> dict[str, Any]:
    return {"name": name, "url": server.url} | more


async def rows(database: Database) -> int:
    async with database.reading() as session:
        return await session.scalar(select(func.count()).select_from(SampleRow)) or 0


async def test_several_workers_look_once_an_interval(
    database: Database, settings: Callable[..., Settings], start_server: Callable[..., Server]
) -> None:
    server = start_server("valkey-9.1", "--maxmemory", "64mb")
    away = {"name": "away", "url": "redis://127.0.0.1:1"}
    told = settings(targets=[target(server), target(server, "other"), away])
    watches = [Watch(told, database, f"worker-{number}") for number in range(4)]
    await asyncio.gather(*(watch.round() for watch in watches))
    assert await rows(database) == 2
    await watches[0].round()
    assert await rows(database) == 2, "the lease lasts for the interval"
    # An investigation's lease is another one.
    assert await acquire(database, "cache-1", "inc-1", "worker-0") is not None


async def test_one_look_reads_two_sections_and_no_more(
    start_server: Callable[..., Server],
) -> None:
    server = start_server("valkey-9.1", "--maxmemory", "64mb")
    with redis.Redis(port=server.port) as client:
        client.mset({f"k{number}": "x" * 1000 for number in range(50)})
        client.config_resetstat()
        row = await sample(Target("cache-1", server.url))
        assert row is not None
        assert (row.limit_bytes, row.keys) == (64 * MIB, 50)
        assert MIB / 2 < row.used_bytes < 16 * MIB
        asked = {name for name in client.info("commandstats") if "info" not in name}
        assert asked <= {
            "cmdstat_client|id", "cmdstat_client|setname", "cmdstat_client|no-touch",
            "cmdstat_role", "cmdstat_config|resetstat", "cmdstat_hello",
        }  # fmt: skip
        assert client.info("commandstats")["cmdstat_info"]["calls"] <= 4


async def test_a_look_that_fails_at_the_thresholds_keeps_its_sample(
    database: Database,
    settings: Callable[..., Settings],
    start_server: Callable[..., Server],
) -> None:
    """And what fails on one target, however, is nothing to the others."""
    server = start_server("valkey-9.1", "--maxmemory", "64mb")
    told = settings(targets=[target(server, name) for name in ("refuses", "is-broken", "is-well")])
    judged = []

    class Judge:
        async def judge(self, on: Target) -> None:
            judged.append(on.name)
            if on.name == "refuses":
                raise CommandFailure("refused", "INFO", "no permission")
            if on.name == "is-broken":
                raise RuntimeError("a bug")

    before = looks("failed"), looks("measured")
    await Watch(told, database, "worker-0", Judge()).round()  # type: ignore[arg-type]
    assert sorted(judged) == ["is-broken", "is-well", "refuses"]
    assert await rows(database) == 3
    assert (looks("failed") - before[0], looks("measured") - before[1]) == (2, 1)


async def test_a_server_that_says_nothing_holds_up_no_round(
    database: Database,
    settings: Callable[..., Settings],
    start_server: Callable[..., Server],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("api.watch.LOOK_SECONDS", 0.5)
    server = start_server("valkey-9.1")
    os.kill(server.pid, signal.SIGSTOP)
    try:
        before = looks("failed")
        watch = Watch(settings(targets=[target(server)]), database, "worker-0")
        async with asyncio.timeout(4):
            await watch.round()
    finally:
        os.kill(server.pid, signal.SIGCONT)
    assert looks("failed") - before == 1


@pytest.fixture
def silent() -> Iterator[str]:
    """The URL of a server that lets everybody in and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=1_024) as listening:
        yield f"redis://127.0.0.1:{listening.getsockname()[1]}"


async def test_those_that_said_nothing_last_time_keep_nobody_waiting(
    database: Database,
    settings: Callable[..., Settings],
    start_server: Callable[..., Server],
    monkeypatch: pytest.MonkeyPatch,
    silent: str,
) -> None:
    dead = [{"name": f"dead-{number}", "url": silent} for number in range(AGAIN_AT_A_TIME + 8)]
    told = settings(targets=[*dead, target(start_server("valkey-9.1"))])
    watch = Watch(told, database, "worker-0")

    async def round_again() -> int:
        """How many looks failed in it."""
        async with database.writing() as session:
            await session.execute(update(LeaseRow).values(expires=0.0))
        before = looks("failed")
        await watch.round()
        return int(looks("failed") - before)

    monkeypatch.setattr("api.watch.LOOK_SECONDS", 0.5)
    assert await round_again() >= len(dead)
    kept = await rows(database)
    watch._failed.pop("cache-1", None)  # on a busy machine half a second may be too short for it
    monkeypatch.setattr("api.watch.LOOK_SECONDS", 60.0)  # only the dead ones take so long
    waiting = asyncio.create_task(round_again())

    async def sampled() -> bool:
        return await rows(database) > kept

    await until(sampled, what="the server that answers is looked at beside them")
    assert not waiting.done()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    monkeypatch.setattr("api.watch.LOOK_SECONDS", 0.5)
    first = list(watch._failed)
    await round_again()
    left = len(dead) - AGAIN_AT_A_TIME
    assert list(watch._failed)[:left] == first[-left:], "who had no turn is first in the next round"


def looks(outcome: str) -> float:
    return REGISTRY.get_sample_value("redis_oncall_watch_looks_total", {"outcome": outcome}) or 0


@pytest.mark.parametrize("number", ["9" * 30, "-1", "nan"])
async def test_a_number_that_no_server_can_have_is_not_measured(
    database: Database,
    settings: Callable[..., Settings],
    start_server: Callable[..., Server],
    monkeypatch: pytest.MonkeyPatch,
    number: str,
) -> None:
    server = start_server("valkey-9.1", "--maxmemory", "64mb")
    said = {"used_memory": number, "used_memory_peak": number, "maxmemory": number}
    monkeypatch.setattr("api.watch.read_info", AsyncMock(return_value=said))
    await Watch(settings(targets=[target(server)]), database, "worker-0").round()
    assert await rows(database) == 0
    said["used_memory"] = "1000"
    row = await sample(Target("cache-1", server.url))
    assert row is not None
    assert (row.used_bytes, row.peak_bytes, row.limit_bytes) == (1000, None, None)


async def fill(database: Database, days: int, per_day: int = 10 * MIB, every: int = 10) -> None:
    now = datetime.now(UTC)
    steps = days * 1_440 // every
    values = [
        {
            "target": "cache-1",
            "at": now - timedelta(minutes=every * back),
            "used_bytes": 500 * MIB - per_day * back * every // 1_440,
        }
        for back in range(steps)
    ]
    async with database.writing() as session:
        await session.execute(insert(SampleRow), values)


async def test_what_is_older_than_it_is_kept_goes(
    database: Database, settings: Callable[..., Settings]
) -> None:
    await fill(database, 8, every=60)
    watch = Watch(settings(watch={"keep": "2d"}), database, "worker-0")
    await watch.forget()
    assert await rows(database) == pytest.approx(48, abs=1)


async def test_kept_samples_reach_the_sizing_of_an_investigation(
    database: Database, settings: Callable[..., Settings], start_server: Callable[..., Server]
) -> None:
    server = start_server("valkey-9.1", "--maxmemory", "800mb")
    await fill(database, 9)
    past = Past(settings(targets=[target(server)]), database, "cache-1")
    connection = await open_for_reading(server.url)
    try:
        known = await past.known("instance_resize")
        size = await READS["instance_resize"].call(connection, {"seconds": 1.0} | known)
    finally:
        await connection.close()
    assert isinstance(size, InstanceResize)
    assert size.growth_from == "trend"
    assert size.growth_bytes_per_day == pytest.approx(10 * MIB, rel=0.01)
    assert isinstance(size.trend, Trend)
    assert size.trend.source == "watch"
    assert await past.known("memory_info") == {}


async def test_why_there_is_no_trend_is_said(
    database: Database, settings: Callable[..., Settings], tmp_path: Path
) -> None:
    told = settings(targets=[{"name": "cache-1", "url": "redis://127.0.0.1:1"}])
    history = await Past(told, database, "cache-1").history()
    assert history.because == "no samples are kept for this target yet"
    off = settings(watch={"enabled": False}, sizes=tmp_path / "sizes.yaml")
    past = Past(off, database, "cache-1")
    assert (await past.history()).because == "`watch` is switched off"
    assert (await past.known("instance_resize"))["catalogue"] == str(tmp_path / "sizes.yaml")


async def test_weeks_of_minutes_are_read_by_ten_minutes_and_know_weekends(
    database: Database, settings: Callable[..., Settings]
) -> None:
    await fill(database, 15, every=1)
    past = Past(settings(), database, "cache-1")
    history = await past.history()
    assert len(history.samples) == pytest.approx(2_160, abs=2)
    trend = await asyncio.to_thread(fit, history, datetime.now(UTC))
    assert isinstance(trend, Trend)
    assert trend.season == "week"
    assert trend.bytes_per_day == pytest.approx(10 * MIB, rel=0.01)
