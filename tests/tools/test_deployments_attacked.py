"""Clusters, Sentinels and replicas that disagree, die, or change their roles under a look."""

import asyncio
from collections.abc import Callable
from typing import Any

from evals.servers import Server
from tools.opening import open_for_reading


async def test_of_sentinels_that_disagree_the_later_failover_counts(
    start_server: Callable[..., Server],
) -> None:
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
        await asyncio.start_server(sentinel(server.port, epoch), "127.0.0.1", 0)
        for server, epoch in ((old, 3), (new, 4))
    ]
    hosts = [f"127.0.0.1:{one.sockets[0].getsockname()[1]}" for one in sentinels]
    for order in (hosts, hosts[::-1]):
        url = f"redis-sentinel://{','.join(order)}/0?master_name=prod"
        connection = await open_for_reading(url)
        assert connection.node == f"127.0.0.1:{new.port} (master)"
        await connection.close()
    for one in sentinels:
        one.close()
