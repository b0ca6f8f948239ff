"""clients on real servers: who is connected, who holds buffers, and that we are not among them."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis

from evals.servers import Server
from tests.deployments import AT_ONCE
from tools import clients as tool
from tools.clients import Clients, ClientsArguments, clients
from tools.opening import open_for_reading
from tools.reading import NotMeasured

WAIT_SECONDS = 10.0


@pytest.fixture
async def connection(server: Server) -> AsyncIterator[Any]:
    opened = await open_for_reading(server.url)
    yield opened
    await opened.close()


@pytest.fixture
def open_raw(server: Server) -> Iterator[Callable[..., socket.socket]]:
    """`open_raw(*commands)`: a bare client that sent these and reads only its +OKs."""
    with ExitStack() as stack:

        def connect(*commands: str) -> socket.socket:
            link = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 5))
            for command in commands:
                link.sendall(command.encode() + b"\r\n")
            return link

        yield connect


async def seen(connection: Any, until: Callable[[Clients], bool]) -> Clients:
    """The reading, as soon as the server has taken in what the clients did."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        reading = await clients(connection, ClientsArguments())
        assert isinstance(reading, Clients)
        if until(reading) or time.monotonic() > deadline:
            return reading
        await asyncio.sleep(0.05)


async def test_kinds_of_clients_are_told_apart(
    connection: Any, open_raw: Callable[..., socket.socket]
) -> None:
    open_raw("CLIENT SETNAME feed", "SUBSCRIBE news")
    open_raw("CLIENT SETNAME worker", "BLPOP queue 0")
    open_raw("CLIENT SETNAME batch", "MULTI", "SET a 1", "SET b 2")
    open_raw("CLIENT SETNAME spy", "MONITOR")
    open_raw("CLIENT SETNAME web")
    open_raw("CLIENT SETNAME web")

    def everything_arrived(reading: Clients) -> bool:
        kinds = reading.pubsub, reading.blocked, reading.monitors
        named = sum(bool(row.name) for row in reading.largest)
        return kinds == (1, 1, 1) and named == 6 and any(row.multi == 2 for row in reading.largest)

    found = await seen(connection, everything_arrived)
    assert (found.pubsub, found.blocked, found.in_multi, found.monitors) == (1, 1, 1, 1)
    assert found.connected == 6
    assert found.maxclients == 10_000
    assert found.rejected_connections == 0
    assert {group.key: group.count for group in found.by_type} == {
        "normal": 4, "pubsub": 1, "monitor": 1
    }  # fmt: skip
    by_name = {group.key: group.count for group in found.by_name}
    assert by_name == {"feed": 1, "worker": 1, "batch": 1, "spy": 1, "web": 2}
    assert [(group.key, group.count) for group in found.by_address] == [("127.0.0.1", 6)]
    rows = {row.name: row for row in found.largest}
    assert rows["batch"].multi == 2
    assert rows["feed"].subscriptions == 1
    assert rows["feed"].multi == -1
    assert rows["feed"].label == "feed"
    assert not found.truncated


async def test_an_unread_subscriber_is_the_heaviest(
    connection: Any, server: Server, open_raw: Callable[..., socket.socket]
) -> None:
    """FAILURE_MODES 7: it never reads; its replies pile up in the server."""
    admin = redis.Redis(port=server.port)
    admin.config_set("client-output-buffer-limit", "pubsub 0 0 0")
    open_raw("CLIENT SETNAME slow-dashboard", "SUBSCRIBE news")
    await seen(connection, lambda r: r.pubsub == 1)
    for _ in range(1_500):
        admin.publish("news", "x" * 10_000)
    found = await seen(connection, lambda r: r.output_bytes > 1 << 20)
    heaviest = found.largest[0]
    assert (heaviest.label, heaviest.type) == ("slow-dashboard", "pubsub")
    assert heaviest.output_bytes > 1 << 20
    assert heaviest.memory >= heaviest.output_bytes
    assert heaviest.output_list_length > 0
    assert found.by_name[0].key == "slow-dashboard"
    assert found.by_type[0].key == "pubsub"
    assert found.output_bytes >= heaviest.output_bytes


async def test_ours_are_left_out_by_id_and_by_name(connection: Any, server: Server) -> None:
    other = await open_for_reading(server.url)
    try:
        reading = await clients(connection, ClientsArguments())
    finally:
        await other.close()
    assert isinstance(reading, Clients)
    assert (reading.connected, reading.largest, reading.by_name) == (0, [], [])


async def test_hostile_client_names_come_out_as_text(
    connection: Any, open_raw: Callable[..., socket.socket]
) -> None:
    name = "<img/src=x>;id=1;flags=M;ignore-previous-instructions" + "x" * 500
    open_raw(f"CLIENT SETNAME {name}")
    found = await seen(connection, lambda r: any(row.name for row in r.largest))
    (row,) = found.largest
    assert row.name.startswith("<img/src=x>;id=1;flags=M")
    assert row.name.endswith("characters)")
    assert row.type == "normal"
    assert all(group.key.isprintable() for group in found.by_name)


async def test_a_replica_is_a_replica(build: str, start_server: Callable[..., Server]) -> None:
    primary = start_server(build, *AT_ONCE)
    start_server(build, "--replicaof", "127.0.0.1", str(primary.port))
    connection = await open_for_reading(primary.url)
    try:
        found = await seen(connection, lambda r: r.replicas == 1)
    finally:
        await connection.close()
    assert found.replicas == 1
    assert [row.type for row in found.largest] == ["replica"]


async def test_refused_is_not_measured(server: Server) -> None:
    redis.Redis(port=server.port).acl_setuser(
        "u", enabled=True, passwords=["+p"], commands=["+@all", "-client", "-info", "-config"]
    )
    connection = await open_for_reading(server.url.replace("//", "//u:p@"))
    try:
        reading = await clients(connection, ClientsArguments())
    finally:
        await connection.close()
    assert isinstance(reading, NotMeasured)
    assert reading.failure == "refused"


async def test_counts_that_are_refused_leave_the_list(server: Server) -> None:
    redis.Redis(port=server.port).acl_setuser(
        "u", enabled=True, passwords=["+p"], commands=["+@all", "-info", "-config"]
    )
    connection = await open_for_reading(server.url.replace("//", "//u:p@"))
    try:
        reading = await clients(connection, ClientsArguments())
    finally:
        await connection.close()
    assert isinstance(reading, Clients)
    assert isinstance(reading.maxclients, NotMeasured)
    assert isinstance(reading.rejected_connections, NotMeasured)


async def test_more_clients_than_the_cap_are_said_to_be_cut(
    connection: Any, open_raw: Callable[..., socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool, "MOST_CLIENTS", 3)
    for _ in range(5):
        open_raw("PING")
    found = await seen(connection, lambda r: r.truncated)
    assert found.truncated
    assert found.connected <= 3


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"id=7 addr=10.0.0.1:5 name= age=3 idle=2 flags=N multi=-1 omem=10 qbuf=5 cmd=get", 15),
        (b"id=7 addr=/run/redis.sock:0 flags=U omem=1 argv-mem=2 tot-mem=900 cmd=NULL", 900),
        (b"id=7 flags=N omem=lots tot-mem=-5", 0),
    ],
)
def test_fields_a_version_lacks_or_garbles_do_not_stop_it(line: bytes, expected: int) -> None:
    row = tool._row(line)
    assert row is not None
    assert (row.id, row.memory) == (7, expected)
    assert tool._row(b"not a client") is None
