"""`encodings`: how keys of each prefix are encoded, and what other shapes of data would save."""

import asyncio
import re
import secrets
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import Field

from tools.advice import Limits, Saving, advised
from tools.configuration import setting
from tools.connection import Command, CommandFailure, Connection, read_info
from tools.costs import Key
from tools.key_rows import GONE, LENGTH_OF
from tools.prefixes import OTHER, Prefixes
from tools.reading import Measured, NotMeasured, Reading, printable
from tools.scanner import STOPPERS, Answer, ScanArguments, Walk, in_round_trips, leaves_idle_time
from tools.survey import is_cluster

SAMPLED = 2_000
ROWS = 50
ADVICE = 20
PREFIXES = 100
LIMITS = (
    "hash-max-listpack-entries", "hash-max-ziplist-entries", "hash-max-listpack-value",
    "hash-max-ziplist-value", "zset-max-listpack-entries", "zset-max-ziplist-entries",
    "zset-max-listpack-value", "zset-max-ziplist-value", "set-max-intset-entries",
    "set-max-listpack-entries", "list-max-listpack-size", "list-max-ziplist-size",
)  # fmt: skip


class EncodingRow(Reading):
    """The sampled keys of one prefix, type and encoding."""

    prefix: str
    type: str
    encoding: str
    keys: int
    bytes: int
    elements: Measured[int]
    """Characters, of strings."""


class AdviceRow(Reading):
    """One change of how data is kept, and what it saves. Bytes are MEMORY USAGE of the sample."""

    change: str
    prefix: str
    type: str
    sampled: int
    """Keys that it would change, of those that were sampled."""
    now_bytes: int
    most_after_bytes: Measured[int]
    """After the change they hold no more; from what other keys of this server hold."""
    least_after_bytes: Measured[int]
    saved_bytes: Measured[int]
    """At least, over all keys of the database: what the sample saves, scaled up."""
    sure: str
    """What it rests on, and what nobody can know from here."""


class Encodings(Reading):
    """Encodings of a random sample of keys, and what to change."""

    keys_total: int
    """DBSIZE"""
    keys_seen: int
    stopped_because: str
    bytes_seen: int
    lookups: int
    """Keyspace hits that this look has caused."""
    rows: list[EncodingRow] = Field(max_length=ROWS)
    """Most bytes first."""
    advice: list[AdviceRow] = Field(max_length=ADVICE)
    """Most saved first, then what could not be measured."""


class EncodingsArguments(ScanArguments):
    """Budget of the sample: each key of it is five keyspace hits."""

    keys: int = Field(default=SAMPLED, ge=1, le=20_000, description="Most keys sampled.")
    lengths: bool = Field(
        default=False,
        description="Lengths also where reading them resets idle times (before 7.2); never where "
        "keys are evicted by their use.",
    )


async def encodings(connection: Connection, args: EncodingsArguments) -> Encodings | NotMeasured:
    """Encodings by prefix, and data-structure changes with the bytes they save, from a sample.

    Bytes are MEMORY USAGE; what a change saves is told from keys that are kept that way already.
    Values are never read. Source: SCAN or RANDOMKEY, MEMORY USAGE, TYPE, PTTL, OBJECT ENCODING,
    OBJECT IDLETIME, HLEN and its like, CONFIG GET.
    """
    info = await read_info(connection, "memory", "server")
    total = await connection.execute("DBSIZE")
    if not isinstance(total, int):
        return NotMeasured(
            not_measured="DBSIZE", because="the reply is not a number", failure="error"
        )
    sample = await _Sample.begun(connection, info.get("maxmemory_policy", ""), args.lengths)
    is_part = total > args.keys
    draw = is_part and is_cluster(info)
    start = str(1 + secrets.randbits(48)).encode() if is_part and not draw else b"0"
    walk = Walk(
        connection, args, start=start, wraps=is_part, draw=draw, questions=5, expected=total
    )
    async for names, answers in walk.pages(sample.ask):
        failure = await sample.take(names, answers)
        if failure is not None:
            walk.stopped_because = str(failure)
            break
    if not sample.keys and sample.failure is not None:
        return sample.failure.as_not_measured()
    keys = sample.named()
    scale = max(total / len(keys), 1.0) if keys else 1.0
    limits, refused = await _limits(connection)
    found = await asyncio.to_thread(advised, keys, limits, scale)
    words = [walk.stopped_because, *walk.remarks, *sample.remarks()]
    if refused is not None:
        words.append(f"limits of the compact encodings could not be read: {refused}")
    if connection.node.endswith("(slave)"):
        words.append("idle times are this replica's own: reads of its primary do not reach it")
    return Encodings(
        keys_total=total,
        keys_seen=len(keys),
        stopped_because="; ".join(words),
        bytes_seen=sum(key.size for key in keys),
        lookups=sample.lookups,
        rows=_rows(keys),
        advice=[_advice_row(one) for one in found[:ADVICE]],
    )


@dataclass
class _Sample:
    """Keys looked at so far."""

    connection: Connection
    idles: bool
    """Whether the policy keeps idle times."""
    lengths: bool
    """Whether lengths may be asked of keys that are not in use."""
    keys: dict[bytes, Key] = field(default_factory=dict)
    prefixes: Prefixes = field(default_factory=Prefixes)
    lookups: int = 0
    failure: CommandFailure | None = None
    left_alone: int = 0
    """Keys whose length would have reset their idle time."""

    @classmethod
    async def begun(cls, connection: Connection, policy: str, lengths: bool) -> "_Sample":
        may_touch = await leaves_idle_time(connection)
        evicts_by_use = policy.endswith(("-lru", "-lfu"))
        return cls(
            connection,
            idles=not policy.endswith("-lfu"),
            lengths=may_touch or (lengths and not evicts_by_use),
        )

    def ask(self, names: Sequence[bytes]) -> list[Command]:
        commands: list[Command] = [("MEMORY", "USAGE", name) for name in names]
        questions = [("OBJECT", "IDLETIME")] if self.idles else []
        for question in (*questions, ("OBJECT", "ENCODING"), ("TYPE",), ("PTTL",)):
            commands += [(*question, name) for name in names]
        return commands

    async def take(self, names: list[bytes], answers: list[Answer]) -> CommandFailure | None:
        """Count a page. A failure that every further key would meet is returned."""
        columns = [answers[at : at + len(names)] for at in range(0, len(answers), len(names) or 1)]
        if not self.idles:
            columns.insert(1, [None] * len(names))
        page = []
        for name, size, idle, encoding, kind, ttl in zip(names, *columns, strict=True):
            told = (idle, encoding, kind, ttl)
            self.lookups += sum(isinstance(one, bytes | int) for one in told)
            for one in (size, *told):
                if isinstance(one, CommandFailure):
                    self.failure = one
                    if one.kind in STOPPERS:
                        return one
            if isinstance(size, int) and isinstance(kind, bytes) and kind != b"none":
                key = Key(
                    name,
                    printable(kind),
                    printable(encoding) if isinstance(encoding, bytes) else "unknown",
                    size,
                    idle=idle if isinstance(idle, int) else None,
                    ttl=ttl / 1000 if isinstance(ttl, int) and ttl >= 0 else None,
                    stays=ttl == -1,
                )
                if ttl != GONE and name not in self.keys:
                    page.append(key)
        await self._measure(page)
        return None

    async def _measure(self, page: list[Key]) -> None:
        asked = []
        for key in page:
            self.prefixes.of(key.name).keys += 1
            self.keys[key.name] = key
            if key.type not in LENGTH_OF:
                continue
            if self.lengths or key.idle == 0:  # in use this very second, it stays so
                asked.append(key)
            else:
                self.left_alone += 1
        commands = [(LENGTH_OF[key.type], key.name) for key in asked]
        for key, length in zip(asked, await in_round_trips(self.connection, commands), strict=True):
            if isinstance(length, int):
                key.length = length
                self.lookups += 1
            elif isinstance(length, CommandFailure):
                self.failure = length

    def named(self) -> list[Key]:
        """The keys, each with its prefix."""
        found = self.prefixes.found(PREFIXES)
        names = {id(tally): prefix for prefix, tally in found.items()}
        for key in self.keys.values():
            key.prefix = names.get(id(self.prefixes.of(key.name)), OTHER)
        return list(self.keys.values())

    def remarks(self) -> list[str]:
        """What the sample does not tell."""
        words = []
        if self.left_alone:
            words.append(
                f"lengths of {self.left_alone} keys were left alone: reading them would reset "
                "idle times (no CLIENT NO-TOUCH before 7.2)"
            )
        if self.failure is not None:
            words.append(f"not everything could be read: {self.failure}")
        return words


async def _limits(connection: Connection) -> tuple[Limits, CommandFailure | None]:
    found: dict[str, int] = {}
    refused = None
    for name in LIMITS:
        value = await setting(connection, name)
        if isinstance(value, CommandFailure):
            refused = value
        elif re.fullmatch(r"-?[0-9]{1,18}", value):
            found[name] = int(value)
    return Limits(found), refused


def _rows(keys: Sequence[Key]) -> list[EncodingRow]:
    groups: defaultdict[tuple[bytes, str, str], list[Key]] = defaultdict(list)
    for key in keys:
        groups[key.prefix, key.type, key.encoding].append(key)
    rows = [
        EncodingRow(
            prefix=printable(prefix),
            type=kind,
            encoding=encoding,
            keys=len(group),
            bytes=sum(key.size for key in group),
            elements=_elements(group),
        )
        for (prefix, kind, encoding), group in groups.items()
    ]
    return sorted(rows, key=lambda row: (-row.bytes, row.prefix, row.type))[:ROWS]


def _elements(group: Sequence[Key]) -> Measured[int]:
    if any(key.length is None for key in group):
        return NotMeasured(not_measured="lengths", because="not every length was read")
    return sum(key.length or 0 for key in group)


def _advice_row(saving: Saving) -> AdviceRow:
    return AdviceRow(
        change=saving.change,
        prefix=printable(saving.prefix),
        type=saving.type,
        sampled=saving.sampled,
        now_bytes=saving.now,
        most_after_bytes=saving.most_after,
        least_after_bytes=saving.least_after,
        saved_bytes=saving.saved,
        sure=saving.sure,
    )
