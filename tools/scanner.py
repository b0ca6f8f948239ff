"""Walks the keyspace in bounded, pipelined SCAN pages. Gentle: the page bounds the damage.

What we found by trying, on 6.2, 7.0, 8.2 and Valkey 9.1: SCAN and MEMORY USAGE leave no trace.
TYPE, PTTL, OBJECT and length commands count as keyspace hits on every one of them, also under
CLIENT NO-TOUCH: so they are asked for a bounded sample only and every reading says how many.
Length commands and XINFO also reset OBJECT IDLETIME unless CLIENT NO-TOUCH (7.2) is on.
"""

import asyncio
import re
import time
from asyncio import Task
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import Any, Literal

from pydantic import Field

from tools.catalogue import Arguments
from tools.connection import LONGEST_PIPELINE, Command, CommandFailure, Connection, Reply
from tools.progress import Progress, watch_of_walks
from tools.reading import FailureKind, Measured, NotMeasured

Answer = Reply | CommandFailure
_Visited = tuple[list[bytes], bytes, list[Answer]]
"""Names, the cursor behind them, answers."""
Page = tuple[list[bytes], list[Answer]]
"""Names, and the answers to what was asked about them all, in its order."""
Ask = Callable[[Sequence[bytes]], Sequence[Command]]
Pace = Literal["gentle", "fast"]

FIRST_PAGE = 25
SMALLEST_PAGE = 10
GENTLE_PAGE, FAST_PAGE = 50, 200
"""The largest SCAN COUNT of each pace. A page is what everybody else has to wait for: with 50 keys
a probing client did not notice, with 1,000 its p99 was six times as long (a million keys, 7.0)."""
UNDER_WAY = 2
"""Pages at the fast pace."""
SLOW = 4.0
"""A page that takes this many times the best halves the next one."""
NOTICED = 0.0005
"""Seconds: a page that takes less is no burden, however quick others were."""
LONGEST_PAUSE = 0.02
"""Seconds before a page of the gentle pace, while the target is slow."""
CAME_HOME = "the cursor came home: every key was visited"
REST_CAME_HOME = "the cursor came home: every key was visited that was left"


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
    server_seconds: float | None = Field(
        default=None, gt=0, le=120, description="Most time that the server may work on it."
    )


class Walk:
    """One walk. After `pages` ended: `seen`, `complete`, `stopped_because`, `seconds`, `cursor`.

    `start`: SCAN's cursor to begin with. `wraps`: from the end it goes on at the beginning; from a
    cursor at random, what is seen is a random sample then. `draw`: keys by RANDOMKEY instead, which
    are one in cluster mode too, where SCAN goes slot by slot.
    `questions`: how many about each key, if so many that pages had better be smaller.
    `expected`: keys of the database; whoever watches walks is told of this one then.
    """

    def __init__(
        self,
        connection: Connection,
        budget: ScanArguments,
        only_type: str | None = None,
        pace: Pace = "gentle",
        *,
        start: bytes = b"0",
        wraps: bool = False,
        draw: bool = False,
        questions: int = 1,
        expected: int | None = None,
    ) -> None:
        self.cursor = start
        """Where what was not visited begins."""
        self.server_seconds = 0.0
        """The server worked on it for no longer than that."""
        self.seen = 0
        self.complete = False
        self.is_cut_off = False
        """What was asked last was not answered."""
        self.stopped_because = ""
        self.remarks: list[str] = []
        """What else there is to say of it."""
        self.seconds = 0.0
        self.pace = pace
        self._connection = connection
        self._budget = budget
        self._filter: tuple[str, ...] = ("TYPE", only_type) if only_type else ()
        largest = (GENTLE_PAGE if pace == "gentle" else FAST_PAGE) // (1 if questions < 3 else 2)
        self._largest = max(SMALLEST_PAGE, min(budget.page, largest))
        self._start = start
        self._wraps = wraps
        self._draw = draw
        self._count = min(FIRST_PAGE, self._largest)
        self._best = self._quickest = float("inf")
        """Seconds of a command, of a page."""
        self._pause = 0.0
        self._trips = 0.0
        self._began = 0.0
        self._expected = expected
        self._watch = watch_of_walks()

    async def pages(self, ask: Ask) -> AsyncIterator[Page]:
        """Each page's names with the answers to `ask(names)`.

        Raises CommandFailure only if the first page fails; later it ends the walk, in words.
        """
        self._began = time.monotonic()
        source = self._one_by_one(ask) if self.pace == "gentle" else self._ahead(ask)
        try:
            async for names, cursor, answers in source:
                self.seen += len(names)
                self.cursor = cursor
                self.seconds = time.monotonic() - self._began
                self._tell()
                yield names, answers
        except CommandFailure as failure:
            if self.seen == 0:
                raise
            self.complete, self.is_cut_off = False, True
            self.stopped_because = str(failure)
        finally:
            self.server_seconds = min(self._trips, self.seconds)

    def _tell(self) -> None:
        if self._watch is None or self._expected is None:
            return
        expected = max(min(self._expected, self._budget.keys), self.seen)
        left = None
        if self.seconds > 0 and self.seen:
            left = (expected - self.seen) * self.seconds / self.seen
            left = min(left, max(self._budget.seconds - self.seconds, 0.0))
        self._watch.tell(Progress(self.seen, expected, self.seconds, left))

    async def _one_by_one(self, ask: Ask) -> AsyncIterator[_Visited]:
        """The next page is asked for together with the answers about this one."""
        found = 0
        following = await self._connection.execute_many(self._next(self._start))
        while following:
            cursor, names = self._page(following)
            found += len(names)
            after = self._next(cursor) if self._goes_on(cursor, found) else []
            answers = await self._round_trip([*ask(names), *after])
            at = len(answers) - len(after)
            yield names, cursor, answers[:at]
            following = answers[at:]
            if self._pause:
                await self._connection.wait(self._pause)

    async def _ahead(self, ask: Ask) -> AsyncIterator[_Visited]:
        """The server has the next page while the caller works on this one."""
        found = 0
        pages: deque[tuple[list[bytes], bytes, Task[list[Answer]]]] = deque()
        following: Task[list[Answer]] | None = self._send(self._next(self._start))
        try:
            while following is not None or pages:
                if following is not None and len(pages) < UNDER_WAY:
                    cursor, names = self._page(await following)
                    found += len(names)
                    goes_on = self._goes_on(cursor, found)
                    following = self._send(self._next(cursor)) if goes_on else None
                    pages.append((names, cursor, self._send(ask(names), timed=True)))
                    await asyncio.sleep(0)  # both are sent
                if following is None or len(pages) == UNDER_WAY:
                    names, cursor, answers = pages.popleft()
                    yield names, cursor, await answers
        finally:
            _forget([following, *(answers for *_, answers in pages)])

    def _send(self, commands: Sequence[Command], *, timed: bool = False) -> Task[list[Answer]]:
        trip = self._round_trip if timed else self._connection.execute_many
        return asyncio.ensure_future(trip(commands))

    def _next(self, cursor: bytes) -> list[Command]:
        """What the names of another page are asked with."""
        if self._draw:
            return [("RANDOMKEY",)] * self._count
        return [("SCAN", cursor, "COUNT", self._count, *self._filter)]

    def _page(self, replies: Sequence[Answer]) -> tuple[bytes, list[bytes]]:
        """The cursor behind it, and its names, each once. Raises CommandFailure."""
        for reply in replies:
            if isinstance(reply, CommandFailure):
                raise reply
        cursor: Answer = b"1"  # of keys at random there are always more
        names: Any = replies
        if not self._draw:
            (scan,) = replies
            if not isinstance(scan, list) or len(scan) != 2 or not isinstance(scan[1], list):
                raise CommandFailure("error", "SCAN", "the reply is not a cursor and keys")
            cursor, names = scan[0], scan[1]
        known = dict.fromkeys(name for name in names if isinstance(name, bytes))
        return cursor if isinstance(cursor, bytes) else b"0", list(known)

    async def _round_trip(self, commands: Sequence[Command]) -> list[Answer]:
        if not commands:
            return []
        started = self._connection.now()  # in a recording it stands still: nothing is slow there
        answers = await in_round_trips(self._connection, commands)
        trip = (self._connection.now() - started).total_seconds()
        self._trips += trip
        self._best = min(self._best, trip / len(commands))
        self._quickest = min(self._quickest, trip)
        if trip > max(SLOW * max(self._quickest, self._best * len(commands)), NOTICED):
            self._count = max(SMALLEST_PAGE, self._count // 2)
            self._pause = min(2 * self._pause + trip, LONGEST_PAUSE)
        else:
            self._count = min(self._largest, self._count + FIRST_PAGE)
            self._pause = 0.0
        return answers

    def _goes_on(self, cursor: bytes, found: int) -> bool:
        if cursor == b"0" and not self._wraps:
            self.complete = True
            self.stopped_because = CAME_HOME if self._start == b"0" else REST_CAME_HOME
        elif self._watch is not None and self._watch.is_over:
            self.stopped_because = "whoever waited for it has ended it"
        elif found >= self._budget.keys:
            self.stopped_because = f"the budget of {self._budget.keys} keys was spent"
        elif time.monotonic() - self._began >= self._budget.seconds:
            self.stopped_because = f"the budget of {self._budget.seconds:g} s was spent"
        elif self._budget.server_seconds is not None and (
            min(self._trips, time.monotonic() - self._began) >= self._budget.server_seconds
        ):
            self.stopped_because = (
                f"the budget of {self._budget.server_seconds:g} s of the server was spent"
            )
        return not self.stopped_because


def _forget(tasks: Iterable[Task[Any] | None]) -> None:
    """What is under way is no longer waited for, and what failed was said already."""
    for task in filter(None, tasks):
        if not task.cancel() and not task.cancelled():
            task.exception()


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


def visited_share(cursor: int) -> float:
    """Share of the keys that a walk from 0 has behind it at this cursor, outside cluster mode.

    The lowest bit counts most: SCAN counts upwards in reversed bits, however large the table is.
    """
    bits = f"{cursor:b}"
    return int(bits[::-1], 2) / (1 << len(bits))


async def selected_database(connection: Connection) -> int | None:
    """Its number; None: the server does not say. Raises CommandFailure. Source: CLIENT INFO."""
    reply = await connection.execute("CLIENT", "INFO")
    told = re.search(rb" db=(\d{1,9}) ", reply) if isinstance(reply, bytes) else None
    return int(told[1]) if told else None


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
