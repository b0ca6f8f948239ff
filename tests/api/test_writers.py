"""Who writes waits for others and for the disk; whoever else is served meanwhile does not."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from api.store import group_commit, incidents, sqlite_writer
from api.store.database import Database
from api.store.group_commit import GroupCommit


async def write(database: Database) -> None:
    async with database.writing() as session:
        await incidents.open_incident(session, title="t", target="cache")


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_while_another_process_writes_the_event_loop_goes_on(database: Database) -> None:
    other = sqlite3.connect(str(database.url.database), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    task = asyncio.create_task(write(database))
    began = time.monotonic()
    await asyncio.sleep(0.2)
    assert time.monotonic() - began < 5, "and not until the other has ended, or 10 s are over"
    assert not task.done()
    other.rollback()
    other.close()
    await task


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_while_the_disk_is_slow_the_event_loop_goes_on(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()
    with ThreadPoolExecutor(1) as disk:
        monkeypatch.setattr(sqlite_writer, "_disk", disk)
        disk.submit(over.wait, 30)
        task = asyncio.create_task(write(database))
        await asyncio.sleep(0.2)
        assert not task.done()
        over.set()
        await task


async def test_what_comes_soon_after_a_transaction_goes_together(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "APART_SECONDS", 0.5)
    together: list[int] = []

    async def count(_: AsyncSession, work: Sequence[str]) -> Sequence[str]:
        together.append(len(work))
        return work

    group = GroupCommit(database, count)
    await group.commit("alone")
    assert together == [1]
    second = asyncio.create_task(group.commit("waits"))
    await asyncio.sleep(0.05)
    await group.commit("joins it")
    await second
    assert together == [1, 2]
