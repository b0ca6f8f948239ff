"""A copy of an SQLite database while it is used, and a file put in its place."""

import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path

from api.copies.facts import CopyFailed, Facts
from api.store.database import BUSY_SECONDS
from api.store.migrate import COPY_MARK

MOST_PROBLEMS = 5
_BESIDE = ("-wal", "-shm", "-journal")
_LOCK_SECONDS = 5.0


def copy(source: Path, to: Path, made_at: datetime) -> Facts:
    """One snapshot, checked, in one file, and marked as a copy. Blocks. Raises CopyFailed."""
    if not source.exists():
        raise CopyFailed(f"there is no database {source}")
    live = f"{source.absolute().as_uri()}?mode=ro"
    try:
        with (
            closing(sqlite3.connect(live, uri=True, timeout=BUSY_SECONDS)) as database,
            closing(sqlite3.connect(to, isolation_level=None)) as made,
        ):
            database.backup(made)  # all pages in one step: writers go on, in the WAL
            made.execute("PRAGMA journal_mode=DELETE")
            _must_be_whole(made, source)
            facts = _facts(made, source)
            made.execute(f"CREATE TABLE {COPY_MARK} AS SELECT '{made_at.isoformat()}' AS made_at")
            return facts
    except sqlite3.Error as error:
        raise CopyFailed(f"{source} cannot be copied: {error}") from None


def _must_be_whole(made: sqlite3.Connection, source: Path) -> None:
    found = [str(row[0]) for row in made.execute(f"PRAGMA integrity_check({MOST_PROBLEMS})")]
    if found != ["ok"]:
        raise CopyFailed(f"{source} is damaged, no copy was made: {'; '.join(found)[:500]}")
    if broken := made.execute("PRAGMA foreign_key_check").fetchmany(MOST_PROBLEMS):
        tables = ", ".join(sorted({str(row[0]) for row in broken}))
        raise CopyFailed(f"{source} is damaged: rows of {tables} belong to nothing")


def _facts(made: sqlite3.Connection, source: Path) -> Facts:
    tables = {str(row[0]) for row in made.execute("SELECT name FROM sqlite_master")}
    if COPY_MARK in tables:
        raise CopyFailed(f"{source} is a copy that was not settled: `redis-oncall database settle`")
    if "alembic_version" not in tables:
        raise CopyFailed(f"{source} has no tables of redis-oncall")
    revision = made.execute("SELECT version_num FROM alembic_version").fetchone()
    (incidents,) = made.execute("SELECT count(*) FROM incidents").fetchone()
    head = None
    if "audit_head" in tables:
        head = made.execute("SELECT seq, mac FROM audit_head WHERE id = 1").fetchone()
    return Facts(str(revision[0]), int(incidents), head)


def must_be_free(path: Path) -> None:
    """Nobody may have it open. Blocks. Raises CopyFailed.

    Only the last connection can leave the WAL; what cannot be read at all is used by nobody.
    """
    if not path.exists():
        return
    try:
        with closing(sqlite3.connect(path, timeout=_LOCK_SECONDS, isolation_level=None)) as file:
            file.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise CopyFailed(f"{path} is in use: stop the service and its workers first") from None
    except sqlite3.DatabaseError:
        return


def put(unpacked: Path, path: Path, now: datetime) -> list[Path]:
    """Put the file in the database's place; what was there is kept beside it. Raises OSError."""
    kept = []
    checkpoints = path.with_name(f"{path.stem}.checkpoints{path.suffix}")
    for known in (path, checkpoints):
        for end in ("", *_BESIDE):  # a WAL of another file would be read into this one
            there = known.with_name(known.name + end)
            if there.exists():
                kept.append(there.rename(f"{there}.replaced-{now:%Y%m%dT%H%M%S}"))
    unpacked.rename(path)
    return kept
