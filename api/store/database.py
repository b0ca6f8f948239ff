"""The engine and its two kinds of transaction, on SQLite and on PostgreSQL."""

import asyncio
import contextlib
import select
import sqlite3
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg.errors import ReadOnlySqlTransaction
from sqlalchemy import Connection, event, text
from sqlalchemy.engine import URL, ExceptionContext, make_url
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.pool import ConnectionPoolEntry

from api.routes import Routes
from api.store import sqlite_writer
from api.store.audit import append_noted
from api.store.chain import Keyring
from api.store.deeds import note_changes
from api.store.notices import keep_news
from api.store.to_its_end import to_its_end
from api.store.turns import Turns

BUSY_SECONDS = 10
"""How long a writer of SQLite waits for another."""
SHRINKABLE = "PRAGMA auto_vacuum=INCREMENTAL"
"""For a new file: with the first page written it changes nothing, and waits for writers."""
PROGRAM = "redis-oncall"
"""How PostgreSQL names our sessions: `database restore` looks whether there are any."""
IDLE_SECONDS = 20
"""How long PostgreSQL waits for one of us who stopped inside of a transaction. A process that is
frozen there holds the audit trail's lock: until it is cut off, nobody else can write anything."""
ASK_AFTER_SECONDS = 1.0
"""A connection to PostgreSQL that was idle for longer is asked first whether it still is one."""
UNANSWERED_SECONDS = 30
"""How long PostgreSQL's machine may leave unacknowledged what was sent: one that died is silent."""
_LINK = {
    "connect_timeout": 10,
    "tcp_user_timeout": UNANSWERED_SECONDS * 1_000,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 4,
}
_CLOCK = {
    "sqlite": "(julianday('now') - 2440587.5) * 86400.0",
    "postgresql": "extract(epoch from clock_timestamp())::float8",
}
_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
}


def database_url(url: str) -> URL:
    """The URL with the driver we use. Raises ValueError without repeating the URL's secrets."""
    try:
        parsed = make_url(url)
    except Exception:  # noqa: BLE001
        raise ValueError("not a database URL") from None
    family = parsed.drivername.split("+")[0]
    if family not in _DRIVERS:
        raise ValueError(f"{family} is not supported: use sqlite:///FILE or postgresql://…")
    if family == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise ValueError("an SQLite database needs a file: sqlite:///FILE")
    return parsed.set(drivername=_DRIVERS[family])


_EXCLUDE = text(
    "SELECT pg_advisory_xact_lock(hashtextextended(what, 0)) "
    "FROM unnest(CAST(:locks AS text[])) WITH ORDINALITY AS t (what, place) ORDER BY place"
)


class Database:
    """Transactions that read, and transactions that write."""

    def __init__(self, url: URL) -> None:
        self.url = url
        self.is_sqlite = url.get_backend_name() == "sqlite"
        self.engine = make_engine(url)
        self.audit_keys: Keyring | None = None
        """What the audit trail is chained with; set by `api.store.trail.begin`."""
        self.routes = Routes()
        """Who is told what becomes of incidents; set by whoever has the configuration."""
        self._turns = Turns()
        self.writer = _writing_engine(url) if self.is_sqlite else self.engine
        """The engine of `writing`."""
        self._writers = async_sessionmaker(self.writer, expire_on_commit=False)
        self._readers = async_sessionmaker(
            self.engine.execution_options(read_only=True), expire_on_commit=False
        )

    @property
    def checkpoints(self) -> Path:
        """Where the graph's checkpoints of an SQLite installation are: beside the database."""
        path = Path(str(self.url.database))
        return path.with_name(f"{path.stem}.checkpoints{path.suffix}")

    @asynccontextmanager
    async def writing(self, *, urgent: bool = False) -> AsyncIterator[AsyncSession]:
        """A transaction that is committed, durably, at the end of the block.

        `urgent`: somebody waits for it, and others can wait.

        Who is cancelled in it leaves only after its beginning or end is done.
        """
        # SQLite's needs no task for that (see `sqlite_writer`), which would let others run while
        # all writers wait for this one.
        whole = _as_it_is if self.is_sqlite else _to_its_end
        async with self._alone(urgent):
            session = self._writers()
            try:
                await whole(session.connection())
                yield session
                await keep_news(session, self.routes)
                await note_changes(session)
                await append_noted(session, self.audit_keys)
                await whole(session.commit())
            finally:
                await whole(session.close())

    @asynccontextmanager
    async def _alone(self, urgent: bool) -> AsyncIterator[None]:
        """SQLite has one writer: those of this process take turns.

        Left to itself it lets them poll, ever more slowly, and whoever comes late may win.
        """
        if not self.is_sqlite:
            yield
            return
        try:
            async with asyncio.timeout(BUSY_SECONDS):
                await self._turns.take(urgent=urgent)
        except TimeoutError:
            raise PoolTimeout(f"no turn to write within {BUSY_SECONDS} s") from None
        try:
            yield
        finally:
            self._turns.end()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """A snapshot; never waits for writers."""
        async with self._readers() as session:
            yield session

    async def clock(self, session: AsyncSession) -> float:
        """The database's own time, in seconds: workers' clocks may differ."""
        dialect = "sqlite" if self.is_sqlite else "postgresql"
        now = (await session.execute(text(f"SELECT {_CLOCK[dialect]}"))).scalar_one()
        return float(now)

    async def exclude(self, session: AsyncSession, *locks: str) -> None:
        """Until the transaction ends, nobody else gets past this call with the same words.

        Several are taken in the order given: it has to be the same for everybody.
        """
        if not self.is_sqlite and locks:  # a writer of SQLite is alone anyway
            await session.execute(_EXCLUDE, {"locks": list(locks)})

    async def close(self) -> None:
        """Close every connection; one that is in use, as soon as it is given back."""
        for engine in {self.engine, self.writer}:
            event.listen(engine.sync_engine, "checkin", _close_given_back)
            await engine.dispose()


def _close_given_back(_connection: Any, record: ConnectionPoolEntry) -> None:
    # A pool that was disposed of takes it back, and would be deleted with it still open.
    record.close()


async def _as_it_is(step: Coroutine[Any, Any, Any]) -> None:
    await step


async def _to_its_end(step: Coroutine[Any, Any, Any]) -> None:
    await to_its_end(asyncio.ensure_future(step))


@asynccontextmanager
async def connected(
    url: URL, *, autocommit: bool = False
) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """A connection to PostgreSQL apart from the pool, closed at the end of the block."""
    connection = await psycopg.AsyncConnection.connect(conninfo(url), autocommit=autocommit)
    try:
        async with connection:
            yield connection
    finally:
        await connection.close()  # its own end leaves it open if it is cut off while it commits


def conninfo(url: URL) -> str:
    """The URL as PostgreSQL's own library reads it, with its password."""
    plain = linked(url).set(drivername="postgresql")
    plain = plain.update_query_dict({"application_name": PROGRAM})
    return plain.render_as_string(hide_password=False)


def make_engine(url: URL, *, foreign_keys: bool = True) -> AsyncEngine:
    """An engine with our transactions; a migration of SQLite rebuilds tables without keys."""
    if url.get_backend_name() != "sqlite":
        named = {"application_name": PROGRAM}
        engine = create_async_engine(linked(url), pool_size=10, connect_args=named)
        event.listen(engine.sync_engine, "connect", _set_session)
        _ask_the_idle(engine)
        event.listen(engine.sync_engine, "handle_error", _give_up_if_it_only_reads)
        return engine

    # The driver's own transactions silently lose updates: we begin them, as writers at once.
    engine = create_async_engine(
        url,
        connect_args={
            "timeout": BUSY_SECONDS,
            "isolation_level": None,
            "factory": _SqliteFile,
        },
    )
    _prepare(engine, f"foreign_keys={'ON' if foreign_keys else 'OFF'}")
    event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def _writing_engine(url: URL) -> AsyncEngine:
    """SQLite's for `writing`: see `sqlite_writer`."""
    engine = create_async_engine(
        url.set(drivername=sqlite_writer.DRIVER),
        connect_args={
            "timeout": BUSY_SECONDS,
            "isolation_level": None,
            "factory": sqlite_writer.WriterConnection,
        },
    )
    _prepare(engine, "foreign_keys=ON", "busy_timeout=0")  # nothing waits in the event loop

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Connection) -> None:
        sqlite_writer.begin(connection, BUSY_SECONDS)

    return engine


def _prepare(engine: AsyncEngine, *pragmas: str) -> None:
    """What every connection to SQLite is told first."""

    @event.listens_for(engine.sync_engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA page_count")
        if tuple(cursor.fetchone()) == (0,):
            cursor.execute(SHRINKABLE)
        _write_ahead(connection, cursor)
        for pragma in ("synchronous=FULL", *pragmas):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()


def _write_ahead(connection: Any, cursor: Any) -> None:
    """SQLite waits for nobody here: of several that open a new file at once one may be refused."""
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() >= until:
                raise
            connection.run_async(lambda _: asyncio.sleep(0.02))
        else:
            return


def linked(url: URL) -> URL:
    """PostgreSQL's URL, with bounds on how long its machine may be silent where it sets none."""
    told = {name: str(value) for name, value in _LINK.items() if name not in url.query}
    return url.update_query_dict(told)


def _ask_the_idle(engine: AsyncEngine) -> None:
    """As the pool's `pre_ping`, but not of one that was in use a moment ago and was not hung up on:
    under load that would be one more round trip in every transaction.
    """  # noqa: D205
    dialect = engine.sync_engine.dialect

    @event.listens_for(engine.sync_engine.pool, "checkin")
    def given_back(_connection: Any, record: ConnectionPoolEntry) -> None:
        record.info["idle_since"] = time.monotonic()

    @event.listens_for(engine.sync_engine.pool, "checkout")
    def taken(connection: Any, record: ConnectionPoolEntry, _proxy: Any) -> None:
        idle_since = record.info.get("idle_since")
        if idle_since is None:  # it was made just now
            return
        idle = time.monotonic() - idle_since
        try:
            if idle >= ASK_AFTER_SECONDS or _was_told_something(connection):
                dialect.do_ping(connection)
        except dialect.loaded_dbapi.Error:
            raise InvalidatePoolError from None


def _was_told_something(connection: Any) -> bool:
    """PostgreSQL says nothing to who asks nothing, but that it ends. Raises if we ended it."""
    heard = select.poll()
    heard.register(connection.driver_connection.pgconn.socket, select.POLLIN)
    return bool(heard.poll(0))


def _set_session(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute(f"SET idle_in_transaction_session_timeout = '{IDLE_SECONDS}s'")
    # In a zone east of it, the last hours of the calendar come back as a year that Python has not.
    cursor.execute("SET TIME ZONE 'UTC'")
    cursor.close()
    connection.commit()


def _give_up_if_it_only_reads(context: ExceptionContext) -> None:
    """A session keeps reading only after its server takes writes again: the next is a new one.

    As for one that was cut, whoever wrote is told to come again.
    """
    if isinstance(context.original_exception, ReadOnlySqlTransaction):
        context.is_disconnect = True


class _SqliteFile(sqlite3.Connection):
    """Rolls back when it is closed: while a statement that was cut off is still open, SQLite would
    keep the transaction, and its write lock, along with it.
    """  # noqa: D205

    def close(self) -> None:
        with contextlib.suppress(sqlite3.Error):  # closed already
            if self.in_transaction:
                self.rollback()
        super().close()


def _begin_sqlite(connection: Connection) -> None:
    read_only = connection.get_execution_options().get("read_only", False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")
