"""Clusters, Sentinels and replicas that disagree, die, or change their roles under a look."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from evals.servers import Server
from tests.deployments import AT_ONCE, kill, say, told, until
from tools import nodes
from tools.connection import Argument, CommandFailure, Connection, LiveConnection, Reply
from tools.opening import open_for_reading
from tools.reading import NotMeasured
from tools.reads import READS
from tools.replicas import Walker
from tools.routes import ClusterRoute


async def test_of_sentinels_that_disagree_the_later_failover_counts(
    start_server: Callable[..., Server],
) -> None:
    """Of those that name an address."""
    old, new = start_server("valkey-9.1"), start_server("valkey-9.1")

    def sentinel(port: int, epoch: int) -> Callable[..., Any]:
        fields = {"name": "prod", "ip": "127.0.0.1", "port": port, "flags": "master",
                  "num-other-sentinels": 1, "config-epoch": epoch}  # fmt: skip
        words = [str(word) for field in fields.items() for word in field]
        told_of = f"*1\r\n*{len(words)}\r\n" + "".join(f"${len(w)}\r\n{w}\r\n" for w in words)

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while said := await reader.readline():
                if said.strip().upper() in (b"CLIENT", b"MASTERS"):
                    writer.write(told_of.encode() if said[:1] != b"C" else b"+OK\r\n")
            writer.close()

        return answer

    sentinels = [
        await asyncio.start_server(sentinel(port, epoch), "127.0.0.1", 0)
        for port, epoch in ((old.port, 3), (new.port, 4), (99_999, 5))
    ]
    hosts = [f"127.0.0.1:{one.sockets[0].getsockname()[1]}" for one in sentinels]
    for order in (hosts, hosts[::-1]):
        url = f"redis-sentinel://{','.join(order)}/0?master_name=prod"
        connection = await open_for_reading(url)
        assert connection.node == f"127.0.0.1:{new.port} (master)"
        await connection.close()
    for one in sentinels:
        one.close()


def port_of(connection: Connection) -> int:
    return int(connection.node.partition(" ")[0].rpartition(":")[2])


@pytest.mark.parametrize("end", ["dies", "is promoted", "loses its primary"])
async def test_a_replica_that_is_no_longer_fit_is_walked_on_no_more(
    start_server: Callable[..., Server], end: str
) -> None:
    """Another replica is, and without one the primary where it may be."""
    primary = start_server("valkey-9.1", *AT_ONCE)
    replicas = {
        one.port: one
        for one in (start_server("valkey-9.1", *AT_ONCE) for _ in range(2))
        if say(one.port, "REPLICAOF", "127.0.0.1", primary.port)
    }
    for port in replicas:
        until(lambda port=port: told(port, "INFO")["master_link_status"] == "up", "the replica")  # type: ignore[misc]
    connection = await open_for_reading(primary.url, follows=True)
    strict, lenient = Walker(connection, "replica"), Walker(connection, "prefer_replica")
    walk = READS["bigkeys"]
    for _ in (1, 2):
        first = await strict.connection_for(walk)
        assert await strict.connection_for(walk) is first is await lenient.connection_for(walk)
        gone = replicas.pop(port_of(first))
        if end == "dies":
            kill(gone)
        elif end == "is promoted":
            say(gone.port, "REPLICAOF", "NO", "ONE")
        else:
            say(gone.port, "REPLICAOF", "127.0.0.1", 1)
        if replicas:
            assert port_of(await strict.connection_for(walk)) in replicas
    with pytest.raises(CommandFailure, match="choose a replica"):
        await strict.connection_for(walk)
    assert await lenient.connection_for(walk) is connection
    await connection.close()


async def test_many_nodes_that_hang_do_not_cost_what_the_others_told(
    start_server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    class OneOfMany(LiveConnection):
        async def execute(self, *command: Argument) -> Reply:
            if command != ("CLUSTER", "NODES"):
                return await super().execute(*command)
            others = (f"n{n} 127.0.0.9:{n}@1 master - 0 0 0 connected" for n in range(1, 64))
            return "\n".join(["me :1@2 myself,master - 0 0 0 connected", *others]).encode()

        async def at(self, address: str) -> LiveConnection:
            if address.endswith("9:1"):
                return self
            await asyncio.sleep(60)
            raise AssertionError

    monkeypatch.setattr(nodes, "NODE_SECONDS", 0.3)
    monkeypatch.setattr(nodes, "ALL_SECONDS", 0.4)
    connection = OneOfMany(start_server("valkey-9.1", "--cluster-enabled", "yes").url)
    await connection.open()
    async with asyncio.timeout(1):
        found = await nodes.nodes(connection, nodes.NodesArguments())
    assert (len(found.rows), found.not_reached) == (64, 62)
    assert isinstance(found.rows[-1].numbers, NotMeasured)
    assert found.rows[-1].numbers.failure == "timeout"
    await connection.close()


async def test_a_node_that_is_of_another_cluster_by_now_is_not_believed() -> None:
    """Its address was given away; the other cluster has seen more failovers."""
    ours = b"a h:1@2 master - 0 0 1 connected 0-16383\nb h:2@3 slave a 0 0 1 connected"
    theirs = b"x evil:9@9 master - 0 0 9 connected 0-16383"
    replies = {"h:1": ours, "h:2": ours, "h:3": theirs}

    async def ask(url: str) -> bytes:
        address = url.partition("://")[2]
        if address not in replies:
            raise CommandFailure("unreachable", "ask", "gone")
        return replies[address]

    async def first(addresses: Sequence[str]) -> str:
        return addresses[0]

    route = ClusterRoute("redis-cluster://h:3", ["h:3", "h:1", "h:2"], ask, first)
    assert await route.url() == "redis://h:1"
    del replies["h:1"]
    assert await route.url() == "redis://h:1"
    del replies["h:2"]
    with pytest.raises(CommandFailure, match="another cluster answers"):
        await route.url()
    route = ClusterRoute("redis-cluster://h:3", ["h:3", "h:1"], ask, first)
    replies |= {"h:1": ours, "h:3": b"x h:3@9 myself,master - 0 0 9 connected"}
    assert await route.url() == "redis://h:1"
    route = ClusterRoute("redis-cluster://h:3", ["h:3", "h:1"], ask, first)
    replies["h:3"] = theirs
    with pytest.raises(CommandFailure, match="nodes of 2 different clusters"):
        await route.url()
