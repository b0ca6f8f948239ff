"""Walks the keyspace in bounded, pipelined SCAN pages. Gentle: the page bounds the damage.

What we found by trying, on 6.2, 7.0, 8.2 and Valkey 9.1: SCAN and MEMORY USAGE leave no trace.
TYPE, PTTL, OBJECT and length commands count as keyspace hits on every one of them, also under
CLIENT NO-TOUCH: so they are asked for a bounded sample only and every reading says how many.
Length commands and XINFO also reset OBJECT IDLETIME unless CLIENT NO-TOUCH (7.2) is on.
"""

import asyncio
import time
from asyncio import Task
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import Any, Literal

from pydantic import Field

from tools.catalogue import Arguments
from tools.connection import LONGEST_PIPELINE, Command, CommandFailure, Connection, Reply
from tools.reading import FailureKind, Measured, NotMeasured

Answer = Reply | CommandFailure
Page = tuple[list[bytes], list[Answer]]
"""Names, and the answers to what was asked about them all, in its order."""
Ask = Callable[[Sequence[bytes]], Sequence[Command]]
Pace = Literal["gentle", "fast"]

FIRST_PAGE = 25
SMALLEST_PAGE = 10
GENTLE_PAGE, FAST_PAGE = 50, 200
"""The largest SCAN COUNT of each pace. A page is what everybody else has to wait for: with 50 keys
a probing client did not notice, with 1,000 its p99 was six times as long (a million keys, 7.0)."""
SLOW = 4.0
"""A page that takes this many times the best halves the next one."""
LONGEST_PAUSE = 0.02
"""Seconds before a page of the gentle pace, while the target is slow."""
CAME_HOME = "the cursor came home: every key was visited"


class ScanArguments(Arguments):
    """Budget of a walk through the keyspace; it ends at whichever limit comes first."""

    seconds: float = Field(default=4.0, gt=0, le=120, description="Longest walk, in seconds.")
    keys: int = Field(default=200_000, ge=1, le=10_000_000, description="Most keys visited.")
    page: int = Field(
        default=FAST_PAGE,
        ge=SMALLEST_PAGE,
        le=500,
        description="Largest SCAN COUNT; pages shrink by themselves when the target slows down.",
    )


class Walk:
    """One walk. After `pages` ended: `seen`, `complete`, `stopped_because`, `seconds`."""

    def __init__(
        self,
        connection: Connection,
        budget: ScanArguments,
        only_type: str | None = None,
        pace: Pace = "gentle",
    ) -> None:
        self.seen = 0
        self.complete = False
        self.stopped_because = ""
        self.seconds = 0.0
        self.pace = pace
        self._connection = connection
        self._budget = budget
        self._filter: tuple[str, ...] = ("TYPE", only_type) if only_type else ()
        self._largest = min(budget.page, GENTLE_PAGE if pace == "gentle" else FAST_PAGE)
        self._count = min(FIRST_PAGE, self._largest)
        self._best = self._quickest = float("inf")
        """Seconds of a command, of a page."""
        self._pause = 0.0

    async def pages(self, ask: Ask) -> AsyncIterator[Page]:
        """Each page's names with the answers to `ask(names)`. The next SCAN rides along.

        At the fast pace the server has the next page while the caller works on this one. Raises
        CommandFailure only if the first page fails; later it ends the walk, in words.
        """
        started = time.monotonic()
        under_way = 1 if self.pace == "gentle" else 2
        found = 0
        pages: deque[tuple[list[bytes], Task[list[Answer]]]] = deque()
        scan: Task[Reply] | None = self._scan(b"0")
        try:
            while scan is not None or pages:
                if scan is not None and len(pages) < under_way:
                    cursor, names = _page(await scan)
                    found += len(names)
                    self.seconds = time.monotonic() - started
                    scan = self._scan(cursor) if self._goes_on(cursor, found) else None
                    pages.append((names, asyncio.ensure_future(self._round_trip(ask(names)))))
                    await asyncio.sleep(0)  # both are sent
                if scan is None or len(pages) == under_way:
                    names, answers = pages.popleft()
                    page = names, await answers
                    self.seen += len(names)
                    self.seconds = time.monotonic() - started
                    yield page
                    if self._pause and self.pace == "gentle":
                        await asyncio.sleep(self._pause)
        except CommandFailure as failure:
            if self.seen == 0:
                raise
            self.complete = False
            self.stopped_because = str(failure)
        finally:
            _forget([scan, *(answers for _, answers in pages)])

    def _scan(self, cursor: bytes) -> Task[Reply]:
        command: Command = ("SCAN", cursor, "COUNT", self._count, *self._filter)
        return asyncio.ensure_future(self._connection.execute(*command))

    async def _round_trip(self, commands: Sequence[Command]) -> list[Answer]:
        if not commands:
            return []
        started = time.perf_counter()
        answers = await in_round_trips(self._connection, commands)
        trip = time.perf_counter() - started
        self._best = min(self._best, trip / len(commands))
        self._quickest = min(self._quickest, trip)
        if trip > SLOW * max(self._quickest, self._best * len(commands)):
            self._count = max(SMALLEST_PAGE, self._count // 2)
            self._pause = min(2 * self._pause + trip, LONGEST_PAUSE)
        else:
            self._count = min(self._largest, self._count + FIRST_PAGE)
            self._pause = 0.0
        return answers

    def _goes_on(self, cursor: bytes, found: int) -> bool:
        if cursor == b"0":
            self.complete = True
            self.stopped_because = CAME_HOME
        elif found >= self._budget.keys:
            self.stopped_because = f"the budget of {self._budget.keys} keys was spent"
        elif self.seconds >= self._budget.seconds:
            self.stopped_because = f"the budget of {self._budget.seconds:g} s was spent"
        return not self.stopped_because


def _forget(tasks: Iterable[Task[Any] | None]) -> None:
    """What is under way is no longer waited for, and what failed was said already."""
    for task in filter(None, tasks):
        if not task.cancel() and not task.cancelled():
            task.exception()


def _page(scan: Answer) -> tuple[bytes, list[bytes]]:
    if not isinstance(scan, list) or len(scan) != 2 or not isinstance(scan[1], list):
        raise CommandFailure("error", "SCAN", "the reply is not a cursor and a page of keys")
    cursor = scan[0] if isinstance(scan[0], bytes) else b"0"
    names = [name for name in scan[1] if isinstance(name, bytes)]
    return cursor, list(dict.fromkeys(names))


def each(*questions: Command) -> Ask:
    """Asks these questions about every key; the name is their last argument."""
    return lambda names: [(*question, name) for name in names for question in questions]


def by_key(page: Page, questions: int = 1) -> Iterator[tuple[bytes, list[Answer]]]:
    """Each name with the answers to its questions."""
    names, answers = page
    return ((name, answers[at * questions : (at + 1) * questions]) for at, name in enumerate(names))


async def in_round_trips(
    connection: Connection, commands: Sequence[Command], most: int = LONGEST_PIPELINE
) -> list[Answer]:
    """Run commands, at most `most` in one round trip. Raises CommandFailure if the link is lost."""
    answers: list[Answer] = []
    for at in range(0, len(commands), most):
        answers += await connection.execute_many(commands[at : at + most])
    return answers


async def leaves_idle_time(connection: Connection) -> bool:
    """Whether length commands leave OBJECT IDLETIME alone: CLIENT NO-TOUCH is on (7.2+)."""
    try:
        return await connection.execute("CLIENT", "NO-TOUCH", "ON") == b"OK"
    except CommandFailure as failure:
        if failure.kind in ("connection_lost", "timeout"):
            raise
        return False


def whole(answer: Answer, tried: str) -> Measured[int]:
    """An integer reply, or why there is none."""
    if isinstance(answer, CommandFailure):
        return answer.as_not_measured()
    if isinstance(answer, int):
        return answer
    return gone(tried)


def word(answer: Answer, tried: str) -> Measured[str]:
    """A status reply, or why there is none."""
    if isinstance(answer, CommandFailure):
        return answer.as_not_measured()
    if isinstance(answer, bytes):
        return answer.decode("utf-8", "replace")
    return gone(tried)


def gone(tried: str) -> NotMeasured:
    """The key was deleted or expired between SCAN and the look."""
    return NotMeasured(not_measured=tried, because="the key was gone when it was looked at")


def would_touch(tried: str) -> NotMeasured:
    """Left alone on purpose: the look would reset the key's idle time."""
    return NotMeasured(
        not_measured=tried,
        because="it would reset OBJECT IDLETIME: this server or user has no CLIENT NO-TOUCH (7.2+)",
        failure="unknown_command",
    )


def fields(reply: Any) -> dict[str, Any]:
    """A flat RESP2 map (XINFO) as a dictionary. Names only: values stay as they came."""
    if not isinstance(reply, list):
        return {}
    pairs = zip(reply[::2], reply[1::2], strict=False)
    return {
        name.decode("utf-8", "replace"): value for name, value in pairs if isinstance(name, bytes)
    }


STOPPERS: frozenset[FailureKind] = frozenset({"busy", "loading", "masterdown", "auth"})
"""Failures that the next key will meet as well."""
