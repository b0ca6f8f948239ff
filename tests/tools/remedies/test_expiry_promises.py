"""What giving an expiry promises: how much was done, what may evict it, until when it is undone."""

import time
from collections.abc import Callable, Sequence

import pytest
import redis

from evals.servers import Server
from tests.tools.load import failing, fill
from tools.connection import Command, CommandFailure, LiveConnection, Reply
from tools.permissions import READ_WRITE
from tools.remedies.expiry import ExpirePrefix, ExpirePrefixArguments
from tools.remedies.prefix_scan import survey

EXPIRE = ExpirePrefix()


async def test_a_part_of_the_keys_is_not_verified_as_all(
    connection: LiveConnection, client: "redis.Redis"
) -> None:
    """A scan starts where the batches did, so its first keys are those that were touched."""
    fill(client, "session:", 10_000, size=10)
    args = ExpirePrefixArguments(prefix="session:", ttl_seconds=600, max_keys=3_000)
    captured = await EXPIRE.capture(connection, args)
    done = await EXPIRE.apply(connection, args, captured)
    assert done["keys_touched"] == 3_000
    judged = await EXPIRE.verify(connection, args, captured | {"done": done})
    assert judged.helped is False
    assert 0.6 < judged.measured["without_ttl_share"] < 0.8
    assert "the limit of 3,000 keys" in judged.because
    refused = failing(await EXPIRE.preconditions(connection, args))
    assert any("at most 3,000" in text for text in refused)


async def test_the_first_keys_of_a_scan_do_not_tell_the_size_of_all(
    connection: LiveConnection, client: "redis.Redis"
) -> None:
    fill(client, "session:", 2_000, size=10)
    order = list(client.scan_iter("session:*", count=500))
    for key in order[:200]:
        client.set(key, "x" * 1_000)
    sizes = [client.memory_usage(key) or 0 for key in order]
    seen = await survey(connection, "session:")
    assert seen.mean_bytes == pytest.approx(sum(sizes) / len(sizes), rel=0.05)


@pytest.mark.parametrize("known", [True, False])
async def test_a_part_is_not_taken_for_all_of_a_large_keyspace(
    connection: LiveConnection,
    client: "redis.Redis",
    monkeypatch: pytest.MonkeyPatch,
    known: bool,
) -> None:
    """Nor where the outcome is not known: the run was cut off and settled by reading."""
    fill(client, "session:", 10_000, size=10)
    monkeypatch.setattr("tools.remedies.prefix_scan.MOST_SCANNED", 1_000)
    args = ExpirePrefixArguments(prefix="session:", ttl_seconds=600, max_keys=3_000)
    captured = await EXPIRE.capture(connection, args)
    done = await EXPIRE.apply(connection, args, captured)
    judged = await EXPIRE.verify(connection, args, captured | ({"done": done} if known else {}))
    assert judged.measured["without_ttl_share"] == 0, "all that the survey sees was touched"
    assert judged.helped is False


async def test_undone_too_late_it_says_how_many_keys_are_gone(
    connection: LiveConnection, client: "redis.Redis"
) -> None:
    fill(client, "session:", 100, size=10)
    args = ExpirePrefixArguments(prefix="session:", ttl_seconds=60)
    captured = await EXPIRE.capture(connection, args)
    captured["deadlines"]["base_ms"] -= 59_500
    done = await EXPIRE.apply(connection, args, captured)
    assert done["keys_touched"] == 100
    until = time.monotonic() + 5
    while client.dbsize() == 100:
        assert time.monotonic() < until
        time.sleep(0.05)
    with pytest.raises(CommandFailure, match=r"of 100 keys kept.*gone"):
        await EXPIRE.undo(connection, args, captured | {"done": done})
    assert 0 < client.dbsize() < 100
    assert client.info("keyspace")["db0"]["expires"] == 0


async def test_a_policy_that_evicts_expiring_keys_is_said_and_must_have_been_known(
    connection: LiveConnection, client: "redis.Redis"
) -> None:
    fill(client, "session:", 100, size=10)
    args = ExpirePrefixArguments(prefix="session:", ttl_seconds=600)
    assert "Nothing is freed before" in (await EXPIRE.preview(connection, args)).predicted_effect
    client.config_set("maxmemory-policy", "volatile-lru")
    refused = failing(await EXPIRE.preconditions(connection, args))
    assert any("only if that was known" in text for text in refused)
    known = args.model_copy(update={"evictable": True})
    assert failing(await EXPIRE.preconditions(connection, known)) == []
    preview = await EXPIRE.preview(connection, known)
    assert "volatile-lru may evict them at once" in preview.predicted_effect
    assert "a key that was evicted is gone" in preview.rollback


@pytest.mark.parametrize(
    "keys",
    [
        [b"session:\xff\x00\r\n*", b"session:" + b"k" * 60_000, b"session:{tag}:1", b"session:"],
        [b"sess\xc3\xa9:1"],
    ],
)
async def test_any_bytes_after_the_prefix_are_part_of_a_key_and_nothing_else(
    connection: LiveConnection, client: "redis.Redis", keys: list[bytes]
) -> None:
    for key in [*keys, b"Session:1", b"session", b"sess\xe9:1"]:
        client.set(key, "x")
    prefix = "sessé:" if len(keys) == 1 else "session:"
    args = ExpirePrefixArguments(prefix=prefix, ttl_seconds=600)
    captured = await EXPIRE.capture(connection, args)
    assert (await EXPIRE.apply(connection, args, captured))["keys_touched"] == len(keys)
    assert {key for key in client.scan_iter() if client.ttl(key) > 0} == set(keys)
    assert (await EXPIRE.undo(connection, args, captured))["keys_persisted"] == len(keys)


class Meddling(LiveConnection):
    """An application that is at it between the look and the PERSIST."""

    def __init__(self, url: str, meddle: Callable[[], object]) -> None:
        super().__init__(url, READ_WRITE, reconnects=0)
        self.meddle = meddle

    async def execute_many(self, commands: Sequence[Command]) -> list[Reply | CommandFailure]:
        if commands and commands[0][0] in ("MULTI", "PERSIST"):
            self.meddle()
        return await super().execute_many(commands)


@pytest.mark.parametrize("always", [False, True])
async def test_an_expiry_that_the_application_gives_during_the_undo_is_its_own(
    server: Server, client: "redis.Redis", *, always: bool
) -> None:
    """Also beside a key that is written to all the time: that one is given its life back, too."""
    fill(client, "session:", 200)
    given: list[str] = []

    def meddle() -> None:
        if not given:
            given.append("session:7")
            client.expire("session:7", 100_000)
        if always:
            client.append("session:9", "more")

    connection = Meddling(server.url, meddle)
    await connection.open()
    args = ExpirePrefixArguments(prefix="session:", ttl_seconds=600)
    captured = await EXPIRE.capture(connection, args)
    done = await EXPIRE.apply(connection, args, captured)
    undone = await EXPIRE.undo(connection, args, captured | {"done": done})
    assert undone["keys_persisted"] == 199
    assert client.ttl("session:7") > 90_000
    assert {client.ttl(f"session:{n}") for n in range(200) if n != 7} == {-1}
    await connection.close()
