"""Several at a time on one link: each has its own answers, whatever becomes of the others."""

import asyncio
import random

import pytest

from evals.servers import Server
from tests.tools.looking import client_of, opened
from tools.connection import CommandFailure
from tools.permissions import READ_WRITE


async def test_answers_find_those_who_asked(server: Server) -> None:
    client_of(server).mset({f"k{number}": "v" * number for number in range(200)})
    draw = random.Random(4)

    async def one(number: int) -> None:
        await asyncio.sleep(draw.random() / 100)
        commands = [("STRLEN", f"k{number}")] * draw.randint(1, 20)
        assert await connection.execute_many(commands) == [number] * len(commands)

    async with opened(server.url) as connection:
        await asyncio.gather(*(one(number) for number in range(200)))
        assert connection.commands >= 200
        assert 0 < connection.seconds < 30


async def test_whoever_leaves_takes_its_answers_along(server: Server) -> None:
    client_of(server).mset({f"k{number}": "v" * number for number in range(100)})
    async with opened(server.url) as connection:
        first = connection.client_id
        tasks = [
            asyncio.create_task(connection.execute("STRLEN", f"k{number}")) for number in range(100)
        ]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert found[1::2] == list(range(1, 100, 2))
        assert connection.client_id == first, "on the same link"


async def test_an_error_is_its_commands_own(server: Server) -> None:
    client_of(server).hset("h", "f", "v")
    async with opened(server.url) as connection:
        replies = await connection.execute_many([("DBSIZE",), ("STRLEN", "h"), ("HLEN", "h")])
        assert (replies[0], replies[2]) == (1, 1)
        assert isinstance(replies[1], CommandFailure)
        assert "WRONGTYPE" in replies[1].failed


async def test_a_lost_link_is_made_again_for_all_who_only_read(server: Server) -> None:
    async with opened(server.url) as connection:
        client_of(server).client_kill_filter(_id=str(connection.client_id))
        found = await asyncio.gather(*(connection.execute("DBSIZE") for _ in range(20)))
        assert found == [0] * 20


async def test_a_write_is_never_sent_twice(server: Server) -> None:
    """Though the link may be made again: by the next."""
    async with opened(server.url, permission=READ_WRITE, reconnects=1) as connection:
        client_of(server).client_kill_filter(_id=str(connection.client_id))
        with pytest.raises(CommandFailure) as lost:
            await connection.execute("MEMORY", "PURGE")
        assert lost.value.kind == "connection_lost"
        assert await connection.execute("DBSIZE") == 0


async def test_after_the_end_nobody_waits(server: Server) -> None:
    async with opened(server.url) as connection:
        waiting = asyncio.create_task(connection.execute("DBSIZE"))
        await asyncio.sleep(0)
        await connection.close()
        for asked in (waiting, connection.execute("DBSIZE")):
            with pytest.raises(CommandFailure, match="not connected again"):
                await asked
