"""The executor's connection, and an application's, to a fresh server of each build."""

from collections.abc import AsyncIterator, Iterator
from contextlib import closing

import pytest
import redis

from evals.servers import Server
from tools.connection import LiveConnection
from tools.permissions import READ_WRITE


@pytest.fixture
async def connection(server: Server) -> AsyncIterator[LiveConnection]:
    """May write, never reconnects."""
    opened = LiveConnection(server.url, READ_WRITE, reconnects=0)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
def client(server: Server) -> Iterator["redis.Redis"]:
    with closing(redis.Redis(port=server.port, protocol=2)) as opened:
        yield opened
