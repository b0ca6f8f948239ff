"""A connection to SQLite that goes to its thread only for what may wait.

aiosqlite sends every step of a statement to a thread and back: four ways for one SELECT, each at
the mercy of a busy machine, and mostly longer than the step takes. So steps that do nothing on the
disk stay here, and in a transaction that is `inline` all but its COMMIT do.
"""

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
        if self._connection is not None and (waits_for_nothing or (self.inline and of_a_cursor)):
            return fn(*args, **kwargs)
        return await super()._execute(fn, *args, **kwargs)  # type: ignore[no-untyped-call]


async def connect(database: str, **options: Any) -> Connection:
    """Open a file; the options are those of `sqlite3.connect`."""
    connection = Connection(partial(sqlite3.connect, database, **options), _CHUNK)
    connection._thread.daemon = True
    await connection
    return connection
