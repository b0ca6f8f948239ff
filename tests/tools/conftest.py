"""A connection of ours to a fresh server of each build."""

from collections.abc import AsyncIterator

import pytest

from evals.servers import Server
from tools.connection import LiveConnection


@pytest.fixture
async def connection(server: Server) -> AsyncIterator[LiveConnection]:
    live = LiveConnection(server.url)
    await live.open()
    yield live
    await live.close()
