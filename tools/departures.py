"""What is different now from what was kept of healthy times, and between which two looks. Pure.

Words (configuration, version, role, encodings) are compared with the newest look that had another
one. Levels (rates, clients, keys, shares) wander, so a change of one is told where every look since
some moment is beyond every look before it, by a ratio and by a floor: what a target does every day
is among the looks before it once they span a day.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from math import inf
from typing import Generic, TypeVar

from tools.permissions import READ_COMMANDS
from tools.shape import MOST_COMMANDS, KeyShape, ServerShape

LEAST_BEFORE = 3
"""Looks before a change of level: fewer do not show what is usual."""
RATIO = 2.0
RATIO_OF_LESS_THAN_A_DAY = 4.0
"""Where the looks before it span less than a day: most traffic that follows the hours of the day
stays within it."""
LEAST_SECONDS = 600
"""Between two looks, for a rate of bytes: in less time our own looks would be a part of it."""
A_DAY = timedelta(hours=22)
"""Of looks an hour or more apart."""
FLOORS = {
    "per_second": 50.0,
    "bytes_per_second": 100 * 1024.0,
    "clients": 10.0,
    "keys": 1_000.0,
    "share": 0.1,
}
"""Less is no news on any server (`METRICS` of tools/metric_history.py has the same)."""
LEAST_SAMPLED = 100
MOST_UNTOLD = 0.05
"""Share of a sample whose groups were left out: it could be any prefix's."""
SURE = 0.9
"""Share of a group's keys with one encoding, for the group to have that encoding."""
LEAST_GROUP = 50
_SAME_ENCODING = {"ziplist": "listpack"}
"""Redis 7 renamed it; what is kept is no different for the keys' owner."""
_OURS_OF_6_2 = {name.partition("|")[0] for name in READ_COMMANDS if "|" in name}
"""Which counts `MEMORY USAGE` as `memory`."""

T = TypeVar("T")
Shape = TypeVar("Shape", ServerShape, KeyShape)


@dataclass(frozen=True)
class Look(Generic[T]):
    """What a look saw; None: it could not say."""

    at: datetime
    value: T | None
    began: datetime | None = None
    """Of a mean: over the time from then on."""
    at_least: bool = False
    """It may be more."""


@dataclass(frozen=True)
class Departure(Generic[T]):
    """It was so, and is so now; it changed between the two looks."""

    before: T
    after: T
    last_before: datetime
    first_after: datetime


def earlier(kept: Sequence[Shape], now: Shape) -> list[Shape]:
    """Those of a clock that ran ahead are of no known moment."""
    return [shape for shape in kept if shape.at < now.at]


def word(looks: Sequence[Look[str]]) -> Departure[str] | None:
    """Of the newest value, oldest look first: since when it is not the other one any more."""
    known = [look for look in looks if look.value is not None]
    if not known:
        return None
    now = known[-1]
    for older, newer in zip(known[-2::-1], known[:0:-1], strict=True):
        if older.value != now.value:
            return Departure(str(older.value), str(now.value), older.at, newer.at)
    return None


def level(
    looks: Sequence[Look[float]], floor: float, *, short: bool = False
) -> Departure[float] | None:
    """The newest moment from which on all looks are beyond all before it.

    `before` and `after` are what is nearest: at most (or least) so much before, at least (or most)
    so much since. `short`: the last look was one of seconds, in which any server may be busy.
    A mean before it may hold the first of the change, so that lies after where that mean began.
    """
    known = [look for look in looks if look.value is not None]
    least = [look.value or 0.0 for look in known]
    most = [inf if look.at_least else v for look, v in zip(known, least, strict=True)]
    for at in range(len(known) - 1, LEAST_BEFORE - 1, -1):
        last = known[at - 1]
        span = last.at - known[0].at
        ratio = RATIO if span >= A_DAY else RATIO_OF_LESS_THAN_A_DAY
        if short and at == len(known) - 1:
            ratio = max(ratio, RATIO_OF_LESS_THAN_A_DAY)
        for low, high, falls in (
            (max(most[:at]), min(least[at:]), False),
            (max(most[at:]), min(least[:at]), True),
        ):
            if high >= ratio * low and high - low >= floor:
                was, now = (high, low) if falls else (low, high)
                return Departure(was, now, last.began or last.at, known[at].at)
    return None


def rates(
    shapes: Sequence[ServerShape],
    counter: Callable[[ServerShape], int | None],
    least_seconds: float = 0,
) -> list[Look[float]]:
    """Of a counter: between each two looks at one process, at the time of the later one."""
    found = []
    for first, last in pairwise(shapes):
        seconds = (last.at - first.at).total_seconds()
        was, now = counter(first), counter(last)
        value = None
        same = first.run_id == last.run_id != "" and not _reset(first, last)
        if same and was is not None and now is not None and now >= was and seconds > least_seconds:
            value = (now - was) / seconds
        found.append(Look(last.at, value, first.at))
    return found


def _reset(first: ServerShape, last: ServerShape) -> bool:
    """CONFIG RESETSTAT sets all counters back together: one that fell condemns all."""
    return any(
        now.get(name, was) < was
        for counts, now in ((first.counters, last.counters), (first.calls, last.calls))
        for name, was in counts.items()
    )


def is_ours(command: str) -> bool:
    """Whether our looks send it as well: what is counted while we look is ours, too."""
    return command in READ_COMMANDS or command in _OURS_OF_6_2


def all_calls(shape: ServerShape) -> int | None:
    """Of every command that is not one of ours."""
    return sum(n for name, n in shape.calls.items() if not is_ours(name)) if shape.calls else None


def calls(shape: ServerShape, command: str) -> int | None:
    """How often it was called; None where rarer commands were left out."""
    if command in shape.calls or len(shape.calls) < MOST_COMMANDS:
        return shape.calls.get(command, 0) if shape.calls else None
    return None


def connected(shape: ServerShape, population: str) -> Look[float]:
    """How many clients of it; None where smaller populations were left out."""
    found = [one.count for one in shape.clients or () if one.client == population]
    is_told = shape.clients is not None and (found or shape.all_clients)
    value = float(sum(found)) if is_told else None
    return Look(shape.at, value, at_least=not shape.to_its_end)


def keys(shape: ServerShape, database: str) -> int | None:
    """In one database; a server without keys lists none."""
    return None if shape.keys is None else shape.keys.get(database, 0)


def flow(shape: ServerShape, name: str) -> int | None:
    """A counter of INFO stats."""
    return shape.counters.get(name)


def floor_of(flow_name: str) -> float:
    """The smallest change of it that is told."""
    return FLOORS["bytes_per_second" if "bytes" in flow_name else "per_second"]


def share(shape: KeyShape, prefix: str) -> float | None:
    """Of the sampled keys. None where the sample cannot tell this prefix from others.

    Prefixes are found anew in each sample: longer ones are parts of this one, and a shorter one may
    hold it.
    """
    told = sum(group.keys for group in shape.groups)
    if shape.sampled < LEAST_SAMPLED or told < (1 - MOST_UNTOLD) * shape.sampled:
        return None
    found = 0
    for group in shape.groups:
        if group.prefix.startswith(prefix):
            found += group.keys
        elif prefix.startswith(group.prefix):
            return None
    return found / shape.sampled


def encoding(shape: KeyShape, prefix: str, kind: str) -> str | None:
    """That nearly all sampled keys of the prefix and type have."""
    found: dict[str, int] = {}
    for group in shape.groups:
        if group.prefix == prefix and group.type == kind:
            name = _SAME_ENCODING.get(group.encoding, group.encoding)
            found[name] = found.get(name, 0) + group.keys
    total = sum(found.values())
    most = max(found, key=lambda name: found[name], default="")
    return most if total >= LEAST_GROUP and found[most] >= SURE * total else None


def named(shapes: Iterable[Iterable[str]]) -> list[str]:
    """Every name once, those of the newest shape first."""
    return list(dict.fromkeys(name for names in reversed(list(shapes)) for name in names))
