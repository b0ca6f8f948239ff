"""Approved actions that must not be carried out, or not stay: the guard, the lapse, the undo.

A person has said yes to each of them. Between that yes and the write the world moves, or what was
approved was a mistake; the server is asked afterwards what was really done to it.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from api.settings import Settings
from api.store.tables import ActionRow
from evals.servers import Server
from tests.api.at_the_gate import Waiting, asked, wait_for, waiting_with
from tests.api.serving import token_entries
from tests.tools.load import fill
from tools.remedies.vitals import MIB

Start = Callable[..., Server]
HZ = {"parameter": "hz", "value": "50", "expected": "10"}


@pytest.fixture
def waiting(settings: Callable[..., Settings]) -> Waiting:
    return waiting_with(settings)


@pytest.fixture
def valkey(start_server: Start) -> Server:
    return start_server("valkey-9.1")


@pytest.fixture
def client(valkey: Server) -> Iterator["redis.Redis"]:
    with closing(redis.Redis(port=valkey.port, protocol=2, decode_responses=True)) as opened:
        yield opened


def raised(to: int, before: int) -> dict[str, str]:
    return {"parameter": "maxmemory", "value": str(to), "expected": str(before)}


def arguments(name: str, value: str) -> Callable[[ActionRow], None]:
    """Another value for one argument, in the database."""

    def change(row: ActionRow) -> None:
        row.body = {**row.body, "arguments": {**row.body["arguments"], name: value}}

    return change


def in_body(**changes: object) -> Callable[[ActionRow], None]:
    def change(row: ActionRow) -> None:
        row.body = {**row.body, **changes}

    return change


# -- what was approved is not what is stored -----------------------------------------------


async def test_another_prefix_after_the_approval(
    waiting: Waiting, valkey: Server, client: "redis.Redis"
) -> None:
    """`session:` was approved; somebody makes `user:` of it."""
    fill(client, "session:", 50)
    fill(client, "user:", 50)
    async with waiting(valkey, "expire_prefix", prefix="session:", ttl_seconds=600) as gate:
        await gate.approve()
        await gate.alter(arguments("prefix", "user:"))
        ended = await gate.let_go()
    assert ended.status == "lapsed"
    assert "not what was approved" in ended.comment
    assert client.info("keyspace")["db0"]["expires"] == 0


async def test_other_evidence_under_an_approved_action(
    waiting: Waiting, valkey: Server, client: "redis.Redis"
) -> None:
    async with waiting(valkey, "set_config", **HZ) as gate:
        await gate.approve()
        await gate.alter(in_body(evidence=["E1", "E7"]))
        ended = await gate.let_go()
    assert ended.status == "lapsed"
    assert "not what was approved" in ended.comment
    assert asked(client, "hz") == "10"


# -- the target is another one ---------------------------------------------------------------


async def test_a_failover_between_approval_and_apply(
    waiting: Waiting, start_server: Start, valkey: Server, client: "redis.Redis"
) -> None:
    """The name leads to the promoted replica now: same data, another process."""
    replica = start_server("valkey-9.1")
    with closing(redis.Redis(port=replica.port, protocol=2, decode_responses=True)) as promoted:
        promoted.config_set("repl-diskless-sync-delay", "0")
        client.config_set("repl-diskless-sync-delay", "0")
        promoted.replicaof("127.0.0.1", str(valkey.port))
        await wait_for(
            lambda: promoted.info("replication")["master_link_status"] == "up", "the replica"
        )
        async with waiting(valkey, "set_config", **HZ) as gate:
            await gate.approve()
            promoted.replicaof("NO", "ONE")
            await gate.door.leads_to(replica.port)
            ended = await gate.let_go()
        assert ended.status == "lapsed"
        assert "failed over" in ended.comment
        assert (asked(client, "hz"), asked(promoted, "hz")) == ("10", "10")


async def test_the_primary_became_a_replica_of_somebody(
    waiting: Waiting, start_server: Start, valkey: Server, client: "redis.Redis"
) -> None:
    primary = start_server("valkey-9.1")
    async with waiting(valkey, "set_config", **HZ) as gate:
        await gate.approve()
        client.replicaof("127.0.0.1", str(primary.port))
        ended = await gate.let_go()
    assert (ended.status, "slave" in ended.comment) == ("lapsed", True)
    assert asked(client, "hz") == "10"


async def test_the_target_restarted_empty(
    waiting: Waiting, start_server: Start, valkey: Server
) -> None:
    async with waiting(valkey, "set_config", **HZ) as gate:
        await gate.approve()
        again = start_server("valkey-9.1")
        await gate.door.leads_to(again.port)
        ended = await gate.let_go()
    assert (ended.status, "restarted" in ended.comment) == ("lapsed", True)
    with closing(redis.Redis(port=again.port, protocol=2, decode_responses=True)) as client:
        assert asked(client, "hz") == "10"


# -- the limit ------------------------------------------------------------------------------


async def test_a_limit_below_what_is_used_is_never_set(
    waiting: Waiting, valkey: Server, client: "redis.Redis"
) -> None:
    """100 MB shrunk to 75 MB evicts 68,000 keys at once: somebody approved it all the same."""
    client.config_set("maxmemory-policy", "allkeys-lru")
    fill(client, "page:", 20_000, size=500)
    client.config_set("maxmemory", 40 * MIB)
    async with waiting(valkey, "set_config", **raised(8 * MIB, 40 * MIB)) as gate:
        await gate.approve()
        ended = await gate.let_go()
    assert ended.status == "lapsed"
    assert "above what is in use" in ended.comment
    assert asked(client, "maxmemory") == str(40 * MIB)
    assert client.dbsize() == 20_000


async def test_somebody_shrinks_the_limit_before_it_is_raised(
    waiting: Waiting, valkey: Server, client: "redis.Redis"
) -> None:
    client.config_set("maxmemory", 40 * MIB)
    async with waiting(valkey, "set_config", **raised(60 * MIB, 40 * MIB)) as gate:
        await gate.approve()
        client.config_set("maxmemory", 20 * MIB)
        ended = await gate.let_go()
    assert ended.status == "lapsed"
    assert "Nobody changed it since" in ended.comment
    assert asked(client, "maxmemory") == str(20 * MIB)


@pytest.mark.long
async def test_a_raise_that_is_filled_at_once_is_taken_back(
    waiting: Waiting, valkey: Server, client: "redis.Redis"
) -> None:
    """The writer takes all that was gained: writes are refused again, and the old limit returns."""
    fill(client, "page:", 20_000, size=500)
    limit = int(client.info("memory")["used_memory"]) - 2 * MIB
    client.config_set("maxmemory", limit)

    def goes_on() -> None:
        with suppress(redis.exceptions.OutOfMemoryError):
            fill(client, "more:", 40_000, size=500)

    async with waiting(valkey, "set_config", **raised(limit + 6 * MIB, limit)) as gate:
        await gate.approve()
        gate.after("applied", goes_on)
        ended = await gate.let_go()
    assert ended.status == "rolled_back", ended.comment
    assert asked(client, "maxmemory") == str(limit)
    assert client.dbsize() > 20_000


async def test_a_raise_that_is_too_little_lapses(
    waiting: Waiting, valkey: Server, client: "redis.Redis"
) -> None:
    fill(client, "page:", 20_000, size=500)
    limit = int(client.info("memory")["used_memory"]) - 4 * MIB
    client.config_set("maxmemory", limit)
    async with waiting(valkey, "set_config", **raised(limit + 2 * MIB, limit)) as gate:
        await gate.approve()
        ended = await gate.let_go()
    assert ended.status == "lapsed"
    assert "above what is in use" in ended.comment
    assert asked(client, "maxmemory") == str(limit)


# -- the build, the value, the approval --------------------------------------------------------


async def test_a_build_that_refuses_the_setting(waiting: Waiting, start_server: Start) -> None:
    """Debian's 7.0 has the parameter and jemalloc, and still says no."""
    server = start_server("redis-7.0")
    with closing(redis.Redis(port=server.port, protocol=2, decode_responses=True)) as client:
        before = client.config_get("*")
        asks = {"parameter": "activedefrag", "value": "yes", "expected": "no"}
        async with waiting(server, "set_config", **asks) as gate:
            await gate.approve()
            ended = await gate.let_go()
        assert ended.status == "failed"
        assert "the target shows no effect" in ended.comment
        assert client.config_get("*") == before


async def test_somebody_changed_the_value_since_it_was_proposed(
    waiting: Waiting, valkey: Server, client: "redis.Redis"
) -> None:
    async with waiting(valkey, "set_config", **HZ) as gate:
        await gate.approve()
        client.config_set("hz", "20")
        ended = await gate.let_go()
    assert ended.status == "lapsed"
    assert "now 20, then 10" in ended.comment
    assert asked(client, "hz") == "20"


@pytest.mark.long
async def test_a_value_that_is_set_back_while_it_is_verified(
    waiting: Waiting, valkey: Server, client: "redis.Redis"
) -> None:
    """A configuration that is kept elsewhere wins: nothing is left to undo, and it says so."""
    async with waiting(valkey, "set_config", **HZ) as gate:
        await gate.approve()
        gate.after("applied", lambda: client.config_set("hz", "10"))
        ended = await gate.let_go()
    assert ended.status == "rolled_back"
    assert "something set it back" in ended.comment
    assert asked(client, "hz") == "10"


async def test_an_undo_that_would_overwrite_somebody_is_not_made(
    waiting: Waiting, valkey: Server, client: "redis.Redis"
) -> None:
    async with waiting(valkey, "set_config", **HZ) as gate:
        await gate.approve()
        gate.after("applied", lambda: client.config_set("hz", "20"))
        ended = await gate.let_go()
        incident = await gate.incident()
    assert ended.status == "rollback_failed"
    assert "left alone" in ended.comment
    assert incident.status == "needs_human"
    assert asked(client, "hz") == "20"


async def test_an_approval_that_is_too_old(
    waiting: Waiting, valkey: Server, client: "redis.Redis"
) -> None:
    def long_ago(row: ActionRow) -> None:
        past = datetime.now(UTC) - timedelta(minutes=1)
        row.expires_at = past
        row.body = {**row.body, "expires_at": past.isoformat()}

    async with waiting(valkey, "set_config", **HZ) as gate:
        await gate.approve()
        await gate.alter(long_ago)
        ended = await gate.let_go()
    assert ended.status == "lapsed"
    # The executor or the sweeper, whoever comes first.
    assert "expired" in ended.comment or "could not be applied in time" in ended.comment
    assert asked(client, "hz") == "10"


async def test_an_approver_who_is_one_no_longer(
    waiting: Waiting, valkey: Server, client: "redis.Redis"
) -> None:
    """She said yes and left the team; the service was told so before the action was applied."""
    tokens = [
        {**entry, "role": "viewer"} if entry["name"] == "approver-1" else entry
        for entry in token_entries()
    ]
    async with waiting(valkey, "set_config", **HZ) as gate:
        await gate.approve()
        await gate.restarted(tokens=tokens)
        ended = await gate.let_go()
    assert ended.status == "lapsed"
    assert "0 of 1 approvals" in ended.comment
    assert asked(client, "hz") == "10"


# -- clients and keys ----------------------------------------------------------------------


async def test_a_client_that_became_somebody_else(
    waiting: Waiting, valkey: Server, client: "redis.Redis"
) -> None:
    """The connection went back to its pool, and serves the checkout now."""
    with closing(redis.Redis(port=valkey.port, client_name="export-1", protocol=2)) as other:
        asks = of_client(client, other.client_id())
        async with waiting(valkey, "kill_client", **asks) as gate:
            await gate.approve()
            other.client_setname("checkout-1")
            ended = await gate.let_go()
        assert ended.status == "lapsed"
        assert "The id is still the same client" in ended.comment
        assert other.client_id() == asks["id"]


async def test_a_client_that_left_by_itself(
    waiting: Waiting, valkey: Server, client: "redis.Redis"
) -> None:
    other = redis.Redis(port=valkey.port, client_name="export-1", protocol=2)
    asks = of_client(client, other.client_id())
    async with waiting(valkey, "kill_client", **asks) as gate:
        await gate.approve()
        other.close()
        await wait_for(
            lambda: not any(c["name"] == "export-1" for c in client.client_list()), "its leave"
        )
        ended = await gate.let_go()
    assert ended.status == "lapsed"
    assert f"client {asks['id']} is gone" in ended.comment


def of_client(client: "redis.Redis", number: int) -> dict[str, Any]:
    (seen,) = client.client_list(client_id=[number])
    return {"id": number, "name": seen["name"], "address": seen["addr"], "type": "normal"}


async def test_a_prefix_that_holds_far_more_than_was_shown(
    waiting: Waiting, valkey: Server, client: "redis.Redis"
) -> None:
    fill(client, "session:", 50)
    asks = {"prefix": "session:", "ttl_seconds": 600, "max_keys": 100}
    async with waiting(valkey, "expire_prefix", **asks) as gate:
        await gate.approve()
        fill(client, "session:", 5_000)
        ended = await gate.let_go()
    assert ended.status == "lapsed"
    assert "They are at most 100" in ended.comment
    assert client.info("keyspace")["db0"]["expires"] == 0


async def test_a_key_that_is_something_else_by_now(
    waiting: Waiting, valkey: Server, client: "redis.Redis"
) -> None:
    """A stream was to be trimmed; whoever deleted it keeps a list under its name."""
    ids = [client.xadd("jobs:log", {"n": number}) for number in range(300)]
    client.xgroup_create("jobs:log", "workers", id="$")
    asks = {"key": "jobs:log", "groups": 1, "before_id": ids[200]}
    async with waiting(valkey, "trim_stream", **asks) as gate:
        await gate.approve()
        client.unlink("jobs:log")
        client.rpush("jobs:log", *range(500))
        ended = await gate.let_go()
    assert ended.status == "lapsed", ended.comment
    assert client.llen("jobs:log") == 500


async def test_a_removal_of_far_more_than_was_shown(
    waiting: Waiting, valkey: Server, client: "redis.Redis"
) -> None:
    fill(client, "tmp:export:", 50)
    asks = {"prefix": "tmp:export:", "owner_confirmed": True, "max_keys": 100}
    async with waiting(valkey, "remove_prefix", **asks) as gate:
        await gate.approve()
        fill(client, "tmp:export:", 5_000)
        ended = await gate.let_go()
    assert ended.status == "lapsed", ended.comment
    assert client.dbsize() == 5_000
