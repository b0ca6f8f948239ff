"""Group commit: what waits for the disk goes together, in one transaction.

A commit waits for the disk once, however much is in it. So while one is under way, what arrives
waits, bounded, and all of it shares the next. Each caller has its answer after its own commit.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from dataclasses import dataclass
from typing import Generic, TypeVar

from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncSession

from api.store.database import Database

MOST_WAITING = 2_000
"""Weight in memory, before more is refused."""
MOST_TOGETHER = 100
"""Weight in one transaction, or one piece: it holds locks for as long as that takes."""
APART_SECONDS = 0.04
"""From the beginning of a transaction to that of the next: under load more goes together, and a
transaction costs as much as several alerts. Whoever comes alone does not wait."""
ANSWER_SECONDS = 30.0
"""How long a caller waits; senders of alerts give up after 5 to 30 s."""
_DEADLOCK = "40P01"
_ONLY_READS = "25006"
Work = TypeVar("Work")
Done = TypeVar("Done")
Write = Callable[[AsyncSession, Sequence[Work]], Awaitable[Sequence[Done]]]
"""Writes all of it, and says of each piece, in order, what came of it."""


class Overloaded(Exception):
    """Nothing was promised: the caller should come again later. The text says why."""


@dataclass(frozen=True)
class _Piece(Generic[Work, Done]):
    work: Work
    weight: int
    done: asyncio.Future[Done]


class GroupCommit(Generic[Work, Done]):
    """One writer for one kind of work. `urgent`: as for `Database.writing`."""

    def __init__(
        self, database: Database, write: Write[Work, Done], *, urgent: bool = False
    ) -> None:
        self._database = database
        self._write = write
        self._urgent = urgent
        self._waiting: deque[_Piece[Work, Done]] = deque()
        self._weight = 0
        self._writer: asyncio.Task[None] | None = None
        self._began = -math.inf

    @property
    def waiting(self) -> int:
        """The weight of what waits for its transaction to begin."""
        return self._weight

    async def commit(self, work: Work, weight: int = 1) -> Done:
        """What came of it, once that is committed. Raises Overloaded, and what `write` raises."""
        if self._weight >= MOST_WAITING:
            raise Overloaded(f"{self._weight} pieces wait to be stored already")
        piece = _Piece[Work, Done](work, weight, asyncio.get_running_loop().create_future())
        self._waiting.append(piece)
        self._weight += weight
        if self._writer is None:
            # Of nobody's request: its log lines must not carry that of the first who waits.
            self._writer = asyncio.create_task(self._work_off(), context=Context())
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await piece.done
        except TimeoutError:
            # Should its transaction be under way, what is sent again is recognised.
            raise Overloaded(f"it could not be stored within {ANSWER_SECONDS:.0f} s") from None

    async def _work_off(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(self._began + APART_SECONDS - time.monotonic())
                self._began = time.monotonic()
                pieces, weight = [self._waiting.popleft()], 0
                while self._waiting and weight + pieces[-1].weight < MOST_TOGETHER:
                    weight += pieces[-1].weight
                    pieces.append(self._waiting.popleft())
                self._weight -= weight + pieces[-1].weight
                # Whoever gave up waiting was told that nothing is promised.
                await self._together([piece for piece in pieces if not piece.done.done()])
        finally:
            self._writer = None

    async def _together(self, pieces: Sequence[_Piece[Work, Done]]) -> None:
        """In one transaction; if that fails by one of them, each in one of its own."""
        if not pieces:
            return
        try:
            async with self._database.writing(urgent=self._urgent) as session:
                found = await self._write(session, [piece.work for piece in pieces])
        except Exception as error:  # noqa: BLE001 - told to whoever waits
            if len(pieces) > 1 and not _of_the_database(error):
                for piece in pieces:
                    await self._together([piece])
                return
            for piece in pieces:
                if not piece.done.done():
                    piece.done.set_exception(error)
        else:
            for piece, done in zip(pieces, found, strict=True):
                if not piece.done.done():
                    piece.done.set_result(done)


def _of_the_database(error: Exception) -> bool:
    """It is away, busy, full or only read: the next transaction would wait for nothing."""
    state = getattr(getattr(error, "orig", None), "sqlstate", None)
    away = isinstance(error, OperationalError | PoolTimeout) and state != _DEADLOCK
    return away or state == _ONLY_READS
