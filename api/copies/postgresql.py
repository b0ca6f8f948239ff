"""A copy of a PostgreSQL database by its own programs, pg_dump, pg_restore and psql."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from sqlalchemy.engine import URL

from agent.redaction import redact
from api.copies.facts import CopyFailed, Facts
from api.store import target_tables  # noqa: F401 - so that Table knows them
from api.store.database import PROGRAM, connected
from api.store.migrate import COPY_MARK, MIGRATION_LOCK
from api.store.tables import Table

CHECKPOINTS = ("checkpoints", "checkpoint_blobs", "checkpoint_writes", "checkpoint_migrations")
OURS = (*sorted(Table.metadata.tables), "alembic_version", *CHECKPOINTS, COPY_MARK)
LONGEST_ANSWER = 500


async def dump(url: URL, to: Path, programs: str) -> Facts:
    """One snapshot, in pg_dump's own format. Raises CopyFailed."""
    async with _connected(url) as connection:
        await connection.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        facts = await _facts(connection)
        snapshot = await _one(connection, "SELECT pg_export_snapshot()")
        await _run(
            url, programs, "pg_dump", "--format=custom", f"--file={to}", f"--snapshot={snapshot}",
            "--no-owner", "--no-privileges", "--exclude-table=checkpoint*", _dbname(url),
        )  # fmt: skip
    await _run(url, programs, "pg_restore", "--list", "--file=/dev/null", str(to))
    return facts


async def _facts(connection: psycopg.AsyncConnection[Any]) -> Facts:
    there = await _tables(connection)
    if COPY_MARK in there:
        raise CopyFailed("this is a copy that was not settled: `redis-oncall database settle`")
    if "alembic_version" not in there:
        raise CopyFailed("the database has no tables of redis-oncall")
    revision = await _one(connection, "SELECT version_num FROM alembic_version")
    incidents = await _one(connection, "SELECT count(*) FROM incidents")
    head = None
    if "audit_head" in there:
        cursor = await connection.execute("SELECT seq, mac FROM audit_head WHERE id = 1")
        head = await cursor.fetchone()
    return Facts(str(revision), int(incidents), head)


async def put(url: URL, unpacked: Path, made_at: datetime, programs: str, *, replace: bool) -> None:
    """Put the copy in the database's place, wholly or not at all. Raises CopyFailed, OSError.

    It is marked as a copy in the same transaction, and no process starts on it meanwhile.
    """
    _find(programs, "psql")
    script, first = unpacked.with_name("restore.sql"), unpacked.with_name("first.sql")
    owner = ("--no-owner", "--no-privileges")
    await _run(url, programs, "pg_restore", *owner, f"--file={script}", str(unpacked))
    async with _connected(url, autocommit=True) as connection:
        await _take(connection)
        if not replace and await _tables(connection):
            raise CopyFailed(
                "the database is not empty: --replace removes what redis-oncall has in it for good "
                "(`database backup` first)"
            )
        tables = ", ".join(OURS)
        first.write_text(
            f"DROP TABLE IF EXISTS {tables} CASCADE;\n"
            "DROP FUNCTION IF EXISTS audit_append_only() CASCADE;\n"
            f"CREATE TABLE {COPY_MARK} AS SELECT '{made_at.isoformat()}'::text AS made_at;\n"
        )
        await _run(
            url, programs, "psql", "--no-psqlrc", "--quiet", "--single-transaction",
            "--set=ON_ERROR_STOP=1", "--output=/dev/null", f"--file={first}", f"--file={script}",
            _dbname(url),
        )  # fmt: skip


async def must_be_free(url: URL) -> None:
    """No process of ours may be connected, or just be starting. Raises CopyFailed."""
    async with _connected(url) as connection:
        await _take(connection)


async def _take(connection: psycopg.AsyncConnection[Any]) -> None:
    """Nobody starts until this connection ends."""
    taken = await _one(connection, "SELECT pg_try_advisory_lock(%s)", MIGRATION_LOCK)
    others = await _one(
        connection,
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
        "AND application_name = %s AND pid <> pg_backend_pid()",
        PROGRAM,
    )
    if others or not taken:
        raise CopyFailed(
            f"the database is in use by redis-oncall ({others} sessions): stop the service and "
            "every worker, on every machine, first"
        )


async def _tables(connection: psycopg.AsyncConnection[Any]) -> set[str]:
    """Ours, of those that are there."""
    cursor = await connection.execute(
        "SELECT name FROM unnest(%s::text[]) AS name WHERE to_regclass(name) IS NOT NULL",
        (list(OURS),),
    )
    return {str(row[0]) for row in await cursor.fetchall()}


async def _one(connection: psycopg.AsyncConnection[Any], query: LiteralString, *told: Any) -> Any:
    row = await (await connection.execute(query, told or None)).fetchone()
    return None if row is None else row[0]


@asynccontextmanager
async def _connected(
    url: URL, *, autocommit: bool = False
) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    failed = "cannot be reached"
    try:
        async with connected(url, autocommit=autocommit) as connection:
            failed = "refused"
            yield connection
    except psycopg.Error as error:
        raise CopyFailed(f"the database {failed}: {_short(str(error))}") from None


def _find(programs: str, name: str) -> str:
    if (found := shutil.which(name, path=programs)) is None:
        raise CopyFailed(
            f"there is no {name} here: install PostgreSQL's client programs, of the server's major "
            "version (Debian: apt install postgresql-client)"
        )
    return found


async def _run(url: URL, programs: str, name: str, *arguments: str) -> None:
    """Run one of PostgreSQL's programs; its password is not among the arguments."""
    password = url.password or url.query.get("password") or ""
    given = {"PGPASSWORD": str(password)} if password else {}
    process = await asyncio.create_subprocess_exec(
        _find(programs, name),
        *arguments,
        env={"PATH": programs, **given},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        _, said = await process.communicate()
    finally:
        if process.returncode is None:  # whoever waited for it was cancelled
            process.kill()
            await process.wait()
    if process.returncode:
        raise CopyFailed(f"{name}: {_short(said.decode(errors='replace'))}")


def _dbname(url: URL) -> str:
    shown = url.set(drivername="postgresql", password=None)
    plain = shown.difference_update_query(["password"])
    return f"--dbname={plain.render_as_string(hide_password=False)}"


def _short(text: str) -> str:
    return redact(" ".join(text.split()))[:LONGEST_ANSWER]
