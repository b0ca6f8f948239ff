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

    def __init__(self, connector: Callable[[], sqlite3.Connection]) -> None:
        super().__init__(connector, _CHUNK)
        self._in_thread: list[None] = []
        """One for each step that its thread has not ended: a caller may have left meanwhile."""

    async def _execute(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        of_a_cursor = isinstance(getattr(fn, "__self__", None), sqlite3.Cursor)
        waits_for_nothing = fn.__name__ == ("close" if of_a_cursor else "cursor")
        usable = self._connection is not None and not self._in_thread
        if usable and (waits_for_nothing or (self.inline and of_a_cursor)):
            return fn(*args, **kwargs)

        def step() -> Any:
            try:
                return fn(*args, **kwargs)
            finally:
                self._in_thread.pop()

        self._in_thread.append(None)
        return await super()._execute(step)  # type: ignore[no-untyped-call]


async def connect(database: str, **options: Any) -> Connection:
    """Open a file; the options are those of `sqlite3.connect`."""
    connection = Connection(partial(sqlite3.connect, database, **options))
    connection._thread.daemon = True
    await connection
    return connection
