"""The executor's connection, and an application's, to a fresh server of each build."""

from collections.abc import AsyncIterator, Iterator
from contextlib import closing

import pytest
import redis

from evals.servers import Server
from tools.acl import acl_lines
from tools.connection import LiveConnection
from tools.permissions import READ_WRITE


def _remedy_url(server: Server) -> str:
    """The remedies send nothing that its user may not: each is tested as that user."""
    with closing(redis.Redis(port=server.port, protocol=2)) as admin:
        about = admin.info("server")
        version = str(about.get("valkey_version", about["redis_version"]))
        *_, line = acl_lines(version, valkey="valkey_version" in about)
        admin.execute_command(*line.split())  # type: ignore[no-untyped-call]
    user, password = line.split()[2], next(w[1:] for w in line.split() if w.startswith(">"))
    return f"redis://{user}:{password}@127.0.0.1:{server.port}"


@pytest.fixture
async def connection(server: Server) -> AsyncIterator[LiveConnection]:
    """As the remedy user that `redis-oncall acl` prints; never reconnects."""
    opened = LiveConnection(_remedy_url(server), READ_WRITE, reconnects=0)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
def client(server: Server) -> Iterator["redis.Redis"]:
    with closing(redis.Redis(port=server.port, protocol=2)) as opened:
        yield opened
