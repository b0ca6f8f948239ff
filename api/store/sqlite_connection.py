"""A connection to SQLite that goes to its thread only for what may wait.

aiosqlite sends every step of a statement to a thread and back: four ways for one SELECT, each at
the mercy of a busy machine, and mostly longer than the step takes. So steps that do nothing on the
disk stay here, and in a transaction that is `inline` all but its COMMIT do.
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from functools import partial
from typing import Any

import aiosqlite

_CHUNK = 64


class Connection(aiosqlite.Connection):
    """The driver's connection, as SQLAlchemy uses it: one caller at a time."""

    inline = False
    """Statements run in the event loop: for short ones by key, under the write lock."""

    async def _execute(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        of_a_cursor = isinstance(getattr(fn, "__self__", None), sqlite3.Cursor)
        waits_for_nothing = fn.__name__ == ("close" if of_a_cursor else "cursor")
        if self._connection is None or not self._running:
            raise ValueError("Connection closed")
        if waits_for_nothing or (self.inline and of_a_cursor):
            return fn(*args, **kwargs)
        step: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._tx.put_nowait((step, partial(fn, *args, **kwargs)))
        try:
            return await asyncio.shield(step)
        except asyncio.CancelledError:
            await asyncio.wait({step})  # no other step may begin before this one has ended
            raise


class _File(sqlite3.Connection):
    """Closed with its transaction: SQLite keeps both open while any statement is."""

    def close(self) -> None:
        with contextlib.suppress(sqlite3.Error):  # closed already
            if self.in_transaction:
                self.rollback()
        super().close()


async def connect(database: str, **options: Any) -> Connection:
    """Open a file; the options are those of `sqlite3.connect`."""
    connection = Connection(partial(sqlite3.connect, database, factory=_File, **options), _CHUNK)
    connection._thread.daemon = True
    await connection
    return connection
