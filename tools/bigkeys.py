"""`bigkeys`: which keys and prefixes hold the bytes. Every key's MEMORY USAGE; the rest sampled."""

import heapq
import math
import statistics
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import Field

from tools.connection import Command, CommandFailure, Connection, read_info
from tools.key_rows import GONE, Look, look_closer, mean_length, unlooked
from tools.keyspace import (
    NO_STRINGS,
    BigKeys,
    PrefixRow,
    TypeRow,
    without_ttl_share,
)
from tools.prefixes import Prefixes, Tally
from tools.reading import Measured, NotMeasured, printable
from tools.scanner import (
    STOPPERS,
    Answer,
    Pace,
    Page,
    ScanArguments,
    Walk,
    in_round_trips,
    leaves_idle_time,
)

TOP = 100
CANDIDATES = 200
"""The largest by bytes; the largest by elements are looked for among them."""
SAMPLE = 2_000
"""Keys whose type, TTL and idle time are read: three keyspace hits each."""
STRINGS = 500
"""Strings whose length is read."""
PREFIXES = 100
_QUESTIONS = (("OBJECT", "IDLETIME"), ("TYPE",), ("PTTL",))
"""The rest: three keyspace hits a key. Idle times first."""
ENOUGH = 10
"""Looked-up keys that tell a prefix's TTL share: rare prefixes get theirs too."""


class BigKeysArguments(ScanArguments):
    """Budget of the walk."""

    pace: Pace = Field(
        default="gentle",
        description="`fast` works a server's core to capacity: replicas and idle servers only.",
    )


async def bigkeys(connection: Connection, args: BigKeysArguments) -> BigKeys | NotMeasured:
    """Largest keys (bytes, elements, TTL and idle seconds), bytes by prefix and by type.

    All keys of the selected database within the budget. Bytes are MEMORY USAGE estimates; type,
    TTL and idle time are read of the largest keys and of a sample.
    Source: SCAN, MEMORY USAGE, TYPE, PTTL, OBJECT IDLETIME, OBJECT ENCODING, HLEN and its like.
    """
    info = await read_info(connection, "memory", "keyspace", "server")
    total = await _dbsize(connection)
    census = Census(min(total if isinstance(total, int) else args.keys, args.keys))
    walk = Walk(connection, args, pace=args.pace)
    async for page in walk.pages(census.ask):
        if (stopper := census.take(page)) is not None:
            walk.stopped_because = str(stopper)
            break
    else:
        await _ask_the_last(connection, census, walk)
    if census.failure is not None and not census.keys:
        return census.failure.as_not_measured()
    strings = census.strings()
    mean_value: Measured[float]
    try:
        may_touch = await leaves_idle_time(connection)
        closer = await look_closer(connection, census.largest(), may_touch)
        mean_value = await mean_length(connection, strings, may_touch)
        census.lookups += closer.lookups + (len(strings) if may_touch else 0)
        looks = closer.looks
    except CommandFailure as failure:  # what the walk saw is kept
        looks = unlooked(census.largest(), failure)
        mean_value = failure.as_not_measured()
        walk.stopped_because += f"; the largest keys were not looked at: {failure}"
    return _reading(census, walk, looks, total, mean_value, info)


async def _ask_the_last(connection: Connection, census: "Census", walk: Walk) -> None:
    """What was to be asked with the next page, when there was none any more."""
    try:
        census.take(([], await in_round_trips(connection, census.ask(()))))
    except CommandFailure as failure:
        walk.stopped_because += f"; the last keys were not looked at: {failure}"


def _reading(
    census: "Census",
    walk: Walk,
    looks: list[Look],
    total: Measured[int],
    mean_value: Measured[float],
    info: dict[str, str],
) -> BigKeys:
    dataset = _dataset(info)
    rows = [look.row(dataset) for look in looks]
    counted = [(row.elements, row) for row in rows if isinstance(row.elements, int)]
    counted = [(elements, row) for elements, row in counted if row.type != "string"]
    counted.sort(key=lambda item: -item[0])
    return BigKeys(
        keys_total=total,
        keys_seen=census.keys,
        coverage=_coverage(census.keys, total),
        complete=walk.complete and census.unsized == 0,
        stopped_because=_words(census, walk, total, info),
        seconds=round(walk.seconds, 3),
        bytes_seen=census.bytes,
        dataset_bytes=dataset,
        mean_value_bytes=mean_value,
        mean_value_bytes_at_most=census.mean_value_at_most(),
        mean_key_bytes=(
            census.bytes / census.keys
            if census.keys
            else NotMeasured(not_measured="MEMORY USAGE", because="the database holds no keys")
        ),
        without_ttl_share=census.without_ttl_share(),
        top_by_bytes=rows[:TOP],
        top_by_elements=[row for _, row in counted[:TOP]],
        prefixes=[
            _prefix_row(prefix, tally, census)
            for prefix, tally in census.prefixes.found(PREFIXES).items()
        ],
        types=_types(census, looks),
        looked_up=census.looked_up,
        lookups=census.lookups,
    )


def _coverage(keys: int, total: Measured[int]) -> Measured[float]:
    if isinstance(total, NotMeasured):
        return total
    return min(keys / total, 1.0) if total else 1.0


def _words(census: "Census", walk: Walk, total: Measured[int], info: dict[str, str]) -> str:
    """Why the walk ended, and what its numbers do not cover."""
    words = [walk.stopped_because]
    if census.unsized:
        words.append(f"{census.unsized} keys could not be sized: {census.failure}")
    if census.ttl_failure is not None:
        words.append(f"TTLs could not be read: {census.ttl_failure}")
    others = sum(name.startswith("db") and name[2:].isdecimal() for name in info)
    others -= total != 0  # INFO keyspace lists no empty database
    if others > 0:
        words.append(f"{others} other databases hold keys and were not walked")
    if not walk.complete and "cluster" in (info.get("redis_mode"), info.get("server_mode")):
        words.append("in cluster mode SCAN goes slot by slot: what was seen is no random sample")
    return "; ".join(words)


async def _dbsize(connection: Connection) -> Measured[int]:
    try:
        reply = await connection.execute("DBSIZE")
    except CommandFailure as failure:
        return failure.as_not_measured()
    if isinstance(reply, int):
        return reply
    return NotMeasured(not_measured="DBSIZE", because="the reply is not a number", failure="error")


def _dataset(info: dict[str, str]) -> Measured[int]:
    value = info.get("used_memory_dataset", "")
    if value.isdecimal():
        return int(value)
    return NotMeasured(
        not_measured="INFO memory used_memory_dataset",
        because="this server does not report used_memory_dataset",
    )


@dataclass(frozen=True)
class Drawn:
    """A key of the random sample."""

    type: str
    bytes: int
    stays: bool | None
    """Never expires; None: could not be read."""


class Census:
    """What the walk adds up, in bounded memory: the largest keys, prefixes, a sample."""

    def __init__(self, expected: int, *, sizes_only: bool = False) -> None:
        self.keys = 0
        self.bytes = 0
        self.looked_up = 0
        self.lookups = 0
        self.unsized = 0
        self.failure: CommandFailure | None = None
        """Why keys could not be sized (the last one's reason)."""
        self.prefixes = Prefixes()
        self.ttl_failure: CommandFailure | None = None
        self.sample: dict[bytes, Drawn] = {}
        """One key in `stride`: a random sample, since SCAN's order is random."""
        self._drawn: set[bytes] = set()
        self._few: list[tuple[bytes, int]] = []
        """Keys of prefixes of which few were looked at, with their bytes: asked with the next."""
        self._looks: deque[tuple[Sequence[bytes], list[tuple[bytes, int]]]] = deque()
        """Of each page that is under way: the keys of which more than the size is asked."""
        self._heap: list[tuple[int, bytes]] = []
        self._floor = -1
        self._stride = max(1, math.ceil(expected / SAMPLE))
        self._asked = 0
        self._sizes_only = sizes_only

    def ask(self, names: Sequence[bytes]) -> Sequence[Command]:
        """MEMORY USAGE of every key; the rest of one in `stride`, and of some of each prefix.

        The latter are asked with the next page: once more with no names, then, at the end.
        """
        sizes: list[Command] = [("MEMORY", "USAGE", name) for name in names]
        if self._sizes_only:
            return sizes
        drawn = names[self._stride - 1 - self._asked % self._stride :: self._stride]
        self._asked += len(names)
        self._drawn.update(drawn)
        few, self._few = self._few, []
        self._looks.append((drawn, few))
        looks = [*drawn, *(name for name, _ in few)]
        return sizes + [(*question, name) for name in looks for question in _QUESTIONS]

    def take(self, page: Page) -> CommandFailure | None:
        """Count a page. A failure that every further key would meet is returned."""
        names, answers = page
        of, floor = self.prefixes.of, self._floor
        seldom = not self._sizes_only and self.looked_up < 2 * SAMPLE
        for name, size in zip(names, answers, strict=False):
            if isinstance(size, int):
                tally = of(name)
                tally.keys += 1
                tally.bytes += size
                if seldom and tally.asked < ENOUGH and name not in self._drawn:
                    tally.asked += 1
                    self._few.append((name, size))
                if size > floor:
                    self._keep(name, size)
                    floor = self._floor
                self.keys += 1
                self.bytes += size
            elif isinstance(size, CommandFailure):
                self.failure = size
                self.unsized += 1
                if size.kind in STOPPERS:
                    return size
        if not self._sizes_only:
            self._look(names, answers)
        return None

    def _keep(self, key: bytes, size: int) -> None:
        heapq.heappush(self._heap, (size, key))
        if len(self._heap) > CANDIDATES:
            heapq.heappop(self._heap)
            self._floor = self._heap[0][0]

    def _look(self, names: Sequence[bytes], answers: Sequence[Answer]) -> None:
        drawn, few = self._looks.popleft()
        sizes = dict(zip(names, answers, strict=False)) if drawn else {}
        at = len(names)
        for name, size in [*((name, sizes[name]) for name in drawn), *few]:
            if isinstance(size, int):
                self._see(name, size, *answers[at : at + len(_QUESTIONS)])
            at += len(_QUESTIONS)

    def _see(self, key: bytes, size: int, idle: Answer, kind: Answer, ttl: Answer) -> None:
        self.lookups += 3
        if kind == b"none" or ttl == GONE:
            return
        self.looked_up += 1
        tally = self.prefixes.of(key)
        if isinstance(idle, int):
            tally.idles.append(idle)
        if isinstance(kind, bytes):
            tally.types.add(printable(kind))
        if isinstance(ttl, int):
            tally.ttls.append(ttl / 1000 if ttl >= 0 else -1)
        elif isinstance(ttl, CommandFailure):
            self.ttl_failure = ttl
        if key in self._drawn:
            self.sample[key] = Drawn(
                printable(kind) if isinstance(kind, bytes) else "unknown",
                size,
                ttl < 0 if isinstance(ttl, int) else None,
            )

    def strings(self) -> list[bytes]:
        """Some strings of the sample."""
        return [key for key, drawn in self.sample.items() if drawn.type == "string"][:STRINGS]

    def mean_value_at_most(self) -> Measured[float]:
        """Mean MEMORY USAGE less key length of the sampled strings: their values hold no more."""
        strings = [(k, drawn) for k, drawn in self.sample.items() if drawn.type == "string"]
        if not strings:
            return NO_STRINGS
        return statistics.fmean(max(drawn.bytes - len(key), 0) for key, drawn in strings)

    def without_ttl_share(self) -> float | None:
        """Share of the random sample that never expires."""
        stays = [drawn.stays for drawn in self.sample.values() if drawn.stays is not None]
        return sum(stays) / len(stays) if stays else None

    def largest(self) -> list[tuple[bytes, int]]:
        """Keys with most bytes first. SCAN may have shown one twice; it is listed once."""
        largest = sorted(self._heap, key=lambda item: (-item[0], item[1]))
        return list({key: size for size, key in largest}.items())


def _types(census: Census, looks: list[Look]) -> list[TypeRow]:
    """Bytes and keys by type: the largest keys one by one, the others scaled up from the sample."""
    keys: Counter[str] = Counter()
    size_of: Counter[str] = Counter()
    largest = dict(census.largest())
    for look in looks:
        kind = look.type if isinstance(look.type, str) else "unknown"
        keys[kind] += 1
        size_of[kind] += largest[look.key]
    body_keys = max(census.keys - keys.total(), 0)
    body_bytes = max(census.bytes - size_of.total(), 0)
    body = [drawn for key, drawn in census.sample.items() if key not in largest]
    drawn_bytes = sum(drawn.bytes for drawn in body) or 1
    for kind in sorted({drawn.type for drawn in body}):
        sizes = [drawn.bytes for drawn in body if drawn.type == kind]
        keys[kind] += round(body_keys * len(sizes) / len(body))
        size_of[kind] += round(body_bytes * sum(sizes) / drawn_bytes)
    return [
        TypeRow(
            type=kind,
            keys=keys[kind],
            bytes=size,
            share_of_bytes=size / census.bytes if census.bytes else 0.0,
        )
        for kind, size in size_of.most_common()
    ]


def _prefix_row(prefix: bytes, tally: Tally, census: Census) -> PrefixRow:
    idle: Measured[float] = NotMeasured(
        not_measured="OBJECT IDLETIME", because="no key of this prefix told its idle time"
    )
    return PrefixRow(
        prefix=printable(prefix),
        keys=tally.keys,
        bytes=tally.bytes,
        share_of_bytes=tally.bytes / census.bytes if census.bytes else 0.0,
        mean_bytes=tally.bytes / tally.keys,
        types=sorted(tally.types),
        without_ttl_share=without_ttl_share(tally, census.ttl_failure),
        median_idle_seconds=statistics.median(tally.idles) if tally.idles else idle,
    )
