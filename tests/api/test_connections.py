"""Whoever is cut off, at any step, leaves no connection to the database open."""

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import event, text

from api.copies.postgresql import put
from api.store import sqlite_writer
from api.store.audit import Person, note
from api.store.database import Database, connected, database_url
from tests.api.serving import until

MOST_STEPS = 100


@dataclass
class CutOff:
    """Awaits another's coroutine, and is cancelled in the middle of its given steps."""

    whose: Coroutine[Any, Any, None]
    steps: set[int]
    done: int = 0

    def __await__(self) -> Generator[Any, Any, None]:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None
        failure: BaseException | None = None
        while True:
            try:
                waits = self.whose.throw(failure) if failure else self.whose.send(None)
            except StopIteration:
                return
            self.done, failure = self.done + 1, None
            if self.done in self.steps:
                loop.call_soon(task.cancel)
            try:
                yield waits
            except BaseException as error:  # noqa: BLE001 - it is for the other to catch
                failure = error


async def _reads(url: str) -> None:
    database = Database(database_url(url))
    try:
        async with database.reading() as session:
            await session.execute(text("SELECT 1"))
    finally:
        await database.close()


async def _writes(url: str) -> None:
    database = Database(database_url(url))
    try:
        async with database.writing() as session:
            await session.execute(text("SELECT 1"))
    finally:
        await database.close()


async def _copies(url: str) -> None:
    async with connected(database_url(url)) as connection:
        await connection.execute("SELECT 1")


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("does", [_reads, _writes, _copies])
async def test_cut_off_at_any_step(
    does: Callable[[str], Coroutine[Any, Any, None]],
    times: int,
    postgresql: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[psycopg.AsyncConnection[Any]] = []
    connect: Callable[..., Awaitable[Any]] = psycopg.AsyncConnection.connect

    async def noting(*told: Any, **more: Any) -> Any:
        opened.append(await connect(*told, **more))
        return opened[-1]

    monkeypatch.setattr(psycopg.AsyncConnection, "connect", noting)
    for step in range(1, MOST_STEPS):
        cut = CutOff(does(postgresql), set(range(step, step + times)))
        task = asyncio.ensure_future(_await(cut))
        await asyncio.wait({task})
        assert task.cancelled() or task.exception() is None, (step, task.exception())
        assert [one for one in opened if not one.closed] == [], step
        if cut.done < step:
            break  # there was no such step any more
    assert step > 3
    assert opened


@pytest.mark.parametrize("times", [1, 2])
async def test_cut_off_at_any_step_a_writer_of_sqlite_keeps_nobody_out(
    times: int, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    with sqlite3.connect(tmp_path / "store.db") as file:
        file.execute("CREATE TABLE steps (number INTEGER)")

    async def writes(step: int, database: Database) -> None:
        async with database.writing() as session:
            await session.execute(text(f"INSERT INTO steps VALUES ({step})"))
            await asyncio.sleep(0)

    database = Database(database_url(url))
    cancelled = set()
    for step in range(1, MOST_STEPS):
        cut = CutOff(writes(step, database), set(range(step, step + times)))
        task = asyncio.ensure_future(_await(cut))
        await asyncio.wait({task})
        cancelled |= {step} if task.cancelled() else set()
        with sqlite3.connect(tmp_path / "store.db", timeout=0) as another:
            another.execute("INSERT INTO steps VALUES (0)")
        if cut.done < step:
            break  # there was no such step any more
    await database.close()
    assert cancelled
    with sqlite3.connect(tmp_path / "store.db") as file:
        kept = {number for (number,) in file.execute("SELECT number FROM steps")}
    assert step in kept, "the last one was not cut off"
    assert kept <= set(range(step + 1))


async def test_who_is_cancelled_while_sqlite_commits_leaves_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, ended = threading.Event(), threading.Event()

    def slowly(connection: sqlite_writer.WriterConnection) -> None:
        begun.set()
        time.sleep(0.2)
        sqlite3.Connection.commit(connection)
        ended.set()

    monkeypatch.setattr(sqlite_writer.WriterConnection, "commit", slowly, raising=False)
    database = Database(database_url(f"sqlite:///{tmp_path / 'store.db'}"))

    async def write() -> None:
        async with database.writing() as session:
            await session.execute(text("CREATE TABLE steps (number INTEGER)"))

    writing = asyncio.create_task(write())
    await asyncio.to_thread(begun.wait, 10)
    writing.cancel()
    await asyncio.wait({writing})
    assert ended.is_set()
    assert writing.cancelled()
    await database.close()


async def _await(cut: CutOff) -> None:
    await cut


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_nobody_else_runs_while_all_writers_of_sqlite_wait(database: Database) -> None:
    turns: list[int] = [0]

    async def compute() -> None:
        while True:
            turns[-1] += 1
            await asyncio.sleep(0)

    def next_part(_connection: Any) -> None:
        turns.append(0)

    for moment in ("begin", "commit"):
        event.listen(database.writer.sync_engine, moment, next_part)
    computing = asyncio.create_task(compute())
    async with database.writing() as session:
        await note(session, Person("somebody", "operator"), "looked")
        await session.execute(text("SELECT 1"))
    computing.cancel()
    _before, between, while_it_is_kept = turns
    assert between == 0
    assert while_it_is_kept > 0, "for the disk nobody waits"


async def test_one_that_is_in_use_when_all_are_closed_is_closed_when_it_is_given_back(
    url: str,
) -> None:
    database = Database(database_url(url))
    async with database.reading() as session:
        await session.execute(text("SELECT 1"))
        raw = await (await session.connection()).get_raw_connection()
        driver: Any = raw.driver_connection
        await database.close()
        assert await session.scalar(text("SELECT 2")) == 2, "whoever uses it may finish"
    with pytest.raises((psycopg.OperationalError, ValueError), match=r"closed|no active"):
        await driver.execute("SELECT 3")


async def test_a_program_that_copies_ends_with_whoever_waits_for_it(tmp_path: Path) -> None:
    program, began = tmp_path / "pg_restore", tmp_path / "began"
    program.write_text(
        f"#!/bin/sh\necho $$ > {began}.part && mv {began}.part {began}\nexec sleep 60\n"
    )
    program.chmod(0o700)
    programs = f"{tmp_path}:{os.environ['PATH']}"
    url, made_at = database_url("postgresql://127.0.0.1:1/none"), datetime.now(UTC)
    copying = asyncio.ensure_future(put(url, tmp_path / "copy", made_at, programs, replace=False))

    async def runs() -> bool:
        return began.exists()

    await until(runs)
    copying.cancel()
    await asyncio.wait({copying})
    assert copying.cancelled()
    with pytest.raises(ProcessLookupError):
        os.kill(int(began.read_text()), 0)
