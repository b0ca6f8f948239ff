"""A closer look at single keys: type, TTL, idle time, encoding, length, a better size."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from tools.connection import Command, CommandFailure, Connection
from tools.keyspace import KeyRow
from tools.reading import Measured, NotMeasured, printable
from tools.scanner import Answer, gone, in_round_trips, whole, word, would_touch

LENGTH_OF: dict[str, str] = {
    "string": "STRLEN",
    "hash": "HLEN",
    "list": "LLEN",
    "set": "SCARD",
    "zset": "ZCARD",
    "stream": "XLEN",
}
GONE = -2
"""PTTL of a key that is not there."""
NO_IDLE_TIMES = NotMeasured(
    not_measured="OBJECT IDLETIME",
    because="kept as frequencies under LFU, and a replica does not see what its primary is asked",
    failure="disabled",
)
KEYS_AT_ONCE = 50
RESIZED = 20
"""Keys whose size is estimated again, from more samples."""
SAMPLES = 1_000
"""At most 1 ms of the server's time for one key."""


@dataclass
class Look:
    """What was read of one key."""

    key: bytes
    bytes: int
    type: Measured[str]
    ttl: Answer
    idle: Measured[int]
    encoding: Measured[str]
    elements: Measured[int]
    sampled: int = 5
    """Elements MEMORY USAGE looked at."""

    @property
    def exact(self) -> bool:
        """Whether the size was counted, not estimated."""
        return self.type == "string" or (
            isinstance(self.elements, int) and self.elements <= self.sampled
        )

    def row(self, dataset: Measured[int]) -> KeyRow:
        """As a reading."""
        share: Measured[float] = (
            (min(self.bytes / dataset, 1.0) if dataset else 0.0)
            if isinstance(dataset, int)
            else dataset
        )
        return KeyRow(
            key=printable(self.key),
            type=self.type if isinstance(self.type, str) else "unknown",
            bytes=self.bytes,
            bytes_are="exact" if self.exact else "estimated",
            elements=self.elements,
            ttl_seconds=ttl_seconds(self.ttl),
            encoding=self.encoding,
            idle_seconds=self.idle,
            share_of_dataset=share,
        )


@dataclass(frozen=True)
class CloserLook:
    """The keys that were still there, most bytes first."""

    looks: list[Look]
    lookups: int
    """Keyspace hits this cost the target."""


async def look_closer(
    connection: Connection,
    keys: Sequence[tuple[bytes, int]],
    may_touch: bool,
    *,
    idles: bool = True,
) -> CloserLook:
    """Look at keys (and their bytes). Raises CommandFailure if the link is lost.

    `idles`: whether this server keeps idle times; it does not under LFU.

    Idle times come first. Where lengths would reset them, only keys that are in use this very
    second are asked for theirs: their idle time is 0 and stays 0.
    """
    looks: list[Look] = []
    lookups = 0
    for at in range(0, len(keys), KEYS_AT_ONCE):
        page = await _first(connection, keys[at : at + KEYS_AT_ONCE], idles)
        lookups += (4 if idles else 3) * len(page)
        lookups += await _lengths(connection, page, may_touch)
        looks += page
    await _sizes(connection, looks[:RESIZED])
    looks.sort(key=lambda look: -look.bytes)
    return CloserLook(looks, lookups)


def unlooked(keys: Sequence[tuple[bytes, int]], failure: CommandFailure) -> list[Look]:
    """Keys of which only the size is known, and why."""
    why = failure.as_not_measured()
    return [
        Look(key, size, type=why, ttl=failure, idle=why, encoding=why, elements=why)
        for key, size in keys
    ]


async def _first(
    connection: Connection, keys: Sequence[tuple[bytes, int]], idles: bool
) -> list[Look]:
    questions = (("OBJECT", "IDLETIME"), ("OBJECT", "ENCODING"), ("TYPE",), ("PTTL",))
    asked = questions if idles else questions[1:]
    commands: list[Command] = [(*question, key) for key, _ in keys for question in asked]
    answers = await in_round_trips(connection, commands)
    looks = []
    for place, (key, size) in enumerate(keys):
        told = answers[len(asked) * place : len(asked) * (place + 1)]
        idle, encoding, kind, ttl = told if idles else [None, *told]
        if kind == b"none" or ttl == GONE:
            continue
        looks.append(
            Look(
                key=key,
                bytes=size,
                type=word(kind, "TYPE"),
                ttl=ttl,
                idle=whole(idle, "OBJECT IDLETIME") if idles else NO_IDLE_TIMES,
                encoding=word(encoding, "OBJECT ENCODING"),
                elements=kind.as_not_measured()
                if isinstance(kind, CommandFailure)
                else NotMeasured(
                    not_measured="length", because="no command tells the length of this type"
                ),
            )
        )
    return looks


async def _lengths(connection: Connection, looks: list[Look], may_touch: bool) -> int:
    asked = []
    for look in looks:
        command = LENGTH_OF.get(look.type) if isinstance(look.type, str) else None
        if command is None:
            continue
        if may_touch or look.idle == 0:
            asked.append((look, command))
        else:
            look.elements = would_touch(command)
    answers = await in_round_trips(connection, [(command, look.key) for look, command in asked])
    for (look, command), answer in zip(asked, answers, strict=True):
        look.elements = whole(answer, command)
    return len(asked)


async def _sizes(connection: Connection, looks: list[Look]) -> None:
    """Collections again with more samples, one a round trip: others get their turn between."""
    for look in looks:
        if look.exact:
            continue
        (answer,) = await connection.execute_many(
            [("MEMORY", "USAGE", look.key, "SAMPLES", SAMPLES)]
        )
        if isinstance(answer, int):
            look.bytes, look.sampled = answer, SAMPLES


async def mean_length(
    connection: Connection, strings: Sequence[bytes], may_touch: bool
) -> Measured[float]:
    """Mean STRLEN in bytes, where reading it leaves idle times alone."""
    if not strings:
        return NotMeasured(not_measured="STRLEN", because="no string was sampled")
    if not may_touch:
        return would_touch("STRLEN")
    answers = await in_round_trips(connection, [("STRLEN", key) for key in strings])
    lengths = [answer for answer in answers if isinstance(answer, int)]
    failure = next((answer for answer in answers if isinstance(answer, CommandFailure)), None)
    if not lengths and failure is not None:
        return failure.as_not_measured()
    # A key that was evicted or expired since it was sampled answers 0.
    return statistics.fmean([length for length in lengths if length] or [0])


def ttl_seconds(answer: Answer) -> Measured[float]:
    """PTTL's reply in seconds; -1: never expires."""
    if isinstance(answer, CommandFailure):
        return answer.as_not_measured()
    if not isinstance(answer, int) or answer == GONE:
        return gone("PTTL")
    return answer / 1000 if answer >= 0 else -1.0
