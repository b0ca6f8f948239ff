"""CONFIG SET: applied, verified, undone exactly; and what it refuses."""

import re
from dataclasses import replace

import pytest
import redis

from tests.tools.load import failing, fill, stuck_subscriber
from tools.acl import REMEDY
from tools.connection import CommandFailure, Connection, LiveConnection
from tools.remedies.config import SetConfig, SetConfigArguments
from tools.remedies.vitals import MIB, ClientLine, read_clients

SET_CONFIG = SetConfig()


def setting(client: "redis.Redis", name: str) -> str:
    return str(client.config_get(name)[name])


async def test_maxmemory_is_raised_verified_and_put_back(
    connection: LiveConnection, client: "redis.Redis"
) -> None:
    client.config_set("maxmemory", "8mb")
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        fill(client, "k:", 60_000)
    args = SetConfigArguments(parameter="maxmemory", value="64mb")
    assert args.value == str(64 * MIB)
    assert failing(await SET_CONFIG.preconditions(connection, args)) == []
    preview = await SET_CONFIG.preview(connection, args)
    assert preview.commands == [["CONFIG", "SET", "maxmemory", str(64 * MIB)]]
    assert "8.0 MiB" in preview.predicted_effect or "%" in preview.predicted_effect
    assert f"maxmemory {64 * MIB}" in preview.artefact
    captured = await SET_CONFIG.capture(connection, args)
    assert await SET_CONFIG.settle(connection, args, captured) == "not_applied"
    done = await SET_CONFIG.apply(connection, args, captured)
    assert setting(client, "maxmemory") == str(64 * MIB)
    assert await SET_CONFIG.settle(connection, args, captured) == "applied"
    verification = await SET_CONFIG.verify(connection, args, captured | {"done": done})
    assert verification.helped is True
    assert client.set("after", "1")
    await SET_CONFIG.undo(connection, args, captured)
    assert setting(client, "maxmemory") == str(8 * MIB)
    assert await SET_CONFIG.settle(connection, args, captured) == "not_applied"


async def test_maxmemory_is_never_set_below_what_is_in_use(
    connection: LiveConnection, client: "redis.Redis"
) -> None:
    fill(client, "k:", 2_000, size=4_000)
    low = SetConfigArguments(parameter="maxmemory", value="4mb")
    assert any("above what is in use" in text for text in await broken(connection, low))
    client.config_set("maxmemory", "64mb")
    assert any("above what is in use" in text for text in await broken(connection, low))


async def test_a_raise_that_is_not_enough_is_none(
    connection: LiveConnection, client: "redis.Redis"
) -> None:
    fill(client, "k:", 2_000, size=4_000)
    client.config_set("maxmemory", "4mb")
    little = SetConfigArguments(parameter="maxmemory", value="5mb")
    assert any("above what is in use" in text for text in await broken(connection, little))
    enough = SetConfigArguments(parameter="maxmemory", value="64mb")
    assert await broken(connection, enough) == []


async def test_all_clients_together_get_a_limit_where_the_build_has_one(
    connection: LiveConnection, client: "redis.Redis"
) -> None:
    args = SetConfigArguments(parameter="maxmemory-clients", value="5%")
    if not client.config_get("maxmemory-clients"):
        assert any("has maxmemory-clients" in text for text in await broken(connection, args))
        return
    assert any("It is a limit" in text for text in await broken(connection, args))
    client.config_set("maxmemory", "1gb")
    assert await broken(connection, args) == []
    captured = await SET_CONFIG.capture(connection, args)
    await SET_CONFIG.apply(connection, args, captured)
    assert setting(client, "maxmemory-clients") == "5%"
    assert (await SET_CONFIG.verify(connection, args, captured)).helped is True
    await SET_CONFIG.undo(connection, args, captured)
    assert setting(client, "maxmemory-clients") == "0"


async def test_clients_that_would_be_cut_off_at_once_keep_the_limit_away(
    connection: LiveConnection, client: "redis.Redis"
) -> None:
    if not client.config_get("maxmemory-clients"):
        pytest.skip("this build has no maxmemory-clients")
    client.config_set("maxmemory", "60mb")  # of 8 MB the kernel's buffers may hold a half
    args = SetConfigArguments(parameter="maxmemory-clients", value="5%")
    with stuck_subscriber(client, "slow"):
        assert any("All other clients" in text for text in await broken(connection, args))


async def test_a_timeout_says_how_many_connections_it_closes(
    connection: LiveConnection, client: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    client.ping()
    with stuck_subscriber(client, "slow"):  # never closed by it
        args = SetConfigArguments(parameter="timeout", value="60")
        preview = await SET_CONFIG.preview(connection, args)
        assert re.search(r"idle for 60 s are closed, now 0 of \d+;", preview.predicted_effect)
        seen = await read_clients(connection)
        idle = [replace(line, idle_seconds=60) for line in seen]
        assert any(line.type == "pubsub" for line in idle)

        async def an_hour_later(_: Connection) -> list[ClientLine]:
            return idle

        monkeypatch.setattr("tools.remedies.config.read_clients", an_hour_later)
        ordinary = sum(line.type == "normal" for line in idle)
        preview = await SET_CONFIG.preview(connection, args)
        assert f"closed, now {ordinary} of {ordinary};" in preview.predicted_effect


async def test_fewer_fsyncs_are_the_word_of_the_owner(
    connection: LiveConnection, client: "redis.Redis"
) -> None:
    client.config_set("appendfsync", "always")
    args = SetConfigArguments(parameter="appendfsync", value="everysec")
    assert any("owner accepts" in text for text in await broken(connection, args))
    accepted = args.model_copy(update={"owner_accepts_loss": True})
    assert await broken(connection, accepted) == []
    with pytest.raises(ValueError, match="not one of everysec"):
        SetConfigArguments(parameter="appendfsync", value="no")


async def test_maxmemory_stays_within_the_machine(connection: LiveConnection) -> None:
    args = SetConfigArguments(parameter="maxmemory", value="90mb", memory_limit=100 * MIB)
    assert any("fits the machine" in text for text in await broken(connection, args))
    fits = SetConfigArguments(parameter="maxmemory", value="60mb", memory_limit=100 * MIB)
    assert await broken(connection, fits) == []


async def broken(connection: LiveConnection, args: SetConfigArguments) -> list[str]:
    return failing(await SET_CONFIG.preconditions(connection, args))


async def test_going_back_never_evicts(connection: LiveConnection, client: "redis.Redis") -> None:
    client.config_set("maxmemory-policy", "allkeys-lru")
    client.config_set("maxmemory", "8mb")
    args = SetConfigArguments(parameter="maxmemory", value="64mb")
    captured = await SET_CONFIG.capture(connection, args)
    await SET_CONFIG.apply(connection, args, captured)
    fill(client, "k:", 3_000, size=4_000)
    keys = client.dbsize()
    with pytest.raises(CommandFailure, match="evict"):
        await SET_CONFIG.undo(connection, args, captured)
    assert client.dbsize() == keys == 3_000


async def test_a_value_that_somebody_else_set_since_is_left_alone(
    connection: LiveConnection, client: "redis.Redis"
) -> None:
    args = SetConfigArguments(parameter="hz", value="50")
    captured = await SET_CONFIG.capture(connection, args)
    await SET_CONFIG.apply(connection, args, captured)
    client.config_set("hz", "77")
    verification = await SET_CONFIG.verify(connection, args, captured)
    assert verification.helped is False
    with pytest.raises(CommandFailure, match="somebody changed it"):
        await SET_CONFIG.undo(connection, args, captured)
    assert setting(client, "hz") == "77"
    assert await SET_CONFIG.settle(connection, args, captured) == "unknown"


async def test_a_data_store_is_not_made_evictable_without_its_owner(
    connection: LiveConnection, client: "redis.Redis"
) -> None:
    fill(client, "k:", 30)
    fill(client, "cached:", 20, ex=600)
    unasked = SetConfigArguments(parameter="maxmemory-policy", value="allkeys-lru")
    assert any("owner" in text for text in await broken(connection, unasked))
    asked = unasked.model_copy(update={"owner_confirmed_cache": True})
    assert await broken(connection, asked) == []
    assert "50 of 50 keys" in (await SET_CONFIG.preview(connection, asked)).predicted_effect
    volatile = SetConfigArguments(parameter="maxmemory-policy", value="volatile-ttl")
    assert await broken(connection, volatile) == []
    assert "20 of 50 keys" in (await SET_CONFIG.preview(connection, volatile)).predicted_effect
    captured = await SET_CONFIG.capture(connection, volatile)
    await SET_CONFIG.apply(connection, volatile, captured)
    assert setting(client, "maxmemory-policy") == "volatile-ttl"
    assert (await SET_CONFIG.verify(connection, volatile, captured)).helped is True
    await SET_CONFIG.undo(connection, volatile, captured)
    assert setting(client, "maxmemory-policy") == "noeviction"


async def test_one_class_of_buffer_limits_is_set_and_the_others_stay(
    connection: LiveConnection, client: "redis.Redis"
) -> None:
    client.config_set("client-output-buffer-limit", "pubsub 0 0 0")
    client.config_set("client-output-buffer-limit", "normal 1gb 512mb 30")
    before = setting(client, "client-output-buffer-limit")
    args = SetConfigArguments(parameter="client-output-buffer-limit", value="pubsub 32mb 8mb 60")
    assert await broken(connection, args) == []
    captured = await SET_CONFIG.capture(connection, args)
    await SET_CONFIG.apply(connection, args, captured)
    now = setting(client, "client-output-buffer-limit")
    assert now == before.replace("pubsub 0 0 0", f"pubsub {32 * MIB} {8 * MIB} 60")
    assert (await SET_CONFIG.verify(connection, args, captured)).helped is True
    await SET_CONFIG.undo(connection, args, captured)
    assert setting(client, "client-output-buffer-limit") == before


async def test_a_buffer_limit_never_hits_an_innocent_client_or_is_unlimited(
    connection: LiveConnection, client: "redis.Redis"
) -> None:
    client.config_set("client-output-buffer-limit", "pubsub 0 0 0")
    with stuck_subscriber(client, "dashboard"):
        args = SetConfigArguments(parameter="client-output-buffer-limit", value="pubsub 1mb 1mb 60")
        assert any("No other pubsub client" in text for text in await broken(connection, args))
        meant = args.model_copy(update={"culprit": "dashboard"})
        assert await broken(connection, meant) == []
    unlimited = SetConfigArguments(parameter="client-output-buffer-limit", value="normal 0 0 0")
    assert any("not unlimited" in text for text in await broken(connection, unlimited))


async def test_active_defragmentation_works_or_fails_leaving_the_old_value(
    connection: LiveConnection, client: "redis.Redis"
) -> None:
    args = SetConfigArguments(parameter="activedefrag", value="yes")
    allocator = client.info("memory")["mem_allocator"]
    refused = await broken(connection, args)
    assert refused == [] if allocator.startswith("jemalloc") else len(refused) == 1
    captured = await SET_CONFIG.capture(connection, args)
    try:
        await SET_CONFIG.apply(connection, args, captured)
    except CommandFailure:  # Debian's Redis 7.0 and Valkey's wheel are built without it
        assert setting(client, "activedefrag") == "no"
        assert await SET_CONFIG.settle(connection, args, captured) == "not_applied"
    else:
        assert setting(client, "activedefrag") == "yes"
        await SET_CONFIG.undo(connection, args, captured)
        assert setting(client, "activedefrag") == "no"


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("requirepass", "x"),
        ("dir", "/etc"),
        ("maxmemory", "lots"),
        ("maxmemory-policy", "allkeys"),
        ("hz", "500"),
        ("hash-max-listpack-entries", "100000"),
        ("client-output-buffer-limit", "pubsub 1mb"),
        ("client-output-buffer-limit", "normal 1 1 1"),
        ("client-output-buffer-limit", "normal 64mb 1kb 60"),
        ("client-output-buffer-limit", "pubsub 1mb 1mb -1"),
    ],
)
def test_settings_that_are_no_remedy_are_not_even_arguments(parameter: str, value: str) -> None:
    with pytest.raises(ValueError, match=r"may be set|not|outside|invalid"):
        SetConfigArguments(parameter=parameter, value=value)


async def test_a_backlog_must_fit_below_maxmemory(
    connection: LiveConnection, client: "redis.Redis"
) -> None:
    client.config_set("maxmemory", "32mb")
    large = SetConfigArguments(parameter="repl-backlog-size", value="64mb")
    assert any("fits below maxmemory" in text for text in await broken(connection, large))
    client.config_set("repl-backlog-size", "30mb")
    small = SetConfigArguments(parameter="repl-backlog-size", value="2mb")
    captured = await SET_CONFIG.capture(connection, small)
    await SET_CONFIG.apply(connection, small, captured)
    assert setting(client, "repl-backlog-size") == str(2 * MIB)
    assert (await SET_CONFIG.verify(connection, small, captured)).helped is True
    await SET_CONFIG.undo(connection, small, captured)
    assert setting(client, "repl-backlog-size") == str(30 * MIB)


async def test_defragmentation_that_does_not_begin_has_not_helped(
    connection: LiveConnection, client: "redis.Redis"
) -> None:
    """A heap with nothing to move: the value is in effect, and nothing comes of it."""
    args = SetConfigArguments(parameter="activedefrag", value="yes")
    captured = await SET_CONFIG.capture(connection, args)
    try:
        done = await SET_CONFIG.apply(connection, args, captured)
    except CommandFailure:
        pytest.skip("this build was made without defragmentation, and says so")
    verification = await SET_CONFIG.verify(connection, args, captured | {"done": done})
    assert verification.helped is False
    assert "runs at 0 %" in verification.because


async def test_a_replicas_buffer_is_enlarged_only_within_the_machine(
    connection: LiveConnection, client: "redis.Redis"
) -> None:
    client.config_set("client-output-buffer-limit", "replica 1mb 1mb 60")
    larger = SetConfigArguments(
        parameter="client-output-buffer-limit", value="replica 256mb 64mb 60"
    )
    assert failing(await SET_CONFIG.preconditions(connection, larger)) == []
    cramped = larger.model_copy(update={"memory_limit": 64 * 1024 * 1024})
    (said,) = failing(await SET_CONFIG.preconditions(connection, cramped))
    assert "still fits the machine" in said


@pytest.mark.parametrize("build", ["valkey-9.1"])
async def test_where_config_set_does_not_last_the_change_is_handed_over(
    connection: LiveConnection, client: "redis.Redis"
) -> None:
    args = SET_CONFIG.args.model_validate({"parameter": "hz", "value": "50"})
    captured = await SET_CONFIG.capture(connection, args)
    captured["done"] = await SET_CONFIG.apply(connection, args, captured)
    client.config_set("hz", "10")  # an operator that puts its own file first
    verification = await SET_CONFIG.verify(connection, args, captured)
    assert verification.helped is False
    assert "something set it back; make the change where the server is configured" in (
        verification.because
    )


@pytest.mark.parametrize("build", ["redis-6.2", "valkey-9.1"])
async def test_a_replica_may_be_behind_by_the_backlog(
    connection: LiveConnection, client: "redis.Redis"
) -> None:
    """With less it is cut off while it catches up, asks for everything, and is cut off again."""
    client.config_set("repl-backlog-size", "32mb")
    for limit, broken in (("16mb", ["A replica may be behind by a whole backlog"]), ("32mb", [])):
        args = SetConfigArguments(
            parameter="client-output-buffer-limit", value=f"replica {limit} {limit} 60"
        )
        assert failing(await SET_CONFIG.preconditions(connection, args)) == broken


@pytest.mark.parametrize("build", ["valkey-9.1"])
async def test_where_config_set_is_refused_the_change_is_handed_over(
    connection: LiveConnection, client: "redis.Redis"
) -> None:
    args = SET_CONFIG.args.model_validate({"parameter": "hz", "value": "50"})
    client.acl_setuser(REMEDY, enabled=True, commands=["-config|set"])
    with pytest.raises(CommandFailure) as failed:
        await SET_CONFIG.apply(connection, args, {})
    assert failed.value.kind == "refused"
    assert "make the change where the server is configured" in str(failed.value)
