"""How the tests of the tools look at a server, and at it with another client."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from evals.servers import Server
from tools.connection import Connection, LiveConnection
from tools.reading import NotMeasured, Reading
from tools.reads import READS

StartServer = Callable[..., Server]
R = TypeVar("R", bound=Reading)
SAMPLING = {name for name, tool in READS.items() if "seconds" in tool.args.model_fields}
"""Tools that wait between two samples."""


def client_of(server: Server, **options: Any) -> "redis.Redis":
    """A client that is not ours; it does not try again."""
    settings: dict[str, Any] = {"decode_responses": True, "retry": Retry(NoBackoff(), 0)}
    return redis.Redis(port=server.port, **(settings | options))


def ask(admin: "redis.Redis", command: str) -> object:
    return admin.execute_command(command)  # type: ignore[no-untyped-call]


async def read(connection: LiveConnection, tool: str, expected: type[R], **arguments: Any) -> R:
    reading = await READS[tool].call(connection, arguments)
    assert isinstance(reading, expected), reading
    stored = reading.model_dump(mode="json")
    assert READS[tool].parse(stored) == reading, "stored evidence comes back as it was"
    return reading


async def not_measured(connection: LiveConnection, tool: str, **arguments: Any) -> NotMeasured:
    reading = await READS[tool].call(connection, arguments)
    assert isinstance(reading, NotMeasured), reading
    return reading


async def until(holds: Callable[[], Awaitable[bool] | bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while True:
        found = holds()
        if await found if isinstance(found, Awaitable) else found:
            return
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.02)


async def during(look: Awaitable[R], *events: Callable[[], object]) -> R:
    """Run the events one after the other while the look waits between its samples."""
    task = asyncio.ensure_future(look)
    for event in events:
        await asyncio.sleep(0.2)
        await asyncio.to_thread(event)
    return await task


@contextlib.asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[LiveConnection]:
    connection = LiveConnection(url, **options)
    try:
        await connection.open()
        yield connection
    finally:
        await connection.close()


async def look(connection: Connection, tool: str) -> Reading | NotMeasured:
    return await READS[tool].call(connection, {"seconds": 1} if tool in SAMPLING else {})


async def look_and_fail(connection: Connection, tool: str) -> NotMeasured:
    reading = await look(connection, tool)
    assert isinstance(reading, NotMeasured), f"{tool} was measured: {reading}"
    assert reading.not_measured, "it says what was tried"
    assert reading.because, "it says why it failed"
    return reading
