"""The service in this process, on a database of its own."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
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
from tests.api.made_once import made_once
from tests.api.pagerhouse import Pagerhouse
from tests.api.paging_room import Room, targets
from tests.api.postgresql_tables import AsGoodAsNew, created
from tests.api.process import fill
from tests.api.serving import TARGETS, serving, token_entries
from tests.api.telling import Tell, Told


@pytest.fixture(scope="session", autouse=True)
def quickly() -> Iterator[None]:
    """Services begin, and are asked, as if another one had been here before."""
    with made_once():
        yield


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The files of a migrated SQLite database that is as good as new: to be copied, not used."""
    folder = tmp_path_factory.mktemp("tables")
    _in_a_loop_of_its_own(_with_tables(f"sqlite:///{folder / 'new.db'}"))
    return sorted(folder.iterdir())


async def _with_tables(url: str) -> None:
    database = Database(database_url(url))
    await migrate(database)
    await database.close()


def _in_a_loop_of_its_own(work: Coroutine[Any, Any, None]) -> None:
    """There may be a loop of the test's around whoever needs this first."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, work).result()


def _copied(tables: list[Path], to: Path) -> None:
    """The tables are there, as after a restart: only tests of migrations need to make them."""
    for file in tables:
        shutil.copy(file, to.with_name(file.name.replace("new", to.stem, 1)))


@pytest.fixture
def settings(tmp_path: Path, tables: list[Path]) -> Callable[..., Settings]:
    """`settings(tokens=…, targets=…)`: on an SQLite file of this test."""

    def make(database: str = "", **config: Any) -> Settings:
        if not database and not (file := tmp_path / "oncall.db").exists():
            _copied(tables, file)
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


@pytest.fixture(scope="session")
def as_good_as_new(postgresql: str) -> AsGoodAsNew:
    """Migrated databases in which nothing is."""
    name = "with_tables"
    _in_a_loop_of_its_own(_with_tables(created(postgresql, name, "template1")))
    return AsGoodAsNew(postgresql, name)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of each kind that has its tables."""
    if request.param == "sqlite":
        file = tmp_path / "store.db"
        _copied(request.getfixturevalue("tables"), file)
        return f"sqlite:///{file}"
    databases: AsGoodAsNew = request.getfixturevalue("as_good_as_new")
    return databases.url()


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of each kind in which nothing is."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.db'}"
    return created(request.getfixturevalue("postgresql"), f"t{abs(hash(tmp_path))}", "template1")


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    """A migrated database of each kind."""
    database = Database(database_url(url))
    await trail.begin(database, Keyring(Key(b"k" * 32)))
    yield database
    await database.close()


@dataclass
class RecordingQueue:
    """Notes who was nudged."""

    nudged: list[str]

    async def nudge(self, *incident_ids: str, jobs: object = None) -> None:
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
def house() -> Iterator[Pagerhouse]:
    """Somebody who is called, or told."""
    with contextlib.closing(Pagerhouse()) as made:
        yield made


@pytest.fixture
def other() -> Iterator[Pagerhouse]:
    """Somebody else."""
    with contextlib.closing(Pagerhouse()) as made:
        yield made


@pytest.fixture
def ill(start_server: Callable[..., servers.Server]) -> servers.Server:
    """A server that keys without expiry have filled to its limit."""
    server = start_server(servers.BUILDS[-1], "--maxmemory", "24mb")
    fill(server.port)
    return server


@pytest.fixture
def tell(room: Room, settings: Callable[..., Settings]) -> Tell:
    def make(*routes: dict[str, Any], **config: Any) -> Told:
        return Told(room, settings(targets=targets(), notifications=list(routes), **config))

    return make
