"""The executor on real servers: once, for the server that was approved, verified, undone."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest
import redis

from agent import executor, rollback, verification
from agent.context import Context, Target
from agent.work import identify
from evals.servers import Server
from tests.agent.operating import HZ, NOW, Desk, Severed, hz
from tools.connection import CommandFailure, Connection
from tools.remedies.catalogue import REMEDIES


@pytest.fixture
async def desk(server: Server) -> AsyncIterator[Desk]:
    made = Desk(server)
    yield made
    if made.reading is not None:
        await made.reading.close()


@pytest.fixture
def client(server: Server) -> Iterator["redis.Redis"]:
    with closing(redis.Redis(port=server.port, protocol=2)) as opened:
        yield opened


async def test_approved_applied_verified(desk: Desk, client: "redis.Redis") -> None:
    action = await desk.approved("set_config", HZ)
    context = await desk.context()
    applied = await executor.apply(context, action)
    assert (applied.status, hz(client)) == ("applied", "50")
    assert applied.outcome["before"]["old"] == "10"
    assert await desk.journal.intent("A1") is None
    verified = await verification.verify(context, applied, hold_seconds=0.05)
    assert (verified.status, (await desk.stored()).status) == ("verified", "verified")


async def test_repeating_any_step_writes_nothing_more(desk: Desk, client: "redis.Redis") -> None:
    action = await desk.approved("set_config", HZ)
    context = await desk.context()
    await executor.apply(context, action)
    client.config_set("hz", "60")
    again = await executor.apply(context, action)  # the caller's copy still says "approved"
    assert (again.status, hz(client), len(desk.writes)) == ("applied", "60", 1)
    client.config_set("hz", "50")
    await verification.verify(context, action, hold_seconds=0)
    for step in (executor.apply, rollback.roll_back):
        assert (await step(context, action)).status == "verified"
    assert hz(client) == "50"


async def test_what_does_not_help_is_put_back(desk: Desk, client: "redis.Redis") -> None:
    action = await desk.approved("expire_prefix", {"prefix": "session:", "ttl_seconds": 600})
    pipeline = client.pipeline(transaction=False)
    for number in range(300):
        pipeline.set(f"session:{number}", "x")
    pipeline.execute()
    context = await desk.context()
    applied = await executor.apply(context, action)
    assert applied.outcome["done"]["keys_touched"] == 300
    for number in range(3_000):  # the writer leaks faster than it helps
        pipeline.set(f"session:new:{number}", "x")
    pipeline.execute()
    judged = await verification.verify(context, applied, hold_seconds=0)
    assert judged.status == "rolling_back"
    undone = await rollback.roll_back(context, judged)
    assert undone.status == "rolled_back", undone.comment
    assert undone.outcome["undone"]["keys_persisted"] == 300
    assert client.info("keyspace")["db0"]["expires"] == 0
    assert (await rollback.roll_back(context, judged)).status == "rolled_back"


async def test_a_roll_back_that_cannot_be_done_says_so(desk: Desk, client: "redis.Redis") -> None:
    action = await desk.approved("set_config", HZ)
    context = await desk.context()
    applied = await executor.apply(context, action)
    client.config_set("hz", "77")
    judged = await verification.verify(context, applied, hold_seconds=0)
    failed = await rollback.roll_back(context, judged)
    assert failed.status == "rollback_failed"
    assert "somebody changed it" in failed.comment
    assert hz(client) == "77"


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"status": "proposed", "approvals": []}, "proposed"),
        ({"status": "rejected", "rejected_by": "bob"}, "rejected"),
        ({"approvals": []}, "lapsed"),
        ({"approvals_required": 2}, "lapsed"),
        ({"expires_at": NOW - timedelta(seconds=1)}, "lapsed"),
        ({"fingerprint": "0" * 64}, "lapsed"),
        ({"arguments": HZ | {"value": "60"}}, "lapsed"),
        ({"evidence": ["E2"]}, "lapsed"),
        ({"kind": "flush_everything"}, "failed"),
        ({"kind": "advise_application"}, "failed"),
        ({"arguments": HZ | {"value": "10000"}}, "failed"),
    ],
)
async def test_what_is_not_approved_exactly_so_is_not_applied(
    start_server: Callable[..., Server], changes: dict[str, Any], status: str
) -> None:
    server = start_server("valkey-9.1")
    desk = Desk(server)
    action = await desk.approved("set_config", HZ, **changes)
    context = await desk.context()
    ended = await executor.apply(context, action)
    assert (ended.status, (await desk.stored()).status) == (status, status)
    assert bool(ended.comment) is (status in ("lapsed", "failed"))
    with closing(redis.Redis(port=server.port)) as client:
        assert hz(client) == "10"
    assert desk.writes == []
    await context.connection.close()


async def test_production_needs_two_people_for_expiring_data(
    start_server: Callable[..., Server],
) -> None:
    desk = Desk(start_server("valkey-9.1"))
    action = await desk.approved("expire_prefix", {"prefix": "session:", "ttl_seconds": 600})
    staging = await desk.context()
    context = Context(
        Target("cache-1", desk.server.url), staging.connection, desk.open, desk.journal,
        staging.library, staging.rules,
    )  # fmt: skip
    ended = await executor.apply(context, action)
    assert (ended.status, "1 of 2" in ended.comment) == ("lapsed", True)
    await context.connection.close()


async def test_the_world_moved_so_the_approval_lapses_and_says_why(
    desk: Desk, client: "redis.Redis"
) -> None:
    action = await desk.approved("set_config", {"parameter": "maxmemory", "value": str(8 << 20)})
    client.set("large", b"x" * (9 << 20))
    ended = await executor.apply(await desk.context(), action)
    assert ended.status == "lapsed"
    assert "above what is in use" in ended.comment
    assert client.config_get("maxmemory")["maxmemory"] == "0"


async def test_another_role_is_another_target(desk: Desk, client: "redis.Redis") -> None:
    action = await desk.approved("set_config", HZ)
    client.replicaof("127.0.0.1", 1)
    ended = await executor.apply(await desk.context(), action)
    assert (ended.status, hz(client)) == ("lapsed", "10")
    assert "not what was approved" in ended.comment


@pytest.mark.parametrize(
    ("after", "status", "value"), [(True, "applied", "50"), (False, "failed", "10")]
)
async def test_a_link_lost_in_the_write_is_settled_by_reading(
    desk: Desk, client: "redis.Redis", after: bool, status: str, value: str
) -> None:
    action = await desk.approved("set_config", HZ)
    desk.wrap = lambda connection: Severed(connection, after=after)
    ended = await executor.apply(await desk.context(), action)
    assert (ended.status, hz(client)) == (status, value)
    assert "connection is gone" in ended.comment
    assert await desk.journal.intent("A1") is None


async def test_a_crash_after_the_intent_is_settled_and_never_applied_again(
    desk: Desk, client: "redis.Redis"
) -> None:
    """The run before us died between intent and outcome; its connection may still be open."""
    action = await desk.approved("set_config", HZ, status="applying")
    stale = await desk.open()
    intent = {
        "captured": await REMEDIES["set_config"].capture(
            stale, REMEDIES["set_config"].args.model_validate(HZ)
        ),
        "client_id": await stale.execute("CLIENT", "ID"),
        "at": NOW.isoformat(),
        "identity": (await identify(stale)).model_dump(),
    }
    await desk.journal.save_action(action, intent=intent)
    ended = await executor.apply(await desk.context(), action)
    assert (ended.status, hz(client), desk.writes) == ("failed", "10", [])
    assert "no effect" in ended.comment
    with pytest.raises(CommandFailure):  # the one before us can write no more
        await stale.execute("CONFIG", "SET", "hz", "50")
    assert hz(client) == "10"


async def test_a_crash_after_the_write_is_settled_as_applied(
    desk: Desk, client: "redis.Redis"
) -> None:
    action = await desk.approved("set_config", HZ, status="applying")
    connection = await desk.open()
    intent = {
        "captured": {"old": "10", "oom_errors": 0, "evicted_keys": 0, "pressure": None},
        "client_id": await connection.execute("CLIENT", "ID"),
        "at": NOW.isoformat(),
        "identity": (await identify(connection)).model_dump(),
    }
    await desk.journal.save_action(action, intent=intent)
    await connection.execute("CONFIG", "SET", "hz", "50")
    await connection.close()
    context = await desk.context()
    ended = await executor.apply(context, action)
    assert (ended.status, len(desk.writes)) == ("applied", 1)
    assert (await verification.verify(context, ended, hold_seconds=0)).status == "verified"


async def test_what_cannot_be_settled_goes_to_a_person(desk: Desk, client: "redis.Redis") -> None:
    action = await desk.approved("set_config", HZ, status="applying")
    intent = {
        "captured": {"old": "10"},
        "client_id": 1,
        "at": NOW.isoformat(),
        "identity": {"run_id": "gone", "role": "master", "replication_id": "gone"},
    }
    await desk.journal.save_action(action, intent=intent)
    ended = await executor.apply(await desk.context(), action)
    assert ended.status == "outcome_unknown"
    assert (await executor.apply(await desk.context(), ended)).status == "outcome_unknown"
    assert hz(client) == "10"


async def test_an_unreachable_target_is_a_failure_that_wrote_nothing(desk: Desk) -> None:
    action = await desk.approved("set_config", HZ)
    context = await desk.context()

    async def refuse() -> Connection:
        raise CommandFailure("unreachable", "connect", "connection refused")

    dead = Context(
        context.target, context.connection, refuse, context.journal, context.library, context.rules
    )
    ended = await executor.apply(dead, action)
    assert (ended.status, "nothing was written" in ended.comment) == ("failed", True)


async def test_a_refused_write_fails_with_the_servers_reason(
    start_server: Callable[..., Server],
) -> None:
    """Valkey's wheel has no jemalloc: the precondition lapses; Debian's 7.0 refuses itself."""
    desk = Desk(start_server("redis-7.0"))
    arguments = {"parameter": "activedefrag", "value": "yes"}
    action = await desk.approved("set_config", arguments)
    ended = await executor.apply(await desk.context(), action)
    assert ended.status == "failed"
    assert "no effect" in ended.comment
    assert desk.reading is not None
    await desk.reading.close()
