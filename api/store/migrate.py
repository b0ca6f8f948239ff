"""Bringing the database to this version, at every start, by one process at a time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool
from sqlalchemy import Connection, inspect, text
from sqlalchemy.engine import URL

from api.store.database import SHRINKABLE, Database, connected, conninfo, make_engine

MIGRATIONS = Path(__file__).parent / "migrations"
SETUP_SECONDS = 60
MIGRATION_LOCK = 7104214
"""The advisory lock that whoever changes the tables of PostgreSQL holds."""
COPY_MARK = "unsettled_copy"
"""A table that is in a database only between its restoring and `api/store/copied.py`."""
_LOCKED_AT_ONCE = "SET LOCAL lock_timeout = '60s'", "LOCK TABLE incidents IN ACCESS EXCLUSIVE MODE"
"""Others' transactions begin with an incident: with this one first, nobody waits in a circle."""


@dataclass(frozen=True)
class Migrated:
    """The revision of the tables before and after; None: there were none."""

    before: str | None = None
    after: str | None = None


class TablesRefused(Exception):
    """The tables are not to be worked on; the text says what to do."""


class NewerTables(TablesRefused):
    """They are of a newer version than this one."""


class UnsettledCopy(TablesRefused):
    """The database is a copy of an earlier time that nobody settled; the text says what to do."""


async def migrate(
    database: Database, revision: str = "head", *, a_copy: bool = False, checkpoints: bool = True
) -> Migrated:
    """Upgrade tables and, for a worker, `checkpoints`. Several processes may call it at once.

    Raises NewerTables, and UnsettledCopy unless it is `a_copy` that is about to be settled.
    """
    if database.is_sqlite:
        await asyncio.to_thread(_make_private_folder, Path(str(database.url.database)).parent)

    def upgrade(config: Config) -> None:
        if not a_copy and inspect(config.attributes["connection"]).has_table(COPY_MARK):
            raise UnsettledCopy(
                "this database was restored from a backup, and what it must not go on with was "
                "not ended yet: `redis-oncall database settle` does that"
            )
        command.upgrade(config, revision)

    done = await _run(database.url, upgrade)
    if checkpoints:
        await _set_up_checkpoints(database)
    return done


def known_revisions() -> list[str]:
    """Every revision of the tables that this version can read, the newest first."""
    return [script.revision for script in ScriptDirectory(str(MIGRATIONS)).walk_revisions()]


@cache
def _scripts() -> ScriptDirectory:
    """Every migration, read once."""
    return ScriptDirectory(str(MIGRATIONS))


def _make_private_folder(folder: Path) -> None:
    """Key names and client addresses of production are kept in it: for the owner's eyes only."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


async def downgrade(database: Database, revision: str = "base") -> None:
    """Back to a revision."""
    await _run(database.url, lambda config: command.downgrade(config, revision))


async def _run(url: URL, what: Any) -> Migrated:
    engine = make_engine(url, foreign_keys=False)
    try:
        async with engine.begin() as connection:  # one transaction: on SQLite it is the lock, too
            if url.get_backend_name() != "sqlite":
                # Between two statements it may think for long, on a busy machine.
                await connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
                await connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
            return await connection.run_sync(_alembic, what)
    finally:
        await engine.dispose()


def _alembic(connection: Connection, what: Any) -> Migrated:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    before = MigrationContext.configure(connection).get_current_revision()
    newest = _scripts().get_current_head()
    config.attributes["is_newest"] = before == newest
    if before is not None and before not in known_revisions():
        raise NewerTables(
            f"the database has the tables of a newer version ({before}; this one knows {newest}): "
            f"start that version, or take them back with its `redis-oncall database downgrade "
            f"{newest}`"
        )
    if connection.dialect.name == "postgresql" and before not in (None, newest):
        for statement in _LOCKED_AT_ONCE:
            connection.exec_driver_sql(statement)
    what(config)
    return Migrated(before, MigrationContext.configure(connection).get_current_revision())


async def _set_up_checkpoints(database: Database) -> None:
    if database.is_sqlite:
        async with open_checkpoints(database) as saver:
            await saver.setup()
        return
    # Its setup() races with itself. Its CREATE INDEX CONCURRENTLY waits for every statement that
    # is under way, so others must not wait inside of one for the lock: they ask for it repeatedly.
    async with connected(database.url, autocommit=True) as lock:
        async with asyncio.timeout(SETUP_SECONDS):
            while not await _taken(lock):  # noqa: ASYNC110 - another process holds it
                await asyncio.sleep(0.1)
        async with open_checkpoints(database) as saver:
            await saver.setup()


async def _taken(lock: psycopg.AsyncConnection[Any]) -> bool:
    cursor = await lock.execute("SELECT pg_try_advisory_lock(7104215)")
    row = await cursor.fetchone()
    return bool(row and row[0])


@asynccontextmanager
async def open_checkpoints(database: Database) -> AsyncIterator[Any]:
    """The graph's checkpointer on this database."""
    # LangGraph takes 30 MB, which `serve` alone has no use for.
    if database.is_sqlite:
        from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

        async with AsyncSqliteSaver.from_conn_string(str(database.checkpoints)) as saver:
            if list(await saver.conn.execute_fetchall("PRAGMA page_count")) == [(0,)]:
                await saver.conn.execute(SHRINKABLE)
            await saver.conn.execute("PRAGMA synchronous=FULL")
            yield saver
        return
    from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

    async with AsyncConnectionPool[psycopg.AsyncConnection[dict[str, Any]]](
        conninfo(database.url),
        min_size=1,
        max_size=8,
        open=False,
        check=AsyncConnectionPool.check_connection,  # the server may have been restarted
        kwargs={"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row},
    ) as pool:
        yield AsyncPostgresSaver(pool)
