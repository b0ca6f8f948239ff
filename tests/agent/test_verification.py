"""Verified while the application goes on: what a change makes worse is undone, and only that."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import Any

import pytest
import redis
from rich.console import Console

from agent import executor, rollback, verification
from agent.context import Context
from agent.incident import Action
from agent.policy import Policy
from api.cli import render
from evals.faults.workload import Actor, Application, Traffic, connect, everyday_traffic, text
from evals.servers import Server
from tests.agent.operating import HZ, Desk, hz
from tools import pulse
from tools.opening import open_for_reading
from tools.remedies.config import SetConfig
from tools.remedies.remedy import Verification
from tools.remedies.vitals import MIB

WATCHED = Policy(verify_for=timedelta(seconds=4))


@contextmanager
def application(port: int, *also: Actor) -> Iterator[Application]:
    """Keys and everyday traffic on them, and whatever else."""
    app = Application(Random(7))
    with closing(connect(port)) as client:
        app.fill(client, 4 * MIB)
    traffic = Traffic([*everyday_traffic(app, port), *also])
    traffic.start()
    try:
        yield app
    finally:
        traffic.stop()


def writer(port: int, per_second: float = 200, size: int = 2_000) -> Actor:
    """New keys that nobody reads."""
    random = Random(3)
    value = text(random, size)
    return Actor(
        connect(port, "import"),
        per_second,
        lambda pipe: pipe.set(f"import:{random.getrandbits(48)}", value),
    )


@pytest.fixture
async def desk(start_server: Callable[..., Server]) -> AsyncIterator[Desk]:
    made = Desk(start_server("valkey-9.1", "--enable-debug-command", "local"))
    yield made
    if made.reading is not None:
        await made.reading.close()


async def watched(desk: Desk, policy: Policy = WATCHED) -> Context:
    return replace(await desk.context(), policy=policy)


async def carried_out(context: Context, action: Action) -> Action:
    """Applied, verified and, if need be, undone, as the graph does it."""
    action = await executor.apply(context, action)
    assert action.status == "applied", action.comment
    action = await verification.verify(context, action)
    return await rollback.roll_back(context, action)


def events_of(desk: Desk) -> list[dict[str, Any]]:
    seen: list[dict[str, Any]] = []
    desk.journal._listener = lambda kind, data: seen.append({"kind": kind, **data})
    return seen


@pytest.mark.long
async def test_a_change_that_starts_evictions_is_undone_before_the_hold_is_over(
    desk: Desk,
) -> None:
    """maxmemory above what is in use, as its guard asks, and below what is written next."""
    with closing(redis.Redis(port=desk.server.port)) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("maxmemory", 400 * MIB)
        with application(desk.server.port, writer(desk.server.port, 1_000)):
            soon = int(client.info("memory")["used_memory"]) + 14 * MIB
            lower = {"parameter": "maxmemory", "value": str(soon)}
            context = await watched(desk)
            applied = await executor.apply(context, await desk.approved("set_config", lower))
            assert applied.status == "applied", applied.comment
            judged = await verification.verify(context, applied, hold_seconds=60)
            assert judged.status == "rolling_back", judged.comment
            assert "evicted keys: from 0/s to " in judged.comment
            assert judged.outcome["held_seconds"] < 30
            undone = await rollback.roll_back(context, judged)
        assert undone.status == "rolled_back", undone.comment
        assert "verified on the server" in undone.comment
        assert undone.outcome["undo"]["verified"] is True
        assert client.config_get("maxmemory")["maxmemory"] == str(400 * MIB)
    assert desk.journal.pages == []


@contextmanager
def slowed(port: int) -> Iterator[Callable[[float], None]]:
    """Whatever an application asks for takes this long more: the server does nothing meanwhile."""
    seconds = [0.0]

    def step(pipe: Any) -> None:
        if seconds[0]:
            pipe.execute_command("DEBUG", "SLEEP", seconds[0])

    def slower(milliseconds: float) -> None:
        seconds[0] = milliseconds / 1_000

    with application(port, Actor(connect(port, "reports"), 20, step)):
        yield slower


@pytest.mark.long
async def test_a_change_that_slows_everything_is_undone_and_pages_if_it_stays_slow(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse, "OWN_LAG_MS", 1e9)  # a busy machine that runs tests is slow itself
    action = await desk.approved("set_config", HZ)
    context = await watched(desk)
    with slowed(desk.server.port) as slower:
        applied = await executor.apply(context, action)
        slower(200)
        # It ends as soon as it is seen; a busy machine takes longer for as many looks.
        judged = await verification.verify(context, applied, hold_seconds=40)
        assert judged.status == "rolling_back", judged.comment
        assert "round trip" in judged.comment
        undone = await rollback.roll_back(context, judged)
    with closing(redis.Redis(port=desk.server.port)) as client:
        assert hz(client) == "10"
    assert undone.status == "rollback_failed", undone.comment
    assert "still worse than before" in undone.comment
    assert (undone.outcome["undo"]["verified"], len(desk.journal.pages)) == (False, 1)
    assert "rollback failed" in desk.journal.pages[0]


@contextmanager
def refused(port: int) -> Iterator[Callable[[], None]]:
    """Somebody's commands begin to fail."""
    wrong = [False]

    def step(pipe: Any) -> None:
        if wrong[0]:
            pipe.incr("text:1")
        else:
            pipe.get("text:1")

    with closing(connect(port)) as client:
        client.set("text:1", "no number")
    with application(port, Actor(connect(port, "counter"), 40, step)):
        yield lambda: wrong.__setitem__(0, True)


@pytest.mark.long
async def test_new_errors_are_a_regression_and_old_ones_are_not(desk: Desk) -> None:
    context = await watched(desk)
    with refused(desk.server.port) as fail:
        applied = await executor.apply(context, await desk.approved("set_config", HZ))
        fail()
        judged = await verification.verify(context, applied)
        assert judged.status == "rolling_back", judged.comment
        assert "error replies of one kind (ERR): from 0/s to " in judged.comment
        # From now on that is how it was before: nobody blames the next action for it.
        with closing(redis.Redis(port=desk.server.port)) as client:
            client.config_set("hz", "10")
        ended = await carried_out(context, await desk.approved("set_config", HZ))
    assert ended.status == "verified", ended.comment
    assert ended.outcome["baseline"]["errors.ERR"] > 20
    assert ended.outcome["regressions"] == []


async def test_what_was_already_getting_worse_is_not_blamed_on_the_action(desk: Desk) -> None:
    with closing(redis.Redis(port=desk.server.port)) as client:
        client.config_set("maxmemory", 100 * MIB)
    filling = writer(desk.server.port, 600, 8_000)  # 5 % of the limit a second
    with application(desk.server.port, filling):
        ended = await carried_out(await watched(desk), await desk.approved("set_config", HZ))
    assert ended.status == "verified", ended.comment
    rise = ended.outcome["after"]["pressure"] - ended.outcome["baseline"]["pressure"]
    assert rise > 0.08, "it did grow by more than would be a regression"


async def test_before_and_after_are_there_to_draw(desk: Desk) -> None:
    seen = events_of(desk)
    with application(desk.server.port):
        context = await watched(desk, Policy(verify_for=timedelta(seconds=6)))
        ended = await carried_out(context, await desk.approved("set_config", HZ))
    assert ended.status == "verified", ended.comment
    outcome = ended.outcome
    for when in ("baseline", "after"):
        assert outcome[when]["commands"] > 100
        assert outcome[when]["connected_clients"] > 5
        assert outcome[when]["evicted_keys"] == 0
        assert outcome[when]["replica_lag_bytes"] is None  # no replica is no lag of zero
    columns, rows = outcome["series"]["columns"], outcome["series"]["rows"]
    assert columns[0] == "seconds"
    assert 8 <= len(rows) <= 60
    assert {len(row) for row in rows} == {len(columns)}
    assert rows[0][0] < 0 < rows[-1][0]
    assert rows == sorted(rows, key=lambda row: row[0])
    told = [event for event in seen if event["kind"] == "status" and "held_seconds" in event]
    words = ["it is watched from now on", "nothing got worse"]
    assert [(event["action"], event["so_far"]) for event in told] == [("A1", w) for w in words]
    assert told[0]["held_seconds"] == 0


async def test_a_hold_that_a_crash_cut_short_begins_again_with_the_same_baseline(
    desk: Desk,
) -> None:
    context = await watched(desk)
    with refused(desk.server.port) as fail:
        applied = await executor.apply(context, await desk.approved("set_config", HZ))
        first = asyncio.create_task(verification.verify(context, applied))
        await asyncio.sleep(1.2)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        fail()
        judged = await verification.verify(context, applied)
    assert judged.status == "rolling_back", judged.comment
    assert "ERR" in judged.comment
    assert judged.outcome["baseline"] == applied.outcome["baseline"]


async def test_a_restart_during_the_hold_is_noticed_at_once_and_pages(
    desk: Desk, start_server: Callable[..., Server]
) -> None:
    context = await watched(desk, Policy(verify_for=timedelta(seconds=60)))
    with closing(redis.Redis(port=desk.server.port)) as client:
        applied = await executor.apply(
            replace(context, policy=WATCHED), await desk.approved("set_config", HZ)
        )
        verifying = asyncio.create_task(verification.verify(context, applied))
        await asyncio.sleep(1.0)
        client.replicaof("127.0.0.1", start_server("valkey-9.1").port)
        judged = await asyncio.wait_for(verifying, 20)
    assert (judged.status, len(desk.journal.pages)) == ("outcome_unknown", 1)
    assert "slave, answers now" in judged.comment


async def test_an_undo_that_the_server_does_not_show_has_failed(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Something (an operator, a second instance) writes our value again after each undo."""
    context = await desk.context()
    applied = await executor.apply(context, await desk.approved("set_config", HZ))

    async def worse(*_: object) -> Verification:
        return Verification(helped=False, because="it got worse")

    async def lost(*_: object) -> dict[str, Any]:
        return {"value": "10"}

    monkeypatch.setattr(SetConfig, "verify", worse)
    monkeypatch.setattr(SetConfig, "undo", lost)
    undone = await rollback.roll_back(context, await verification.verify(context, applied))
    assert (undone.status, len(desk.journal.pages)) == ("rollback_failed", 1)
    assert "still shows the change" in undone.comment
    assert undone.outcome["undo"]["verified"] is False


@pytest.mark.long
async def test_where_nothing_can_be_put_back_and_it_stays_worse_it_says_so_and_pages(
    desk: Desk,
) -> None:
    """A client was disconnected, and others fail since: nobody can connect it again from here."""
    context = await watched(desk)
    with refused(desk.server.port) as fail, closing(connect(desk.server.port, "job")) as job:
        seen = {"id": job.client_id(), "name": "job", "type": "normal"}
        address = next(c["addr"] for c in job.client_list() if c["name"] == "job")
        action = await desk.approved("kill_client", {**seen, "address": address})
        applied = await executor.apply(context, action)
        assert applied.status == "applied", applied.comment
        fail()
        undone = await rollback.roll_back(context, await verification.verify(context, applied))
    assert (undone.status, len(desk.journal.pages)) == ("rollback_failed", 1)
    assert "nothing to put back: a disconnected client reconnects by itself" in undone.comment
    assert "still worse than before" in undone.comment
    shown = Console(width=80, force_terminal=True, color_system="standard")
    with shown.capture() as captured:
        shown.print(render.action(undone))
    red = [line for line in captured.get().splitlines() if "\x1b[1;31m" in line]
    assert any("LOOK NOW" in line for line in red)


async def test_nothing_is_written_where_nobody_could_see_what_it_does(
    desk: Desk, start_server: Callable[..., Server]
) -> None:
    action = await desk.approved("set_config", HZ)
    other = await open_for_reading(start_server("valkey-9.1").url)
    ended = await executor.apply(replace(await desk.context(), connection=other), action)
    assert (ended.status, desk.writes) == ("lapsed", [])
    assert "different servers" in ended.comment
    await other.close()
