"""Signals of the keyspace: which key or prefix holds the memory, what expires, how it is encoded.

Shares are of used_memory, not of the dataset: a key that fills a dataset which client buffers
have pushed out explains nothing.
"""

from agent.incident import Culprit, FactDraft
from agent.signals.seen import (
    MIB,
    Finding,
    Look,
    Seen,
    Unmeasured,
    clamp,
    measured,
    scaled,
    signal,
)
from tools.keyspace import BigKeys, KeyRow, Keyspace, PrefixRow
from tools.memory import MemoryInfo
from tools.reading import NotMeasured, number
from tools.stats import Stats
from tools.streams import Streams

KEY_SHARE = 0.2
"""FAILURE_MODES 2: one key at 20 % of the dataset and more."""
KEY_FLOOR = MIB
PREFIX_SHARE = 0.5
"""FAILURE_MODES 1: one prefix at half of the sampled memory."""
PREFIX_FLOOR = MIB
PREFIX_KEYS = 1_000
"""A leak is many keys; fewer are a few large ones."""
PREFIX_SAMPLED = 100
"""So many have to be in a sample of the keys, before it tells how many there are."""
NEVER_EXPIRES = 0.8
"""Share of the prefix's keys without expiry. FAILURE_MODES 1: expires / keys below 0.2."""
ONE_KEY_OF_PREFIX = 0.5
"""A prefix of which one key holds half is that key's story."""
NEARLY_ALL = 0.9
"""Share of the keys without which nobody can say which is the largest (SCANNING 3)."""
A_SAMPLE = 0.01
FEW_EXPIRE = 0.2
"""FAILURE_MODES 1: expires / keys."""
EXPIRE_NORMALLY = 0.5
FEW_KEYS = 1_000
IDLE_SECONDS = 3_600
KEYS_PER_SECOND = 5.0
TINY_VALUE = 100
"""FAILURE_MODES 3: mean value in bytes."""
TINIEST_VALUE = 32
"""Below this the bookkeeping of a key is larger than its data on every build."""
KEY_OVERHEAD = 24
"""Bytes a key costs beyond its value: 25-60 measured, by build."""
KEY_HEADERS = 40
"""Bytes of MEMORY USAGE that are neither name nor value: dictEntry (24) and object (16)."""
MANY_KEYS = 10_000
STRING_SHARE = 0.7
OUTLIER_KEY = 0.1
OUTLIER_PREFIX = 0.3
UNEXPLAINED_SHARE = 0.5
"""Far above the 15 % that MEMORY USAGE and the dataset differ by on any build (SCANNING 3)."""
UNEXPLAINED_FLOOR = 16 * MIB
NOT_A_PREFIX = frozenset({"(no prefix)", "(other)"})
"""What tools/prefixes.py calls the keys that share no prefix."""


def used_memory(seen: Seen) -> tuple[Look[MemoryInfo], int]:
    """The look at memory, and its bytes in use: at least one, to divide by."""
    memory = seen.look(MemoryInfo)
    return memory, max(measured(memory.reading.used_memory), 1)


def largest_key(keys: BigKeys) -> tuple[int, KeyRow, int] | None:
    """Index, row and bytes of the largest key that is not a stream."""
    sized = [
        (index, row, row.bytes)
        for index, row in enumerate(keys.top_by_bytes)
        if row.type != "stream" and isinstance(row.bytes, int)
    ]
    return max(sized, key=lambda item: item[2], default=None)


@signal("trait")
def key_dominates(seen: Seen) -> Finding | None:
    """One key holds a large share of the memory."""
    keys = seen.look(BigKeys)
    memory, used = used_memory(seen)
    found = largest_key(keys.reading)
    if found is None or found[2] < max(KEY_FLOOR, KEY_SHARE * used):
        refuse_partial(seen, NEARLY_ALL)
        return None
    index, row, size = found
    at = f"top_by_bytes.{index}"
    named = [keys.fact(name, f"{at}.{name}", unit="text") for name in ("key", "type")]
    return dominating("The key {key} ({type})", named, keys, f"{at}.bytes", memory, size / used).by(
        Culprit(kind="key", name=row.key)
    )


def dominating(
    who: str,
    named: list[FactDraft],
    look: Look[BigKeys] | Look[Streams],
    holds: str,
    memory: Look[MemoryInfo],
    share: float,
) -> Finding:
    """`who` holds so much of used memory. MEMORY USAGE is an estimate and may exceed it."""
    facts = [
        *named,
        look.fact("bytes", holds, unit="bytes"),
        memory.fact("used", "used_memory", unit="bytes"),
    ]
    if share <= 1:
        facts.append(look.fact("share", holds, memory.path("used_memory"), unit="ratio"))
        text = f"{who} holds an estimated {{bytes}} of {{used}} in use: {{share}}"
    else:
        text = f"{who} holds most of {{used}} in use; the server's estimate of it is {{bytes}}"
    return Finding(f"{text}.", facts, scaled(share, KEY_SHARE, 0.5))


def refuse_partial(seen: Seen, enough: float) -> None:
    """Ends a signal that saw nothing where too few keys were scanned to say so.

    A sample tells the shares of prefixes and never the largest key; a scan walks one database.
    """
    keys, all_keys = seen.look(BigKeys).reading, seen.optional(Keyspace)
    total = max(number(keys.keys_total) or 0, all_keys.reading.keys if all_keys else 0)
    if keys.keys_seen < enough * total:
        raise Unmeasured(
            NotMeasured(
                not_measured="the largest keys and prefixes",
                because=f"{keys.keys_seen} of {total:.0f} keys were seen: {keys.stopped_because}",
                failure="budget",
            )
        )


def share_of_prefix(keys: BigKeys, row: PrefixRow, used: int) -> float:
    """The prefix's share of used memory; extrapolated when not every key was scanned."""
    if keys.complete:
        return row.bytes / used
    # By keys: one large key in a sample would make every prefix's share of the bytes too small.
    most = clamp((number(keys.dataset_bytes) or used) / used)
    total = number(keys.keys_total)
    if total is None:
        return row.share_of_bytes * most
    return min(row.bytes * _extrapolated(keys) / used, most)


def _extrapolated(keys: BigKeys) -> float:
    """Keys there are for each that was scanned; at least one."""
    return max((number(keys.keys_total) or 0) / max(keys.keys_seen, 1), 1.0)


def leaking_prefix(keys: BigKeys, used: int, least: float) -> tuple[int, PrefixRow, float] | None:
    """The largest prefix of many keys that never expire: index, row, share of used memory.

    Ends the signal where a larger one, of `least` share or more, did not tell its TTLs.
    """
    found = largest_key(keys)
    largest = found[2] if found else 0
    rows = [
        (index, row, share_of_prefix(keys, row, used))
        for index, row in enumerate(keys.prefixes)
        if share_of_prefix(keys, row, used) >= least
        and row.keys >= PREFIX_SAMPLED
        and row.keys * _extrapolated(keys) >= PREFIX_KEYS
        and row.bytes * _extrapolated(keys) >= PREFIX_FLOOR
        and largest < ONE_KEY_OF_PREFIX * row.bytes
        and row.types != ["stream"]
    ]
    rows.sort(key=lambda item: -item[2])
    return next((r for r in rows if measured(r[1].without_ttl_share) >= NEVER_EXPIRES), None)


@signal("trait")
def prefix_never_expires(seen: Seen) -> Finding | None:
    """Keys of one prefix hold half of the memory or more and never expire."""
    keys = seen.look(BigKeys)
    _refuse_without_ttls(keys.reading)
    _, used = used_memory(seen)
    found = leaking_prefix(keys.reading, used, PREFIX_SHARE)
    if found is None:
        refuse_partial(seen, A_SAMPLE)
        return None
    index, row, share = found
    at = f"prefixes.{index}"
    return Finding(
        "{keys} keys scanned under {prefix} hold {bytes} ({share} of what was scanned), and "
        "{without_ttl} of them have no expiry.",
        [
            keys.fact("keys", f"{at}.keys", unit="count"),
            keys.fact("prefix", f"{at}.prefix", unit="text"),
            keys.fact("bytes", f"{at}.bytes", unit="bytes"),
            keys.fact("share", f"{at}.share_of_bytes", unit="ratio"),
            keys.fact("without_ttl", f"{at}.without_ttl_share", unit="ratio"),
        ],
        scaled(share, PREFIX_SHARE, 0.75),
        None if row.prefix in NOT_A_PREFIX else Culprit(kind="prefix", name=row.prefix),
    )


def _refuse_without_ttls(keys: BigKeys) -> None:
    if keys.prefixes and keys.without_ttl_share is None:
        raise Unmeasured(
            NotMeasured(not_measured="TTLs of keys", because=keys.stopped_because, failure="error")
        )


@signal("trait")
def prefix_is_idle(seen: Seen) -> Finding | None:
    """The keys of the largest prefix have not been used for an hour."""
    keys = seen.look(BigKeys)
    if not keys.reading.prefixes:
        return None
    if measured(keys.reading.prefixes[0].median_idle_seconds) < IDLE_SECONDS:
        return None
    return Finding(
        "Half of the keys under {prefix} were not used for {idle} or longer.",
        [
            keys.fact("prefix", "prefixes.0.prefix", unit="text"),
            keys.fact("idle", "prefixes.0.median_idle_seconds", unit="seconds"),
        ],
    )


@signal("trait")
def few_keys_expire(seen: Seen) -> Finding | None:
    """Hardly any key has an expiry."""
    keys = seen.look(Keyspace)
    share = keys.reading.expires_share
    if share is None or share >= FEW_EXPIRE or keys.reading.keys < FEW_KEYS:
        return None
    return Finding("Of {keys} keys, {expires} have an expiry.", _expiry_facts(keys))


@signal("trait")
def keys_expire_normally(seen: Seen) -> Finding | None:
    """Most keys have an expiry."""
    keys = seen.look(Keyspace)
    share = keys.reading.expires_share
    if share is None or share < EXPIRE_NORMALLY:
        return None
    return Finding("Of {keys} keys, {expires} have an expiry.", _expiry_facts(keys))


def _expiry_facts(keys: Look[Keyspace]) -> list[FactDraft]:
    return [
        keys.fact("keys", "keys", unit="count"),
        keys.fact("expires", "expires", unit="count"),
    ]


@signal("trait")
def keys_accumulate(seen: Seen) -> Finding | None:
    """The number of keys grows."""
    stats = seen.look(Stats)
    if measured(stats.reading.keys_per_second) < KEYS_PER_SECOND:
        return None
    return Finding(
        "The number of keys grows by {rate}.",
        [stats.fact("rate", "keys_per_second", unit="per_second")],
    )


@signal("trait")
def tiny_values(seen: Seen) -> Finding | None:
    """Very many strings are smaller than what the server needs to keep them."""
    keys = seen.look(BigKeys)
    reading = keys.reading
    path, value = _mean_value(reading)
    cost = measured(reading.mean_key_bytes)
    strings = next((row.share_of_bytes for row in reading.types if row.type == "string"), 0.0)
    if measured(reading.keys_total) < MANY_KEYS or strings < STRING_SHARE:
        return None
    if value >= TINY_VALUE or cost - value < max(KEY_OVERHEAD, value):
        return None
    return Finding(
        "A key costs {cost} on average, its value holds {value}; there are {keys} keys."
        if path == "mean_value_bytes"
        else "A key costs {cost} on average, its value with its header at most {value}; there are "
        "{keys} keys.",
        [
            keys.fact("cost", "mean_key_bytes", unit="bytes"),
            keys.fact("value", path, unit="bytes"),
            keys.fact("keys", "keys_total", unit="count"),
        ],
        1.0 if value < TINIEST_VALUE else 0.5,
    )


def _mean_value(keys: BigKeys) -> tuple[str, float]:
    """Mean bytes of a value. Where lengths may not be read, what MEMORY USAGE bounds them by."""
    if (value := number(keys.mean_value_bytes)) is not None:
        return "mean_value_bytes", value
    at_most = measured(keys.mean_value_bytes_at_most)
    return "mean_value_bytes_at_most", max(at_most - KEY_HEADERS, 0.0)


@signal("trait")
def no_outlier(seen: Seen) -> Finding | None:
    """No key and no prefix without expiry stands out."""
    keys = seen.look(BigKeys)
    _, used = used_memory(seen)
    refuse_partial(seen, A_SAMPLE)
    rows = keys.reading.top_by_bytes
    biggest = max((row.bytes for row in rows if isinstance(row.bytes, int)), default=0)
    if not rows or biggest / used >= OUTLIER_KEY:
        return None
    if leaking_prefix(keys.reading, used, OUTLIER_PREFIX) is not None:
        return None
    return Finding(
        "The largest of {keys} keys scanned holds {bytes}; no key and no prefix without expiry "
        "stands out.",
        [
            keys.fact("keys", "keys_seen", unit="count"),
            keys.fact("bytes", "top_by_bytes.0.bytes", unit="bytes"),
        ],
    )


@signal("trait")
def keys_do_not_explain_dataset(seen: Seen) -> Finding | None:
    """All keys together are far smaller than the dataset."""
    keys = seen.look(BigKeys)
    if not keys.reading.complete:
        raise Unmeasured(
            NotMeasured(
                not_measured="bytes of all keys",
                because="the scan ended before the whole keyspace was seen",
                failure="budget",
            )
        )
    dataset = measured(keys.reading.dataset_bytes)
    gap = dataset - keys.reading.bytes_seen
    if gap < max(UNEXPLAINED_FLOOR, UNEXPLAINED_SHARE * dataset):
        return None
    return Finding(
        "The dataset holds {dataset}, all keys together {keys}.",
        [
            keys.fact("dataset", "dataset_bytes", unit="bytes"),
            keys.fact("keys", "bytes_seen", unit="bytes"),
        ],
    )
