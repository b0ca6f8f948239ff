"""The most frequently used keys, where the server counts that. Source: SCAN, OBJECT FREQ."""

import heapq

from tools.connection import CommandFailure, Connection, parse_info
from tools.reading import NotMeasured, Reading
from tools.replies import text
from tools.scanner import STOPPERS, ScanArguments, Walk, by_key, each

HOTTEST = 10
MOST_KEYS = 20_000


class HotKey(Reading):
    """One key."""

    key: str
    frequency: int
    """OBJECT FREQ, 0-255: a logarithmic counter that loses one a minute (lfu-decay-time)."""


class HotKeys(Reading):
    """The keys used most, among those that were seen."""

    keys_seen: int
    complete: bool
    stopped_because: str
    lookups: int
    """Keyspace hits that this look has caused."""
    hottest: list[HotKey]
    """Ten, most frequent first."""


class HotKeysArguments(ScanArguments):
    """Budget of the walk; smaller than for sizes, since every key is looked up."""

    keys: int = MOST_KEYS


async def hot_keys(connection: Connection, args: HotKeysArguments) -> HotKeys | NotMeasured:
    """The ten keys used most often, by the server's own logarithmic counter (0-255).

    Redis counts this only under an LFU policy. Source: INFO memory, SCAN, OBJECT FREQ.
    """
    info = parse_info(await connection.execute("INFO", "memory"))
    policy = info.get("maxmemory_policy", "")
    if not policy.endswith("-lfu"):
        return NotMeasured(
            not_measured="OBJECT FREQ",
            because=f"maxmemory-policy is {policy or 'unknown'}: frequency is counted under LFU",
            failure="disabled",
        )
    walk, heap, lookups = Walk(connection, args), list[tuple[int, bytes]](), 0
    async for page in walk.pages(each(("OBJECT", "FREQ"))):
        for key, (frequency, *_) in by_key(page):
            if isinstance(frequency, CommandFailure) and frequency.kind in (*STOPPERS, "refused"):
                return frequency.as_not_measured()
            if isinstance(frequency, int):
                lookups += 1
                heapq.heappush(heap, (frequency, key))
                if len(heap) > HOTTEST:
                    heapq.heappop(heap)
    return HotKeys(
        keys_seen=walk.seen,
        complete=walk.complete,
        stopped_because=walk.stopped_because,
        lookups=lookups,
        hottest=[HotKey(key=text(key), frequency=n) for n, key in sorted(heap, reverse=True)],
    )
