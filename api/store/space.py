"""Giving back what deleted rows have left of a file; PostgreSQL's autovacuum does the like."""

import sqlite3
from contextlib import closing
from pathlib import Path

from api.store.database import BUSY_SECONDS, Database

FREE_PAGES_KEPT = 1_000
"""4 MB: what is written next needs room anyway."""
PAGES_AT_ONCE = 500
MOST_PAGES = 50_000
"""In one call: 200 MB."""


def give_back(database: Database) -> int:
    """Shrink the database's and the checkpoints' file; by how many pages. Blocks on the disk.

    A file that was made before it could be shrunk stays as large as it is; its free pages are
    written to again.
    """
    return sum(_shrink(Path(str(path))) for path in (database.url.database, database.checkpoints))


def _shrink(path: Path) -> int:
    given = 0
    with closing(sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)) as file:
        if _number(file, "auto_vacuum") != 2:
            return 0
        while given < MOST_PAGES:
            free = _number(file, "freelist_count") - FREE_PAGES_KEPT
            if free <= 0:
                break
            # One statement frees a page a step, and only a script is stepped to its end.
            file.executescript(f"PRAGMA incremental_vacuum({min(free, PAGES_AT_ONCE)})")
            given += min(free, PAGES_AT_ONCE)
    return given


def _number(file: sqlite3.Connection, pragma: str) -> int:
    return int(file.execute(f"PRAGMA {pragma}").fetchone()[0])
