"""A walk over the keyspace with what it adds up: how it is done, and its pages counted."""

import re
import secrets
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from tools.census import Census
from tools.connection import Command, CommandFailure, Connection, Reply, read_info
from tools.every_key import EveryKey
from tools.key_rows import Look
from tools.reading import Measured, NotMeasured
from tools.replies import decimal
from tools.scanner import (
    Pace,
    ScanArguments,
    Walk,
    in_round_trips,
    leaves_idle_time,
    selected_database,
    visited_share,
)

SAMPLED = 100_000
"""Keys of a random sample: their sizes."""
LOOKED_UP = 20_000
"""Of them, those of which type, TTL and idle time are asked as well."""
SAMPLE_SECONDS = 1.5
"""Longest that a sample is drawn."""
SPARE = 100.0
"""Commands a second: a primary that serves fewer can spare a core for some seconds."""


_RESUME = re.compile(r"[0-9a-f]{40}:[0-9]{1,20}(:[0-9]{1,9})?")
"""Run id, cursor, and the database unless it is the first."""


def _is_resume(text: str) -> str:
    if text and not _RESUME.fullmatch(text):
        raise ValueError("not the `resume` of a reading")
    return text


class SurveyArguments(ScanArguments):
    """Budget of the walk, and how it is done."""

    mode: Literal["exact", "sampled"] = Field(
        default="exact",
        description="`exact` sizes every key within the budget; `sampled` a random sample, and "
        "tells the shares of all keys with their bounds, in a second or two.",
    )
    pace: Pace = Field(
        default="gentle",
        description="`fast` takes a core of the server; kept only for replicas and idle servers.",
    )
    every_key: bool = Field(
        default=False,
        description="Type, TTL, idle time and length of every key, not of a sample: four keyspace "
        "hits each.",
    )
    resume: Annotated[str, AfterValidator(_is_resume)] = Field(
        default="", description="`resume` of an exact walk that was stopped: go on there."
    )


@dataclass
class Survey:
    """One of them. `every`: what is asked of every key besides its size."""

    walk: Walk
    census: Census
    every: EveryKey | None = None
    is_sample: bool = False
    """Its keys are a random sample, each drawn by the census."""
    is_mixed: bool = False
    """Another server has answered from some page on."""
    _asked: deque[int] = field(default_factory=deque)
    """Of each page under way: how many commands are the census's."""

    async def run(self, connection: Connection) -> None:
        """Until the walk ends. Raises CommandFailure if its first page fails."""
        async for names, answers in self.walk.pages(self._ask):
            if (stopper := self._take(names, answers)) is not None:
                self.walk.stopped_because = str(stopper)
                return
        if self.walk.is_cut_off:
            return
        try:  # what was to be asked with the next page, when there was none any more
            self._take([], await in_round_trips(connection, self._ask(())))
        except CommandFailure as failure:
            self.walk.stopped_because += f"; the last keys were not looked at: {failure}"

    def resume(self, info: dict[str, str], db: int = 0) -> str:
        """Where to go on; empty if nothing is left, or if the server tells no such place."""
        cursor = self.walk.cursor.decode("ascii", "replace")
        place = f"{info.get('run_id', '')}:{cursor}" + (f":{db}" if db else "")
        goes_on = not self.walk.complete and not self.is_sample and not self.is_mixed
        return place if goes_on and _RESUME.fullmatch(place) else ""

    def largest(self) -> list[tuple[bytes, int]]:
        """Keys with most bytes first, and those with most elements that are not among them."""
        largest = self.census.largest()
        known = {name for name, _ in largest}
        longest = [] if self.every is None else self.every.longest
        return largest + [(name, size) for _, name, size in longest if name not in known]

    def fill_in(self, looks: Sequence[Look]) -> None:
        """Lengths that were read already, where another look would reset the key's idle time."""
        longest = {} if self.every is None else {n: length for length, n, _ in self.every.longest}
        for look in looks:
            if isinstance(look.elements, NotMeasured) and look.key in longest:
                look.elements = longest[look.key]

    def _ask(self, names: Sequence[bytes]) -> Sequence[Command]:
        asked = self.census.ask(names)
        self._asked.append(len(asked))
        return [*asked, *self.every.ask(names)] if self.every else asked

    def _take(
        self, names: list[bytes], answers: list[Reply | CommandFailure]
    ) -> CommandFailure | None:
        mine = self._asked.popleft()
        if self.every is None:
            return self.census.take((names, answers))
        self.every.take(names, answers[: len(names)], answers[mine:])
        return self.census.take((names, answers[:mine]))


async def prepared(
    connection: Connection, args: SurveyArguments, info: dict[str, str], total: Measured[int]
) -> Survey:
    """From INFO memory, keyspace and server, and DBSIZE. Raises CommandFailure."""
    few = isinstance(total, int) and total <= 2 * SAMPLED
    sampled = args.mode == "sampled" and not few
    budget: ScanArguments = args
    if sampled:
        bounds = {"keys": min(args.keys, SAMPLED), "seconds": min(args.seconds, SAMPLE_SECONDS)}
        budget = args.model_copy(update=bounds)
    pace, because = await _pace(connection, args.pace)
    walk = Walk(
        connection,
        budget,
        pace=pace,
        start=_start(args, sampled=sampled),
        wraps=sampled,
        draw=sampled and is_cluster(info),
        questions=4 if args.every_key else 1,
        expected=_left(total, args, info) if isinstance(total, int) else None,
    )
    walk.remarks += because
    expected = min(total, budget.keys) if isinstance(total, int) else budget.keys
    idles = keeps_idle_times(info)
    census = Census(expected, idles=idles)
    if sampled:
        census = Census(expected, sample=LOOKED_UP, keep=True, idles=idles)
    every = await _every_key(connection, info) if args.every_key else None
    return Survey(walk, census, every, is_sample=sampled)


def keeps_idle_times(info: dict[str, str]) -> bool:
    """Whether OBJECT IDLETIME tells anything.

    Under LFU it is an error reply for each key, and a replica does not know what is read from its
    primary.
    """
    return not info.get("maxmemory_policy", "").endswith("-lfu") and info.get("role") != "slave"


def is_cluster(info: dict[str, str]) -> bool:
    """Whether the server is in cluster mode, where SCAN goes slot by slot."""
    return "cluster" in (info.get("redis_mode"), info.get("server_mode"))


def _left(total: int, args: SurveyArguments, info: dict[str, str]) -> int:
    """How many keys are still to come."""
    if not args.resume or is_cluster(info):  # there it goes slot by slot
        return total
    return round(total * (1 - visited_share(int(args.resume.split(":")[1]))))


def _start(args: SurveyArguments, *, sampled: bool) -> bytes:
    if sampled:  # from the same place every sample would have the same keys
        return str(1 + secrets.randbits(48)).encode()
    return args.resume.split(":")[1].encode() if args.resume else b"0"


async def refused_resume(
    connection: Connection, args: SurveyArguments, info: dict[str, str]
) -> NotMeasured | None:
    """Why a walk cannot go on there; None: it can. Raises CommandFailure."""
    if not args.resume:
        return None
    run_id, _, *rest = args.resume.split(":")
    because = ""
    if run_id != info.get("run_id"):
        because = "the server was started again since: its cursors mean nothing any more"
    elif int(rest[0] if rest else 0) != await _database(connection):
        because = "it was a walk over another database"
    if not because:
        return None
    return NotMeasured(
        not_measured="the rest of a walk", because=because, remedy="begin anew, without `resume`"
    )


async def ended(connection: Connection, survey: Survey, info: dict[str, str]) -> str:
    """What to say of it when it is over: where to go on, or that two servers have answered."""
    walk = survey.walk
    try:
        again = await read_info(connection, "server")
        if again.get("run_id") != info.get("run_id"):
            # Links are made again: the next server answers any cursor, in an order of its own.
            survey.is_mixed, walk.complete = True, False
            walk.stopped_because = (
                "the server was started again meanwhile, or another took its place: keys may have "
                "been missed, or seen twice"
            )
        db = await _database(connection) if survey.resume(info) else 0
    except CommandFailure:  # it is gone; in another database the place will be refused
        db = 0
    return survey.resume(info, db)


async def _database(connection: Connection) -> int:
    """Its number; the first, if the user may not know."""
    try:
        return await selected_database(connection) or 0
    except CommandFailure as failure:
        if failure.kind in ("connection_lost", "timeout"):
            raise
        return 0


async def _pace(connection: Connection, wanted: Pace) -> tuple[Pace, list[str]]:
    """The pace that the server can spare, and what to say of it."""
    if wanted == "gentle":
        return "gentle", []
    info = await read_info(connection, "replication", "stats")
    serves = decimal(info.get("instantaneous_ops_per_sec", "").encode())
    if info.get("role") == "slave" or (serves is not None and serves < SPARE):
        return "fast", []
    busy = "an unknown number of" if serves is None else f"{serves:,.0f}"
    return "gentle", [f"a primary that serves {busy} commands a second is walked gently"]


async def _every_key(connection: Connection, info: dict[str, str]) -> EveryKey:
    policy = info.get("maxmemory_policy", "")
    untouched = await leaves_idle_time(connection)
    # Without CLIENT NO-TOUCH a length command makes a key look used: harmless only where nothing
    # is evicted by that.
    lengths = untouched or not policy.endswith(("-lru", "-lfu"))
    return EveryKey(lengths=lengths, idles=keeps_idle_times(info))
