"""The schema comes from migrations, forwards and backwards, on both databases."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect, text

from api.store import (
    exchanges,
    incidents,
    process_table,  # noqa: F401 - so that Table knows them
    target_tables,  # noqa: F401
)
from api.store.database import Database, database_url
from api.store.migrate import downgrade, known_revisions, migrate
from api.store.tables import Table
from tests.api import rows
from tests.api.at_once import forked, migrate_when_told

Content = dict[str, list[dict[str, Any]]]


async def test_migrated_schema_is_the_one_the_tables_declare(database: Database) -> None:
    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        found = compare_metadata(context, Table.metadata)
        ours = set(Table.metadata.tables)
        foreign = {"checkpoints", "checkpoint_blobs", "checkpoint_writes", "checkpoint_migrations"}
        assert ours.isdisjoint(foreign)
        return [change for change in found if not any(name in repr(change) for name in foreign)]

    async with database.engine.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_down_and_up_again_leaves_nothing_and_brings_everything_back(
    database: Database,
) -> None:
    async def tables() -> set[str]:
        async with database.engine.connect() as connection:
            return set(await connection.run_sync(lambda c: inspect(c).get_table_names()))

    assert set(Table.metadata.tables) <= await tables()
    await downgrade(database)
    assert set(Table.metadata.tables).isdisjoint(await tables())
    await migrate(database)
    assert set(Table.metadata.tables) <= await tables()


async def test_several_processes_may_start_at_once(empty_url: str) -> None:
    databases = [Database(database_url(empty_url)) for _ in range(4)]
    await asyncio.gather(*(migrate(database) for database in databases))
    for database in databases:
        await database.close()


async def test_a_file_that_somebody_else_is_just_making_is_waited_for(tmp_path: Path) -> None:
    """To write ahead from now on, SQLite has to have the file to itself, and does not wait."""
    other = sqlite3.connect(tmp_path / "new.db", isolation_level=None)
    other.execute("CREATE TABLE theirs (a)")
    other.execute("BEGIN IMMEDIATE")
    database = Database(database_url(f"sqlite:///{tmp_path}/new.db"))

    async def mode() -> str:
        async with database.reading() as session:
            return str(await session.scalar(text("PRAGMA journal_mode")))

    asked = asyncio.create_task(mode())
    await asyncio.wait({asked}, timeout=0.3)
    other.execute("COMMIT")
    other.close()
    assert await asked == "wal"
    await database.close()


@pytest.mark.parametrize("revision", ["0001", "0002", "0003", "0004", "0005"])
async def test_rows_of_every_table_survive_the_way_up_and_down_and_up_again(
    empty_url: str, revision: str
) -> None:
    database = Database(database_url(empty_url))
    await migrate(database, revision)
    async with database.engine.begin() as connection:
        await connection.run_sync(rows.fill)

    async def content() -> Content:
        async with database.engine.connect() as connection:
            return await connection.run_sync(rows.content)

    before = await content()
    assert {len(found) for found in before.values()} == {2}
    await migrate(database)
    rows.kept(before, await content())
    await downgrade(database, revision)
    again = await content()
    assert set(again) == set(before)
    rows.kept(before, again)
    await migrate(database)
    rows.kept(before, await content())
    await database.close()


async def test_rows_of_today_survive_going_back_a_version_as_far_as_it_knows_them(
    database: Database,
) -> None:
    newest, before = known_revisions()[:2]
    async with database.engine.begin() as connection:
        await connection.exec_driver_sql("DELETE FROM audit_head")  # begun by the fixture
        await connection.run_sync(rows.fill)

    async def content() -> Content:
        async with database.engine.connect() as connection:
            return await connection.run_sync(rows.content)

    filled = await content()
    assert set(filled) == set(Table.metadata.tables), newest
    await downgrade(database, before)
    back = await content()
    rows.kept(filled, back)
    await migrate(database)
    rows.kept(back, await content())


async def test_of_two_processes_that_start_at_once_one_migrates(empty_url: str) -> None:
    database = Database(database_url(empty_url))
    await migrate(database, "0003")
    async with database.engine.begin() as connection:
        await connection.run_sync(rows.fill)
    await database.close()
    starting = [forked(migrate_when_told, empty_url) for _ in range(2)]
    for _, link in starting:
        link.send("now")
    said = sorted(link.recv() for _, link in starting)
    for process, _ in starting:
        process.join(60)
    newest = known_revisions()[0]
    assert said == [f"0003 {newest}", f"{newest} {newest}"]


async def test_exchanges_come_and_go_and_leave_the_incidents_alone(database: Database) -> None:
    async with database.writing() as session:
        row = await incidents.open_incident(session, title="t", target="cache")
    await downgrade(database, "0002")
    async with database.engine.connect() as connection:
        tables = await connection.run_sync(lambda c: inspect(c).get_table_names())
    assert "recordings" in tables
    assert "exchanges" not in tables
    await migrate(database)
    async with database.reading() as session:
        assert (await incidents.load(session, row.id)).title == "t"
        assert await exchanges.transcript(session, row.id, 0, 1) == []
