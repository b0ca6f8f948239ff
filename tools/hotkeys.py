"""The most frequently used keys: by the server's counts, or at least which are in use all along.

MONITOR would tell, and may halve what a server can do (redis.io/commands/monitor): it is never
used. HOTKEYS is only read, never started. What is left without an LFU policy are idle times, which
say whether a key was used within the last second: a key that is idle at none of several looks is
used all along. How often, they do not say.
"""

import heapq
import random
import secrets
from collections.abc import Sequence

from pydantic import Field

from tools.connection import Command, CommandFailure, Connection, read_info
from tools.hotkeys_command import CountedKey, counted_by_server
from tools.keyspace import HotKey
from tools.reading import Measured, NotMeasured, Reading, printable
from tools.scanner import STOPPERS, Answer, ScanArguments, Walk, by_key, each, in_round_trips
from tools.survey import is_cluster

__all__ = ["HotKey", "HotKeys", "HotKeysArguments", "KeysInUse", "hot_keys"]

HOTTEST = 10
MOST_KEYS = 20_000
LOOKS = 4
"""At keys that were in use when they were met."""
PAUSE = 1.1
"""Seconds between them: idle times are told in seconds."""
WATCHED = 1_000
CONTROLS = 20
"""Keys that were not in use are looked at again as well: their idle times have to grow."""
UNUSED = 5
"""Seconds."""


class KeysInUse(Reading):
    """Keys that were in use at every look, a second apart; which is used most is not known."""

    looks: int
    watched: int
    """Keys that were in use at the first look; at most a thousand of them, at random."""
    each_time: int
    """Of them, those that were in use each time."""
    keys: list[str]
    """At most ten of those."""


_NOT_ASKED: Measured[KeysInUse] = NotMeasured(
    not_measured="OBJECT IDLETIME", because="it was not asked", failure="disabled"
)


class HotKeys(Reading):
    """The keys used most, among those that were seen."""

    keys_seen: int
    complete: bool
    stopped_because: str
    lookups: int
    """Keyspace hits that this look has caused."""
    hottest: Measured[list[HotKey]]
    """Ten, most frequent first, by the counters of an LFU policy."""
    counted: Measured[list[CountedKey]] = NotMeasured(
        not_measured="HOTKEYS", because="it was not asked"
    )
    """By the server's HOTKEYS command."""
    in_use: Measured[KeysInUse] = _NOT_ASKED
    """By idle times, without an LFU policy."""


class HotKeysArguments(ScanArguments):
    """Budget of the walk; smaller than for sizes, since every key is looked up."""

    keys: int = MOST_KEYS
    in_use: bool = Field(
        default=False,
        description="Without an LFU policy, find keys that are in use all along: some seconds, and "
        "a keyspace hit for each key that is seen.",
    )


async def hot_keys(connection: Connection, args: HotKeysArguments) -> HotKeys | NotMeasured:
    """The ten keys used most often, by the server's own logarithmic counter (0-255).

    Redis counts this only under an LFU policy. Otherwise, with `in_use`: keys that are used all the
    time; and what HOTKEYS (Redis 8.6) has counted, if somebody started it. Source: INFO memory,
    SCAN, OBJECT FREQ or OBJECT IDLETIME, COMMAND INFO, HOTKEYS GET.
    """
    info = await read_info(connection, "memory", "replication", "server")
    counted = await counted_by_server(connection)
    policy = info.get("maxmemory_policy", "")
    look = _Look(connection, Walk(connection, args))
    hottest: Measured[list[HotKey]] = NotMeasured(
        not_measured="OBJECT FREQ",
        because=f"maxmemory-policy is {policy or 'unknown'}: frequency is counted under LFU",
        failure="disabled",
    )
    in_use = _NOT_ASKED
    if policy.endswith("-lfu"):
        look = await _Look.begun(connection, args, info)
        hottest = await look.frequencies()
    elif args.in_use:
        look = await _Look.begun(connection, args, info)
        in_use = await look.in_use()
    told = (hottest, counted, in_use)
    gone = [each for each in told if isinstance(each, NotMeasured)]
    if len(gone) == len(told):
        because = "; ".join(each.because for each in gone if each is not _NOT_ASKED)
        hint = "" if args.in_use else "`in_use` tells at least which keys are used all along"
        return gone[0].model_copy(update={"because": because, "remedy": gone[0].remedy or hint})
    walk = look.walk
    words = [walk.stopped_because or "no key was looked at", *walk.remarks]
    if info.get("role") == "slave":
        words.append("these are the replica's own counts: what its primary is asked is not in them")
    return HotKeys(
        keys_seen=walk.seen,
        complete=walk.complete,
        stopped_because="; ".join(words),
        lookups=look.lookups,
        hottest=hottest,
        counted=counted,
        in_use=in_use,
    )


class _Look:
    """At the keys of one walk."""

    def __init__(self, connection: Connection, walk: Walk) -> None:
        self.lookups = 0
        self.walk = walk
        self._connection = connection

    @classmethod
    async def begun(
        cls, connection: Connection, args: HotKeysArguments, info: dict[str, str]
    ) -> "_Look":
        """At all keys if they are few enough, else from somewhere: not at the same ones always."""
        total, remarks = None, []
        try:
            total = await connection.execute("DBSIZE")
        except CommandFailure as failure:
            remarks = [f"how many keys there are is not known: {failure}"]
        is_part = not isinstance(total, int) or total > args.keys
        draw = is_part and is_cluster(info)
        start = str(1 + secrets.randbits(48)).encode() if is_part and not draw else b"0"
        walk = Walk(
            connection, args, start=start, wraps=isinstance(total, int) and is_part, draw=draw
        )
        walk.remarks += remarks
        return cls(connection, walk)

    async def frequencies(self) -> Measured[list[HotKey]]:
        heap: list[tuple[int, bytes]] = []
        async for page in self.walk.pages(each(("OBJECT", "FREQ"))):
            for key, (frequency, *_) in by_key(page):
                if (failure := _stopper(frequency)) is not None:
                    return failure.as_not_measured()
                if isinstance(frequency, int):
                    self.lookups += 1
                    heapq.heappush(heap, (frequency, key))
                    if len(heap) > HOTTEST:
                        heapq.heappop(heap)
        rows = sorted(dict.fromkeys(heap), reverse=True)
        return [HotKey(key=printable(key), frequency=frequency) for frequency, key in rows]

    async def in_use(self) -> Measured[KeysInUse]:
        used: list[bytes] = []
        unused: dict[bytes, int] = {}
        met = 0
        draw = random.Random(secrets.randbits(64))  # noqa: S311 - which keys are watched
        async for page in self.walk.pages(each(("OBJECT", "IDLETIME"))):
            for key, (idle, *_) in by_key(page):
                if (failure := _stopper(idle)) is not None:
                    return failure.as_not_measured()
                if not isinstance(idle, int):
                    continue
                self.lookups += 1
                if idle >= UNUSED and len(unused) < CONTROLS:
                    unused[key] = idle
                if idle > 1:
                    continue
                met += 1
                if len(used) < WATCHED:
                    used.append(key)
                elif (place := draw.randrange(met)) < WATCHED:
                    used[place] = key
        return await self._watched(list(dict.fromkeys(used)), unused)

    async def _watched(self, used: list[bytes], unused: dict[bytes, int]) -> Measured[KeysInUse]:
        still = used
        for _ in range(LOOKS - 1):
            await self._connection.wait(PAUSE)
            if not still:
                break
            idles = await self._idles(still)
            # The clock of idle times ticks once a second: what was used just now may say 1.
            still = [
                key for key, idle in zip(still, idles, strict=True)
                if isinstance(idle, int) and idle <= 1
            ]  # fmt: skip
        if unused:
            idles = await self._idles(list(unused))
            known = zip(unused.values(), idles, strict=True)
            if all(isinstance(idle, int) and idle == before for before, idle in known):
                return NotMeasured(
                    not_measured="OBJECT IDLETIME",
                    because="idle times do not move: this is a recording, or they are made up",
                )
        return KeysInUse(
            looks=LOOKS,
            watched=len(used),
            each_time=len(still),
            keys=[printable(key) for key in sorted(still)[:HOTTEST]],
        )

    async def _idles(self, keys: Sequence[bytes]) -> list[Answer]:
        commands: list[Command] = [("OBJECT", "IDLETIME", key) for key in keys]
        answers = await in_round_trips(self._connection, commands)
        self.lookups += sum(isinstance(answer, int) for answer in answers)
        return answers


def _stopper(answer: Answer) -> CommandFailure | None:
    """A failure that every further key would meet."""
    if isinstance(answer, CommandFailure) and answer.kind in (*STOPPERS, "refused"):
        return answer
    return None
