"""What the keys are: counts, expiry, prefixes, big keys."""

import statistics

from pydantic import Field

from tools.connection import CommandFailure, Connection, read_info
from tools.prefixes import Prefixes, Tally
from tools.reading import Measured, NotMeasured, Reading, printable
from tools.scanner import ScanArguments, Walk, by_key, each

SAMPLE_PREFIXES = 100


class DatabaseKeys(Reading):
    """One line of INFO keyspace."""

    db: int
    keys: int
    expires: int
    avg_ttl_seconds: float


class PrefixTtl(Reading):
    """Expiry of one prefix's keys, from the sample."""

    prefix: str
    """Ends with its separator (`session:`); keys without one are `(no prefix)` together."""
    keys: int
    without_ttl: int
    without_ttl_share: Measured[float]
    median_ttl_seconds: float | None
    """Of the keys that expire."""


class Keyspace(Reading):
    """Keys, expires, and TTL share by prefix. Source: INFO keyspace, SCAN and PTTL of a sample."""

    databases: list[DatabaseKeys]
    keys: int
    """Over all databases."""
    expires: int
    expires_share: float | None
    """expires / keys; None without keys."""
    sampled: int
    prefixes: list[PrefixTtl]
    """Most sampled keys first."""
    sample_stopped_because: str
    lookups: int = 0
    """PTTLs asked for: the server counts each as a keyspace hit, whoever asks."""


class KeyRow(Reading):
    """One key. `bytes`: MEMORY USAGE; `elements`: its length (characters of a string)."""

    key: str
    type: str
    bytes: Measured[int]
    bytes_are: str
    """`estimated` (MEMORY USAGE, 5 samples) or `exact`."""
    elements: Measured[int]
    ttl_seconds: Measured[float]
    """-1: never expires."""
    encoding: Measured[str]
    idle_seconds: Measured[int]
    share_of_dataset: Measured[float]
    """bytes / used_memory_dataset, a fraction, at most 1 (bytes may be an estimate)."""


class PrefixRow(Reading):
    """All scanned keys of one prefix."""

    prefix: str
    keys: int
    bytes: int
    share_of_bytes: float
    """Of the bytes scanned, a fraction."""
    mean_bytes: float
    types: list[str]
    without_ttl_share: Measured[float]
    median_idle_seconds: Measured[float]


class TypeRow(Reading):
    """All scanned keys of one type."""

    type: str
    keys: int
    bytes: int
    share_of_bytes: float


class Bin(Reading):
    """Keys whose TTL or idle time is within bounds."""

    below_seconds: float | None
    """None: no bound, or they never expire."""
    keys: int
    never: bool = False


class Share(Reading):
    """Of the body's bytes, and the bounds that it is within."""

    share: float
    least_share: float
    most_share: float


class PrefixShare(Share):
    """Of the keys of a prefix."""

    prefix: str


class TypeShare(Share):
    """Of the keys of a type."""

    type: str


class SizeBin(Reading):
    """Keys of one type with so many elements, or up to twice as many."""

    type: str
    elements: int
    """At least; characters, of strings."""
    keys: int


NO_KEYSIZES = NotMeasured(
    not_measured="INFO keysizes", because="this server does not count sizes of keys"
)


class SampledShares(Reading):
    """What a random sample says of all keys; the bounds hold in 95 of 100 samples, all together.

    Only the body is extrapolated: keys of at most `threshold_bytes`. Larger keys that were met are
    counted as they are, and what the dataset has beyond both is what the sample has not seen.
    """

    keys: int
    threshold_bytes: int
    body_bytes: float
    least_body_bytes: float
    most_body_bytes: float
    known_bytes: int
    """Of larger keys that were met."""
    unseen_bytes: float
    """used_memory_dataset less both: what larger keys that were not met may hold, and errors."""
    hides_large_keys: bool
    """More is unseen than errors explain: there are large keys that were not met."""
    prefixes: list[PrefixShare]
    types_threshold_bytes: int
    """The same of the shares of types, which are told by fewer keys."""
    types: list[TypeShare]
    not_met: Measured[list[SizeBin]] = NO_KEYSIZES
    """Large keys that exist and have more elements than any of their type that was looked at."""


class HotKey(Reading):
    """One key."""

    key: str
    frequency: int
    """OBJECT FREQ, 0-255: a logarithmic counter that loses one a minute (lfu-decay-time)."""


class FrequencyBin(Reading):
    """Keys whose OBJECT FREQ is at most that, and more than that of the bin before."""

    frequency: int
    keys: int


NO_FREQUENCY = NotMeasured(
    not_measured="OBJECT FREQ",
    because="frequency is counted under an LFU policy",
    failure="disabled",
)


class TypeElements(Reading):
    """All keys of one type."""

    type: str
    keys: int
    bytes: int
    elements: Measured[int]
    """Characters, of strings."""


class EveryKeyCounts(Reading):
    """What was asked of every key that was seen."""

    types: list[TypeElements]
    ttl: list[Bin]
    idle: Measured[list[Bin]]
    frequency: Measured[list[FrequencyBin]] = NO_FREQUENCY
    hottest: Measured[list[HotKey]] = NO_FREQUENCY
    """Ten, most frequent first."""


NO_STRINGS = NotMeasured(not_measured="MEMORY USAGE of strings", because="no string was sampled")


class BigKeys(Reading):
    """Keys by size, from a budgeted SCAN with MEMORY USAGE, TYPE, length, TTL, encoding, idle time.

    Sizes are estimates; `coverage` says how much of the keyspace was seen.
    """

    keys_total: Measured[int]
    """DBSIZE"""
    keys_seen: int
    coverage: Measured[float]
    """keys_seen / keys_total, at most 1."""
    complete: bool
    """The scan ended by itself, not by its budget."""
    stopped_because: str
    seconds: float
    bytes_seen: int
    dataset_bytes: Measured[int]
    """used_memory_dataset"""
    mean_value_bytes: Measured[float]
    """Mean STRLEN of scanned strings."""
    mean_key_bytes: Measured[float]
    """bytes_seen / keys_seen: what a key costs with its overhead."""
    without_ttl_share: float | None
    top_by_bytes: list[KeyRow] = Field(max_length=100)
    top_by_elements: list[KeyRow] = Field(max_length=100)
    prefixes: list[PrefixRow]
    """Most bytes first; those beyond the first 100 are `(other)` together."""
    types: list[TypeRow]
    """Most bytes first; beyond the largest keys scaled up from the looked-up sample."""
    mean_value_bytes_at_most: Measured[float] = NO_STRINGS
    """Mean MEMORY USAGE less key length of sampled strings: bounds mean_value_bytes where reading
    lengths would reset idle times (before 7.2)."""
    looked_up: int = 0
    """Keys whose type, TTL and idle time were read; shares by those rest on them."""
    lookups: int = 0
    """Commands the server counts as keyspace hits (TYPE, PTTL, OBJECT, lengths), whoever asks."""
    pace: str = "gentle"
    """`fast`, if that was asked for and this server can spare it."""
    server_seconds: float = 0.0
    """The server worked on the walk for no longer than that."""
    resume: str = ""
    """`resume` of a call that goes on where this one stopped; empty if there is nothing left."""
    sampled: Measured[SampledShares] | None = None
    """None: it was no sample."""
    every_key: EveryKeyCounts | None = None
    """None: it was asked of a sample."""


class KeyspaceArguments(ScanArguments):
    """Budget of the TTL sample. Each sampled key counts as one keyspace hit on the target."""

    keys: int = Field(default=2_000, ge=1, le=200_000, description="Most keys sampled.")


async def keyspace(connection: Connection, args: KeyspaceArguments) -> Keyspace | NotMeasured:
    """Keys and expires per database, TTL in seconds by prefix from a sample of this database.

    Source: INFO keyspace; SCAN and PTTL of at most `keys` keys. Use `bigkeys` for bytes.
    """
    info = await read_info(connection, "keyspace")
    databases = [row for name, value in info.items() if (row := _database(name, value)) is not None]
    keys = sum(row.keys for row in databases)
    expires = sum(row.expires for row in databases)
    walk = Walk(connection, args)
    prefixes = Prefixes()
    sampled = lookups = 0
    refused: CommandFailure | None = None
    try:
        async for page in walk.pages(each(("PTTL",))):
            for key, (ttl,) in by_key(page):
                lookups += 1
                if isinstance(ttl, CommandFailure):
                    lookups -= 1
                    refused = ttl
                elif isinstance(ttl, int) and ttl != -2:
                    sampled += 1
                    tally = prefixes.of(key)
                    tally.keys += 1
                    tally.ttls.append(ttl / 1000 if ttl >= 0 else -1)
        stopped = walk.stopped_because
    except CommandFailure as failure:
        stopped = f"no sample: {failure}"
    if refused is not None:
        stopped = f"{stopped}; not every TTL could be read: {refused}"
    return Keyspace(
        databases=databases,
        keys=keys,
        expires=expires,
        expires_share=expires / keys if keys else None,
        sampled=sampled,
        prefixes=_prefix_ttls(prefixes, refused),
        sample_stopped_because=stopped,
        lookups=lookups,
    )


def _database(name: str, value: str) -> DatabaseKeys | None:
    """`db0:keys=1,expires=0,avg_ttl=0[,subexpiry=0]`; avg_ttl is in milliseconds."""
    if not name.startswith("db") or not name[2:].isdecimal():
        return None
    parts = dict(part.partition("=")[::2] for part in value.split(","))
    try:
        return DatabaseKeys(
            db=int(name[2:]),
            keys=int(parts["keys"]),
            expires=int(parts["expires"]),
            avg_ttl_seconds=int(parts.get("avg_ttl", "0")) / 1000,
        )
    except (KeyError, ValueError):
        return None


def _prefix_ttls(prefixes: Prefixes, refused: CommandFailure | None) -> list[PrefixTtl]:
    rows = [
        PrefixTtl(
            prefix=printable(prefix),
            keys=tally.keys,
            without_ttl=tally.ttls.count(-1),
            without_ttl_share=without_ttl_share(tally, refused),
            median_ttl_seconds=_median([ttl for ttl in tally.ttls if ttl >= 0]),
        )
        for prefix, tally in prefixes.found(SAMPLE_PREFIXES).items()
    ]
    return sorted(rows, key=lambda row: (-row.keys, row.prefix))


def without_ttl_share(tally: Tally, refused: CommandFailure | None) -> Measured[float]:
    """Share of the looked-up keys that never expire."""
    if tally.ttls:
        return tally.ttls.count(-1) / len(tally.ttls)
    if refused is not None:
        return refused.as_not_measured()
    return NotMeasured(not_measured="PTTL", because="no key of this prefix told its TTL")


def _median(values: list[float]) -> float | None:
    return statistics.median(values) if values else None
