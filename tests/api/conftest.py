"""The service in this process, on a database of its own."""

import os
import pwd
import shutil
import subprocess
import time
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
from api.settings import Settings
from api.store import trail
from api.store.chain import Key, Keyring
from api.store.database import Database, database_url
from api.store.migrate import migrate
from evals import servers
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
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a throwaway PostgreSQL server; skipped, visibly, where none is installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found:
        pytest.skip("no PostgreSQL server is installed here (Debian package postgresql)")
    folder = Path("/tmp") / f"oncall-pg-{os.getpid()}"  # a socket's path must be short
    folder.mkdir(mode=0o700)
    # PostgreSQL refuses to run as root.
    user = pwd.getpwnam("postgres") if os.getuid() == 0 else None
    identity: dict[str, Any] = {"user": user.pw_uid, "group": user.pw_gid} if user else {}
    if user:
        os.chown(folder, user.pw_uid, user.pw_gid)
    binaries, data, port = found[-1].parent, folder / "data", servers.free_port()
    process: subprocess.Popen[bytes] | None = None
    try:
        subprocess.run(
            [binaries / "initdb", "-D", data, "-U", "oncall", "-A", "trust", "--no-sync"],
            check=True, capture_output=True, cwd=folder, **identity,
        )  # fmt: skip
        process = subprocess.Popen(
            [binaries / "postgres", "-D", data, "-p", str(port), "-k", folder,
             "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "autovacuum=off",
             "-c", "full_page_writes=off"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder, **identity,
        )  # fmt: skip
        ready = [str(binaries / "pg_isready"), "-h", "127.0.0.1", "-p", str(port), "-q"]
        deadline = time.monotonic() + 20
        while subprocess.run(ready, check=False).returncode:
            assert process.poll() is None, "PostgreSQL did not start"
            assert time.monotonic() < deadline, "PostgreSQL did not start in time"
        yield f"postgresql://oncall@127.0.0.1:{port}/postgres"
    finally:
        if process is not None:
            process.send_signal(2)  # fast shutdown
            process.wait(timeout=15)
        shutil.rmtree(folder, ignore_errors=True)


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
def ill(start_server: Callable[..., servers.Server]) -> servers.Server:
    """A server that keys without expiry have filled to its limit."""
    server = start_server(servers.BUILDS[-1], "--maxmemory", "24mb")
    fill(server.port)
    return server
