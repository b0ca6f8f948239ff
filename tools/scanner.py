"""Walks the keyspace in bounded, pipelined SCAN pages. Gentle: the page bounds the damage.

What we found by trying, on 6.2, 7.0, 8.2 and Valkey 9.1: SCAN and MEMORY USAGE leave no trace.
TYPE, PTTL, OBJECT and length commands count as keyspace hits on every one of them, also under
CLIENT NO-TOUCH: so they are asked for a bounded sample only and every reading says how many.
Length commands and XINFO also reset OBJECT IDLETIME unless CLIENT NO-TOUCH (7.2) is on.
"""

import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from pydantic import Field

from tools.catalogue import Arguments
from tools.connection import LONGEST_PIPELINE, Command, CommandFailure, Connection, Reply
from tools.reading import FailureKind, Measured, NotMeasured

Answer = Reply | CommandFailure
Answers = list[tuple[bytes, list[Answer]]]

FIRST_PAGE = 25
SMALLEST_PAGE = 10
SLOW = 4.0
"""A page that takes this many times the best time per command halves the next one."""
CAME_HOME = "the cursor came home: every key was visited"


class ScanArguments(Arguments):
    """Budget of a walk through the keyspace; it ends at whichever limit comes first."""

    seconds: float = Field(default=4.0, gt=0, le=120, description="Longest walk, in seconds.")
    keys: int = Field(default=200_000, ge=1, le=10_000_000, description="Most keys visited.")
    page: int = Field(
        default=100,
        ge=SMALLEST_PAGE,
        le=500,
        description="Largest SCAN COUNT; pages shrink by themselves when the target slows down.",
    )


class Walk:
    """One walk. After `pages` ended: `seen`, `complete`, `stopped_because`, `seconds`."""

    def __init__(
        self, connection: Connection, budget: ScanArguments, only_type: str | None = None
    ) -> None:
        self.seen = 0
        self.complete = False
        self.stopped_because = ""
        self.seconds = 0.0
        self._connection = connection
        self._budget = budget
        self._filter: tuple[str, ...] = ("TYPE", only_type) if only_type else ()
        self._count = min(FIRST_PAGE, budget.page)
        self._best = float("inf")

    async def pages(self, ask: Callable[[bytes], Sequence[Command]]) -> AsyncIterator[Answers]:
        """Each page's keys with the answers to `ask(key)`; the next SCAN rides along.

        Raises CommandFailure only if the first page fails; later it ends the walk, in words.
        """
        started = time.monotonic()
        scan: Answer = await self._connection.execute(*self._scan(b"0"))
        while True:
            cursor, names = _page(scan)
            home = cursor == b"0"
            questions = [ask(name) for name in names]
            commands: list[Command] = [command for asked in questions for command in asked]
            if not home:
                commands.append(self._scan(cursor))
            try:
                answers = await self._round_trip(commands)
            except CommandFailure as failure:
                self._lost(failure)
                self.seconds = time.monotonic() - started
                return
            self.seen += len(names)
            self.seconds = time.monotonic() - started
            yield _by_key(names, questions, answers)
            if self._ended(home, None if home else answers[-1]):
                return
            scan = answers[-1]

    def _scan(self, cursor: bytes) -> Command:
        return ("SCAN", cursor, "COUNT", self._count, *self._filter)

    async def _round_trip(self, commands: list[Command]) -> list[Answer]:
        if not commands:
            return []
        started = time.perf_counter()
        answers = await in_round_trips(self._connection, commands)
        each = (time.perf_counter() - started) / len(commands)
        if each > SLOW * self._best:
            self._count = max(SMALLEST_PAGE, self._count // 2)
        else:
            self._count = min(self._budget.page, self._count + FIRST_PAGE)
        self._best = min(self._best, each)
        return answers

    def _lost(self, failure: CommandFailure) -> None:
        if self.seen == 0:
            raise failure
        self.stopped_because = str(failure)

    def _ended(self, home: bool, scan: Answer) -> bool:
        if home:
            self.complete = True
            self.stopped_because = CAME_HOME
        elif isinstance(scan, CommandFailure):
            self.stopped_because = str(scan)
        elif self.seen >= self._budget.keys:
            self.stopped_because = f"the budget of {self._budget.keys} keys was spent"
        elif self.seconds >= self._budget.seconds:
            self.stopped_because = f"the budget of {self._budget.seconds:g} s was spent"
        return bool(self.stopped_because)


def _page(scan: Answer) -> tuple[bytes, list[bytes]]:
    if not isinstance(scan, list) or len(scan) != 2 or not isinstance(scan[1], list):
        raise CommandFailure("error", "SCAN", "the reply is not a cursor and a page of keys")
    cursor = scan[0] if isinstance(scan[0], bytes) else b"0"
    names = [name for name in scan[1] if isinstance(name, bytes)]
    return cursor, list(dict.fromkeys(names))


def _by_key(
    names: list[bytes], questions: list[Sequence[Command]], answers: list[Answer]
) -> Answers:
    at = 0
    page: Answers = []
    for name, asked in zip(names, questions, strict=True):
        page.append((name, answers[at : at + len(asked)]))
        at += len(asked)
    return page


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
