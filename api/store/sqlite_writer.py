"""SQLite for whoever writes: statements at once, waits elsewhere.

A writer of SQLite keeps every other one out, in all processes, from its BEGIN to the end of its
COMMIT. A driver that hands each statement to a thread and back waits at every step for whatever
else the event loop has to do, and all writers wait with it. What a statement of ours needs is in
memory, so it is run where it is; only for its turn and for the disk does a writer wait, and the
event loop goes on meanwhile. Readers keep nobody out: they have the usual driver.

SQLAlchemy calls this a dialect; it is named `sqlite+writer`.
"""

import asyncio
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sqlalchemy import URL, AsyncAdaptedQueuePool, Connection, Pool
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.util import await_

from api.store.to_its_end import to_its_end

DRIVER = "sqlite+writer"
TRY_AGAIN_SECONDS = 0.002
"""A turn lasts some milliseconds. SQLite itself asks ever more rarely, up to every 100 ms."""
registry.register("sqlite.writer", __name__, "WriterDialect")
_PRIMARY = 0xFF
"""SQLite has a dozen ways to be busy; what they have in common is in the low byte."""
_disk = ThreadPoolExecutor(1, "commit")


class _Cursor(sqlite3.Cursor):
    async def _async_soft_close(self) -> None:
        """What SQLAlchemy awaits of a cursor that it leaves open. There is nothing to wait for."""


class WriterConnection(sqlite3.Connection):
    """Its cursors are fit for `AsyncSession`."""

    def cursor(self, factory: Any = _Cursor) -> Any:
        """A new one."""
        return super().cursor(factory)


class WriterDialect(SQLiteDialect_pysqlite):
    """Python's own driver, but for the wait for the disk."""

    driver = "writer"
    is_async = True
    supports_statement_cache = True

    @classmethod
    def get_pool_class(cls, url: URL) -> type[Pool]:  # noqa: ARG003 - as it is called
        """One for use in an event loop."""
        return AsyncAdaptedQueuePool

    def do_commit(self, dbapi_connection: Any) -> None:
        """Until it is on the disk; meanwhile others have the event loop.

        It begins before they do: all other writers wait for it. Who is cancelled leaves after it.
        """
        loop = asyncio.get_running_loop()
        await_(to_its_end(loop.run_in_executor(_disk, dbapi_connection.commit)))


def begin(connection: Connection, most_seconds: float) -> None:
    """Begin to write, once nobody else does. Raises OperationalError after so many seconds."""
    deadline = time.monotonic() + most_seconds
    while time.monotonic() < deadline:
        try:
            connection.connection.driver_connection.execute("BEGIN IMMEDIATE")  # type: ignore[union-attr]
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & _PRIMARY != sqlite3.SQLITE_BUSY:
                break
            await_(asyncio.sleep(TRY_AGAIN_SECONDS))
        else:
            return
    connection.exec_driver_sql("BEGIN IMMEDIATE")  # which says what is wrong
