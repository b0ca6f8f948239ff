"""Giving an expiry: to the keys of the prefix that have none, and taken back from exactly those."""

import re
from collections.abc import Callable

import pytest
import redis

from evals.servers import Server
from tests.tools.load import failing, fill
from tools.connection import CommandFailure, LiveConnection
from tools.permissions import READ_WRITE
from tools.remedies.expiry import ExpirePrefix, ExpirePrefixArguments
from tools.remedies.prefix_scan import survey

EXPIRE = ExpirePrefix()
ODD_PREFIX = "a*[b]?\\^{1}:"
"""Every glob character there is."""
DECOYS = ["aXX[b]?\\^{1}:0", "axxb!:", "ab:", "a*b?:", "A*[b]?\\^{1}:0"]


async def test_keys_of_the_prefix_get_an_expiry_and_undo_takes_exactly_those_back(
    connection: LiveConnection, client: "redis.Redis"
) -> None:
    fill(client, "session:", 3_000)
    fill(client, "user:", 500)
    fill(client, "session:short:", 200, ex=5_000)
    args = ExpirePrefixArguments(prefix="session:", ttl_seconds=3_600, batch_size=100)
    assert failing(await EXPIRE.preconditions(connection, args)) == []
    preview = await EXPIRE.preview(connection, args)
    promised = re.search(r"About ([\d,]+) keys", preview.predicted_effect)
    assert promised is not None
    assert 2_900 < int(promised[1].replace(",", "")) < 3_100
    captured = await EXPIRE.capture(connection, args)
    assert await EXPIRE.settle(connection, args, captured) == "not_applied"
    done = await EXPIRE.apply(connection, args, captured)
    assert done["keys_touched"] == 3_000
    assert await EXPIRE.settle(connection, args, captured) == "applied"
    left = ttls(client, "session:")
    assert all(3_590 < ttl <= 3_600 * 1.2 for ttl in left.values() if ttl > 5_000 or ttl < 4_900)
    assert len({ttl // 60 for ttl in left.values()}) > 5, "no jitter"
    assert set(ttls(client, "user:").values()) == {-1}
    verification = await EXPIRE.verify(connection, args, captured | {"done": done})
    assert verification.helped is True
    # The application decides about one key meanwhile: that is left alone.
    client.expire("session:7", 100_000)
    undone = await EXPIRE.undo(connection, args, captured)
    assert undone["keys_persisted"] == 2_999
    after = ttls(client, "session:")
    assert after.pop(b"session:7") > 90_000
    short = {key: ttl for key, ttl in after.items() if key.startswith(b"session:short:")}
    assert len(short) == 200
    assert all(4_900 < ttl <= 5_000 for ttl in short.values())
    assert {ttl for key, ttl in after.items() if key not in short} == {-1}
    assert (await EXPIRE.undo(connection, args, captured))["keys_persisted"] == 0


async def test_expiries_take_memory_and_stop_at_its_limit(
    connection: LiveConnection, client: "redis.Redis"
) -> None:
    """PEXPIREAT is not refused at maxmemory; the application's writes after it are."""
    for part in range(40):  # a longer pipeline's own buffer would be measured
        fill(client, f"session:{part}:", 1_000)
    args = ExpirePrefixArguments(prefix="session:", ttl_seconds=600, batch_size=1_000)
    client.config_set("maxmemory", client.info("memory")["used_memory"] + 400_000)
    preview = await EXPIRE.preview(connection, args)
    assert "themselves take up to 2.4 MiB" in preview.predicted_effect
    assert "left below maxmemory: raise it first" in preview.predicted_effect
    captured = await EXPIRE.capture(connection, args)
    done = await EXPIRE.apply(connection, args, captured)
    assert "maxmemory is reached" in done["stopped_because"]
    assert 0 < done["keys_touched"] < 40_000
    # Where it was full before, nothing is lost by it.
    client.config_set("maxmemory", client.info("memory")["used_memory"] - 1_000_000)
    captured = await EXPIRE.capture(connection, args)
    assert (await EXPIRE.apply(connection, args, captured))["stopped_because"] == ""


def ttls(client: "redis.Redis", prefix: str) -> dict[bytes, int]:
    keys = [key for key in client.scan_iter(count=1_000) if key.startswith(prefix.encode())]
    pipeline = client.pipeline(transaction=False)
    for key in keys:
        pipeline.ttl(key)
    return dict(zip(keys, pipeline.execute(), strict=True))


async def test_glob_characters_of_a_prefix_match_only_themselves(
    connection: LiveConnection, client: "redis.Redis"
) -> None:
    fill(client, ODD_PREFIX, 40)
    for key in DECOYS:
        client.set(key, "1")
    args = ExpirePrefixArguments(prefix=ODD_PREFIX, ttl_seconds=600)
    captured = await EXPIRE.capture(connection, args)
    done = await EXPIRE.apply(connection, args, captured)
    assert done["keys_touched"] == 40
    assert {client.ttl(key) for key in DECOYS} == {-1}
    assert all(ttl > 0 for ttl in ttls(client, ODD_PREFIX).values())
    assert (await EXPIRE.undo(connection, args, captured))["keys_persisted"] == 40


async def test_no_more_keys_than_allowed_are_touched(
    connection: LiveConnection, client: "redis.Redis"
) -> None:
    fill(client, "session:", 500)
    args = ExpirePrefixArguments(prefix="session:", ttl_seconds=600, max_keys=120, batch_size=50)
    captured = await EXPIRE.capture(connection, args)
    done = await EXPIRE.apply(connection, args, captured)
    assert done["keys_touched"] == 120
    assert "limit" in done["stopped_because"]
    assert sum(ttl > 0 for ttl in ttls(client, "session:").values()) == 120


async def test_a_target_that_slows_down_stops_it_between_batches(
    connection: LiveConnection, client: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slow(*_: object) -> float:
        return 1.0

    fill(client, "session:", 500)
    args = ExpirePrefixArguments(prefix="session:", ttl_seconds=600, batch_size=50)
    captured = await EXPIRE.capture(connection, args)
    monkeypatch.setattr("tools.remedies.pace.round_trip_seconds", slow)
    monkeypatch.setattr("tools.remedies.pace.BACK_OFF_SECONDS", 0.01)
    done = await EXPIRE.apply(connection, args, captured)
    assert "slowly" in done["stopped_because"]
    assert 0 < done["keys_touched"] < 500


async def test_a_prefix_without_such_keys_is_refused(
    connection: LiveConnection, client: "redis.Redis"
) -> None:
    fill(client, "cached:", 50, ex=600)
    args = ExpirePrefixArguments(prefix="cached:", ttl_seconds=600)
    assert len(failing(await EXPIRE.preconditions(connection, args))) == 1


async def test_ttls_that_cannot_be_read_do_not_count_as_given(
    server: Server, client: "redis.Redis"
) -> None:
    """A refused PTTL must not look like a key that expires: verification would call it success."""
    fill(client, "session:", 50)
    client.acl_setuser("u", enabled=True, passwords=["+p"], keys=["*"], commands=["+@all", "-pttl"])
    connection = LiveConnection(server.url.replace("//", "//u:p@"), READ_WRITE, reconnects=0)
    try:
        with pytest.raises(CommandFailure, match="PTTL"):
            await survey(connection, "session:")
    finally:
        await connection.close()


async def test_a_replica_is_refused(build: str, start_server: Callable[..., Server]) -> None:
    replica = start_server(build, "--replicaof", "127.0.0.1", "1")
    connection = LiveConnection(replica.url, READ_WRITE, reconnects=0)
    await connection.open()
    args = ExpirePrefixArguments(prefix="session:", ttl_seconds=600)
    assert any("primary" in text for text in failing(await EXPIRE.preconditions(connection, args)))
    await connection.close()
