"""The schema comes from migrations, forwards and backwards, on both databases."""

import asyncio

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect

from api.store import (
    exchanges,
    incidents,
    target_tables,  # noqa: F401 - so that Table knows them
)
from api.store.database import Database, database_url
from api.store.migrate import downgrade, migrate
from api.store.tables import Table


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


async def test_several_processes_may_start_at_once(url: str) -> None:
    databases = [Database(database_url(url)) for _ in range(4)]
    await asyncio.gather(*(migrate(database) for database in databases))
    for database in databases:
        await database.close()


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
