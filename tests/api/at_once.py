"""What several processes do to one database at once; each is forked with all of it loaded."""

import asyncio
from collections.abc import Callable, Coroutine
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from api.store import audit, trail
from api.store.database import Database, database_url
from api.store.migrate import migrate
from tests.api.trails import ALICE, KEYS
from tests.forked import FORK

Work = Callable[[Database, Connection, int], Coroutine[Any, Any, None]]


async def write_on(database: Database, link: Connection, times: int) -> None:
    """So many rows of the audit trail, after saying that it is ready."""
    await trail.begin(database, KEYS)
    link.send("ready")
    for _ in range(times):
        async with database.writing() as session:
            await audit.note(session, ALICE, "view")


async def migrate_when_told(database: Database, link: Connection, _: int) -> None:
    """The revisions before and after are sent back."""
    link.send("ready")
    link.recv()
    done = await migrate(database)
    link.send(f"{done.before} {done.after}")


def forked(work: Work, url: str, times: int = 0) -> tuple[BaseProcess, Connection]:
    """A process that does it, and is ready."""
    ours, theirs = FORK.Pipe()
    process = FORK.Process(target=_do, args=(work, url, theirs, times))
    process.start()
    theirs.close()
    assert ours.recv() == "ready"
    return process, ours


def _do(work: Work, url: str, link: Connection, times: int) -> None:
    async def run() -> None:
        database = Database(database_url(url))
        await work(database, link, times)
        await database.close()

    asyncio.run(run())
