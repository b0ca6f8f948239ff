"""What is committed is kept: the databases' settings for it, as a live connection has them."""

import asyncio
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import QueuePool
from typer.testing import CliRunner

from api.app import create_app
from api.cli.main import app
from api.settings import Settings
from api.store import database as databases
from api.store import incidents
from api.store.database import Database, database_url
from api.store.durability import weaknesses
from api.store.migrate import migrate, open_checkpoints
from tests.api.postgresql_tables import AsGoodAsNew
from tests.api.serving import serving


async def sqlite_of(folder: Path) -> Database:
    database = Database(database_url(f"sqlite:///{folder / 'oncall.db'}"))
    await migrate(database)
    return database


async def test_sqlite_syncs_each_commit_and_begins_as_a_writer(tmp_path: Path) -> None:
    database = await sqlite_of(tmp_path)
    told = {"journal_mode": "wal", "synchronous": 2, "busy_timeout": 10_000, "foreign_keys": 1,
            "auto_vacuum": 2}  # fmt: skip
    async with database.writing() as writer, database.reading() as reader:
        waits = {"busy_timeout": 0}  # it asks for its turn itself: the event loop goes on
        for session, this in ((writer, told | waits), (reader, told)):
            for name, value in this.items():
                assert await session.scalar(text(f"PRAGMA {name}")) == value, name
    async with open_checkpoints(database) as saver:
        for name, value in told.items():
            if name not in ("busy_timeout", "foreign_keys"):
                found = await saver.conn.execute_fetchall(f"PRAGMA {name}")
                assert list(found) == [(value,)], name
        (wait,) = await saver.conn.execute_fetchall("PRAGMA busy_timeout")
        assert wait[0] >= 5_000
    assert await weaknesses(database) == []
    await database.close()


async def test_a_writer_waits_for_another_from_its_very_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BEGIN IMMEDIATE: nobody reads first and finds at its first write that it is too late."""
    monkeypatch.setattr(databases, "BUSY_SECONDS", 0.1)
    database, other = await sqlite_of(tmp_path), await sqlite_of(tmp_path)
    async with database.writing():
        with pytest.raises(OperationalError, match="locked"):
            async with other.writing():
                pytest.fail("two writers at once")
        async with other.reading() as session:  # readers do not wait
            assert await incidents.queued(session) == 0
    await database.close()
    await other.close()


async def test_who_waits_for_a_writer_keeps_nothing_else_waiting(tmp_path: Path) -> None:
    database, other = await sqlite_of(tmp_path), await sqlite_of(tmp_path)

    async def writes() -> float:
        async with other.writing():
            return time.monotonic()

    async with database.writing():
        waiting = asyncio.create_task(writes())
        for _ in range(20):
            await asyncio.sleep(0.01)
        ended = time.monotonic()
        assert not waiting.done()
    assert ended < await waiting < ended + 5.0
    await database.close()
    await other.close()


async def test_a_connection_that_does_not_sync_is_said_to_be_weak(tmp_path: Path) -> None:
    database = await sqlite_of(tmp_path)
    async with database.engine.connect() as connection:
        await connection.execute(text("ROLLBACK"))
        await connection.execute(text("PRAGMA synchronous=NORMAL"))
    (weak,) = await weaknesses(database)
    assert "power cut" in weak
    await database.close()


@pytest.fixture
def careless(postgresql: str) -> str:
    """A database whose owner switched synchronous commits off."""
    name = "careless"
    with psycopg.connect(postgresql, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        connection.execute(f"CREATE DATABASE {name}")
        connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    return postgresql.removesuffix("postgres") + name


async def test_postgresql_that_may_lose_commits_is_named_by_readiness_and_doctor(
    careless: str, settings: Callable[..., Settings], tmp_path: Path
) -> None:
    async with serving(create_app(settings(careless), worker=False)) as client:
        ready = await client.get("/readyz")
    works = ready.json()["dependencies"]["database"]
    assert works == "ok", "it works, and its owner may want it so"
    warnings = ready.json()["warnings"]
    assert any("synchronous_commit is off" in warning for warning in warnings)
    env = {"DATABASE_URL": careless, "REDIS_ONCALL_DATA": str(tmp_path)}
    done = await asyncio.to_thread(CliRunner().invoke, app, ["doctor", "--json"], env=env)
    says = [row["says"] for row in json.loads(done.stdout) if row["what"] == "durability"]
    assert says == warnings
    assert any("set it to on" in one for one in says)


async def test_postgresql_as_it_comes_commits_synchronously(postgresql: str) -> None:
    database = Database(database_url(postgresql))
    async with database.writing() as session:
        assert await session.scalar(text("SHOW synchronous_commit")) == "on"
        assert await session.scalar(text("SHOW application_name")) == "redis-oncall"
    # The tests' own server does not sync, for speed: that is said, and nothing else.
    assert [weak.split(":")[0] for weak in await weaknesses(database)] == [
        "PostgreSQL's fsync is off",
        "PostgreSQL's full_page_writes is off",
    ]
    await database.close()


async def test_the_end_of_the_calendar_can_be_read_again_whatever_zone_the_database_is_in(
    as_good_as_new: AsGoodAsNew,
) -> None:
    """A window without an end ends there: in Berlin in the year 10000, which Python has not."""
    east = "?options=-c%20timezone%3DEurope/Berlin"
    database = Database(database_url(as_good_as_new.url() + east))
    last = datetime.max.replace(tzinfo=UTC)
    async with database.writing() as session:
        row = await incidents.open_incident(session, title="t", target="cache")
        row.silenced_until = last
    async with database.reading() as session:
        (found,) = await incidents.page(session)
        assert found.silenced_until == last
    await database.close()


async def test_the_readme_tells_how_many_connections_a_process_may_hold(postgresql: str) -> None:
    database = Database(database_url(postgresql))
    pool = database.engine.pool
    assert isinstance(pool, QueuePool)
    serve = pool.size() + pool._max_overflow
    async with open_checkpoints(database) as saver:
        worker = serve + saver.conn.max_size
    await database.close()
    readme = Path("api/README.md").read_text()
    assert f"at most {serve} connections to PostgreSQL" in readme
    assert f"also that of a `serve`, {worker}." in readme
