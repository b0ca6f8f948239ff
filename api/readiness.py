"""What the service depends on, each tried for real, and why it fails.

Asked by anybody, so the answer is kept for a moment and says nothing of addresses and users.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile

import structlog
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from api.auditing import keyring
from api.one_try import OneTry
from api.queue import Nudges
from api.settings import Settings
from api.store import processes
from api.store.database import Database
from api.store.durability import weaknesses
from api.store.migrate import known_revisions

PROBE_SECONDS = 3.0
KEPT_SECONDS = 1.0
"""For so long an answer is given again: nobody can make the database write by asking."""
LONGEST_REASON = 120
log = structlog.get_logger(__name__)


class NotReady(Exception):
    """A dependency does not work; the text says why, without addresses and names."""


@dataclass
class Readiness:
    """Tries what one process depends on."""

    settings: Settings
    database: Database
    queue: Nudges
    name: str
    """Of the process; under which it says that it lives."""
    warnings: list[str] = field(default_factory=list, init=False)
    """Settings under which a crash could lose what was accepted."""
    _last: dict[str, str] = field(default_factory=dict)
    _at: float = -KEPT_SECONDS
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self._tries = {name: OneTry(one, PROBE_SECONDS) for name, one in self._probes().items()}

    async def reasons(self) -> dict[str, str]:
        """Each dependency, and why it fails; empty: it works."""
        async with self._asking:
            if time.monotonic() - self._at >= KEPT_SECONDS:
                tried = await asyncio.gather(*map(_why, self._tries, self._tries.values()))
                self._last = dict(zip(self._tries, tried, strict=True))
                self._at = time.monotonic()
            return self._last

    def _probes(self) -> dict[str, Callable[[], Awaitable[None]]]:
        return {
            "database": self._database,
            "migrations": self._migrations,
            "queue": self._queue,
            "checkpointer": self._checkpointer,
            "worker": self._worker,
            "audit_key": self._audit_key,
            "backups": self._backups,
        }

    async def _database(self) -> None:
        """Written, down to the disk: it may be readable and full."""
        await processes.say_alive(self.database, self.name, "serve")
        self.warnings = await weaknesses(self.database)

    async def _migrations(self) -> None:
        """The tables are this version's. Those of a later one are fit for it, too."""
        async with self.database.reading() as session:
            there = await session.scalar(text("SELECT version_num FROM alembic_version"))
        newest, *older = await asyncio.to_thread(known_revisions)
        if there is None or there in older:
            raise NotReady(f"the tables are of revision {there}, not {newest}; restart the service")

    async def _queue(self) -> None:
        await self.queue.ping()

    async def _checkpointer(self) -> None:
        """On PostgreSQL its tables are in the database; on SQLite it is a file of its own."""
        if not self.database.is_sqlite:
            async with self.database.reading() as session:
                await session.execute(text("SELECT 1 FROM checkpoints LIMIT 1"))
            return
        import aiosqlite

        where = f"{self.database.checkpoints.absolute().as_uri()}?mode=rw"
        async with aiosqlite.connect(where, uri=True, timeout=PROBE_SECONDS) as connection:
            await connection.execute("SELECT 1 FROM checkpoints LIMIT 1")

    async def _worker(self) -> None:
        async with self.database.reading() as session:
            alive = await processes.workers(session, await self.database.clock(session))
        if not alive:
            raise NotReady("no worker has swept lately; start `redis-oncall worker`")

    async def _audit_key(self) -> None:
        """The key that can be loaded now is the one the trail is chained with."""
        loaded = await asyncio.to_thread(self._loaded_key)
        known = self.database.audit_keys
        if known is not None and loaded != known.current.id:
            raise NotReady("the key is another than the one that the audit trail goes on with")

    def _loaded_key(self) -> str:
        settings = self.settings
        if settings.key is None and not (settings.data_folder / "key").exists():
            raise NotReady("the key file is gone; put it back, or set REDIS_ONCALL_KEY")
        return keyring(settings).current.id

    async def _backups(self) -> None:
        """A file can be made where remedies keep what they remove, or where that will be made."""
        await asyncio.to_thread(_try_to_write, self.settings.backups_folder)


def _try_to_write(folder: Path) -> None:
    while not folder.exists():
        folder = folder.parent
    with TemporaryFile(dir=folder) as file:
        file.write(b"1")
        file.flush()


async def _why(name: str, probe: OneTry[None]) -> str:
    try:
        await probe()
    except Exception as error:  # noqa: BLE001 - whatever it is, the dependency does not work
        because = _worded(error)
        log.warning("dependency_failing", dependency=name, because=because)
        return because
    return ""


def _worded(error: Exception) -> str:
    """Short, and nothing of what a driver says about addresses, users and files."""
    if isinstance(error, NotReady):
        return str(error)
    if isinstance(error, TimeoutError):
        return f"no answer within {PROBE_SECONDS:.0f} s"
    if isinstance(error, DBAPIError) and error.orig is not None:
        error = error.orig
    if type(error).__module__ == "sqlite3":
        return str(error)[:LONGEST_REASON]
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return f"{type(error).__name__}: `redis-oncall doctor` and the log say more"
