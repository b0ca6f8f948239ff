"""Idle connections of one leaking client go, by id; everybody else stays."""

import contextlib
import time
from collections.abc import Iterator

import redis

from tests.tools.load import failing
from tools.connection import LiveConnection
from tools.remedies import idle_clients
from tools.remedies.idle_clients import SHORTEST_IDLE, KillIdleClients, KillIdleClientsArguments
from tools.remedies.vitals import read_clients

KILL = KillIdleClients()
SECONDS = 2
"""Less than anybody may ask for."""


@contextlib.contextmanager
def pool(client: "redis.Redis", name: str, size: int) -> Iterator[list["redis.Redis"]]:
    """Connections of one name, each used once."""
    port = client.connection_pool.connection_kwargs["port"]
    opened = [redis.Redis(port=port, protocol=2, client_name=name) for _ in range(size)]
    for one in opened:
        one.ping()
    try:
        yield opened
    finally:
        for one in opened:
            one.close()


async def arguments(connection: LiveConnection, name: str) -> KillIdleClientsArguments:
    ids = [line.id for line in await read_clients(connection) if line.name == name]
    allowed = KillIdleClientsArguments(name=name, ids=ids, min_idle_seconds=SHORTEST_IDLE)
    return allowed.model_copy(update={"min_idle_seconds": SECONDS})


async def test_the_idle_go_and_whoever_does_something_stays(
    connection: LiveConnection, client: "redis.Redis"
) -> None:
    client.config_set("maxclients", 20)
    with pool(client, "orders", 14) as opened, pool(client, "other", 2):
        args = await arguments(connection, "orders")
        time.sleep(SECONDS + 1)
        opened[0].ping()  # in use again
        opened[1].execute_command("CLIENT", "TRACKING", "ON", "BCAST")  # type: ignore[no-untyped-call]
        listener = opened[2].pubsub()  # type: ignore[no-untyped-call]
        listener.subscribe("news")
        assert failing(await KILL.preconditions(connection, args)) == []
        preview = await KILL.preview(connection, args)
        assert "11 idle connections of orders" in preview.title
        captured = await KILL.capture(connection, args)
        assert captured["idle"] == 11
        assert await KILL.settle(connection, args, captured) == "not_applied"
        done = await KILL.apply(connection, args, captured)
        assert done["killed"] == 11
        verification = await KILL.verify(connection, args, captured | {"done": done})
        assert verification.helped is True, verification
        left = [line.name for line in await read_clients(connection)]
        assert (left.count("orders"), left.count("other")) == (3, 2)
        listener.close()


async def test_with_connections_to_spare_or_a_pool_at_work_nothing_is_killed(
    connection: LiveConnection, client: "redis.Redis"
) -> None:
    with pool(client, "orders", 6):
        args = await arguments(connection, "orders")
        client.config_set("maxclients", 1_000)
        checks = failing(await KILL.preconditions(connection, args))
        assert len(checks) == 2, checks
        own = await connection.execute("CLIENT", "ID")
        assert isinstance(own, int)
        ours = args.model_copy(update={"ids": [*args.ids, own]})
        assert any(
            "own connection" in text for text in failing(await KILL.preconditions(connection, ours))
        )
        captured = await KILL.capture(connection, args)
        assert (await KILL.apply(connection, args, captured))["killed"] == 0


async def test_a_leak_that_comes_back_was_not_helped(
    connection: LiveConnection, client: "redis.Redis"
) -> None:
    client.config_set("maxclients", 30)
    with pool(client, "orders", 10):
        args = await arguments(connection, "orders")
        captured = await KILL.capture(connection, args)
        time.sleep(SECONDS + 1)
        done = await KILL.apply(connection, args, captured)
        assert done["killed"] == 10
    with pool(client, "orders", 10):
        verification = await KILL.verify(connection, args, captured | {"done": done})
    assert verification.helped is False
    assert "10 opened again" in verification.because


async def test_a_client_without_a_name_is_known_by_its_host(connection: LiveConnection) -> None:
    (line,) = await read_clients(connection)
    unnamed = type(line)(1, "", "10.0.0.7:4711", "normal", 0, 0, 0)
    assert idle_clients.pool_of(unnamed) == "10.0.0.7"
    assert idle_clients.pool_of(line) == line.name
