"""The service in this process, on a database of its own."""

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr

from api.app import create_app
from api.config import Config
from api.queue import Queue
from api.service import Service
from api.settings import Settings
from api.store import trail
from api.store.chain import Key, Keyring
from api.store.database import Database, database_url
from api.store.migrate import migrate
from evals import postgresql as postgresql_server
from evals import servers
from tests.api.paging_room import Room, targets
from tests.api.process import fill
from tests.api.serving import TARGETS, serving, token_entries


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., Settings]:
    """`settings(tokens=…, targets=…)`: on an SQLite file of this test."""

    def make(database: str = "", **config: Any) -> Settings:
        config = {"targets": TARGETS, "tokens": token_entries(), **config}
        return Settings(
            config=Config.model_validate(config),
            database_url=SecretStr(database or f"sqlite:///{tmp_path / 'oncall.db'}"),
            queue=SecretStr(f"memory://{tmp_path.name}"),
            data_folder=tmp_path,
        )

    return make


@pytest.fixture
async def client(settings: Callable[..., Settings]) -> AsyncIterator[httpx2.AsyncClient]:
    """An administrator's client of a service without a worker."""
    async with serving(create_app(settings(), worker=False)) as client:
        yield client


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """URL of a throwaway PostgreSQL server; skipped, visibly, where none is installed."""
    if postgresql_server.binaries() is None:
        pytest.skip("no PostgreSQL server is installed here (Debian package postgresql)")
    with postgresql_server.running() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.db'}"
    import psycopg

    server: str = request.getfixturevalue("postgresql")
    name = f"t{abs(hash(tmp_path))}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return server.removesuffix("postgres") + name


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    """A migrated database of each kind."""
    database = Database(database_url(url))
    await migrate(database)
    await trail.begin(database, Keyring(Key(b"k" * 32)))
    yield database
    await database.close()


@dataclass
class RecordingQueue:
    """Notes who was nudged."""

    nudged: list[str]

    async def nudge(self, *incident_ids: str) -> None:
        self.nudged += incident_ids


@pytest.fixture
def queue() -> Queue:
    return RecordingQueue([])  # type: ignore[return-value]


@pytest.fixture
def room(settings: Callable[..., Settings], database: Database, queue: Queue) -> Room:
    """The intake of a service, on a database of each kind."""
    told = settings(targets=targets())
    return Room(Service(told, database, queue, None, told.agent_targets()))  # type: ignore[arg-type]


@pytest.fixture
def ill(start_server: Callable[..., servers.Server]) -> servers.Server:
    """A server that keys without expiry have filled to its limit."""
    server = start_server(servers.BUILDS[-1], "--maxmemory", "24mb")
    fill(server.port)
    return server
