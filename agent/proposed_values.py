"""Which value to propose for a parameter, from what the server is and does now."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from tools.connection import Connection
from tools.remedies.parameters import HEADROOM, largest_maxmemory
from tools.remedies.situation import buffer_limit, current_value
from tools.remedies.vitals import MIB, Vitals, read_parameter

TARGET_PRESSURE = 0.75
"""Where the seed runbook's alert begins: a raised limit goes back below it."""
LEAST_RAISE, MOST_RAISE = 1.2, 2.0
BOUGHT_SECONDS = 900
"""How long a raised limit should last at the rate at which is written now, if doubling does."""
CACHED_SECONDS = 300
"""A cache that does not keep a key even that long is no cache."""
OUTAGE_SECONDS = 60
"""A replica's outage that a partial resync should survive."""
LEAST_BACKLOG = 10 * MIB
"""Valkey's default: a rate seen in a quiet moment must not make it tiny."""
LIMITS = {"pubsub": "pubsub 32mb 8mb 60", "replica": "replica 256mb 64mb 60"}
"""The defaults of Redis and Valkey."""
BUFFER_CLASSES = {
    "slow-pubsub-cob": "pubsub",
    "replica-output-buffer": "replica",
    "full-sync-loop": "replica",
}
"""Which class of client the limit is about, by cause."""
CUT_OFF = frozenset({"full-sync-loop", "backlog-too-small"})
"""Causes where a replica needs more than it has; everywhere else, less is the answer."""
LEAST_IGNORED, USUAL_IGNORED = 10 * MIB, 100 * MIB
"""Bytes of fragmentation that are left alone: the least worth a CPU, and the default."""
CLIENTS_SHARE = "5%"
"""Of maxmemory for all clients together: redis.conf's own example."""
IDLE_SECONDS = 600
"""After which a connection that a pool forgot is closed: runbooks/maxclients-leak.md."""


@dataclass(frozen=True)
class Present:
    """One parameter now, and what a value may be computed from."""

    value: str
    vitals: Vitals
    memory_limit: int | None
    written_per_second: float | None
    evicted_per_second: float | None
    """Keys."""
    cause: str


async def propose_value(
    parameter: str,
    connection: Connection,
    vitals: Vitals,
    *,
    memory_limit: int | None,
    written_per_second: float | None,
    evicted_per_second: float | None,
    cause: str,
) -> str | None:
    """The value, or None if none would help. Raises CommandFailure."""
    raw = await read_parameter(connection, parameter)
    propose = _VALUES.get(parameter)
    if raw is None or propose is None:
        return None
    present = Present(raw, vitals, memory_limit, written_per_second, evicted_per_second, cause)
    value = propose(present)
    return None if value == raw else value


def _maxmemory(present: Present) -> str | None:
    largest = largest_maxmemory(present.vitals, present.memory_limit)
    counted, used = present.vitals.counted, present.vitals.used
    if largest is None or counted is None or used is None:
        return None
    old = int(present.value)
    if old == 0:
        return str(_whole(largest)) if largest > used * (1 + HEADROOM) else None
    growth = (present.written_per_second or 0.0) * BOUGHT_SECONDS
    wanted = max(
        old * LEAST_RAISE,
        counted / TARGET_PRESSURE,
        min(counted + growth, old * MOST_RAISE),
        counted + _kept(present, counted),
    )
    wanted = _whole(min(wanted + MIB, largest))  # one MiB more, since whole MiB are cut to
    return str(wanted) if wanted > old else None


def _kept(present: Present, counted: int) -> float:
    """Bytes of what a thrashing cache evicts in the time that it should keep things, at least."""
    keys = present.vitals.keys
    if present.cause != "eviction-thrash" or present.evicted_per_second is None or not keys:
        return 0.0
    return present.evicted_per_second * CACHED_SECONDS * counted / keys


def _whole(size: float) -> int:
    """Whole MiB: people read it."""
    return int(size // MIB) * MIB


def _policy(present: Present) -> str | None:
    # Only the order of eviction is ours to propose; what may be evicted is the owner's word.
    return {"allkeys-lru": "allkeys-lfu", "volatile-lru": "volatile-lfu"}.get(present.value)


def _buffer(present: Present) -> str | None:
    wanted = LIMITS.get(BUFFER_CLASSES.get(present.cause, ""))
    if wanted is None:
        return None
    wanted = buffer_limit(wanted)
    now = current_value("client-output-buffer-limit", present.value, wanted).split()
    hard = int(now[1]) if len(now) > 1 else 0
    usual = int(wanted.split()[1])
    if present.cause in CUT_OFF:
        return wanted if 0 < hard < usual else None
    return wanted if hard == 0 or hard > usual else None


def _clients_share(present: Present) -> str | None:
    limited = present.vitals.count("maxmemory")
    return CLIENTS_SHARE if present.value == "0" and limited else None


def _backlog(present: Present) -> str | None:
    if present.written_per_second is None:
        return None
    wanted = math.ceil(present.written_per_second * OUTAGE_SECONDS / MIB) * MIB
    wanted = max(LEAST_BACKLOG, wanted)
    now = int(present.value)
    return str(wanted) if (wanted > now if present.cause in CUT_OFF else wanted < now) else None


def _at_least(first: int, then: int) -> Callable[[Present], str | None]:
    """The first value if the present one is below it, else the second."""

    def value(present: Present) -> str | None:
        now = int(present.value)
        return str(first) if now < first else str(then) if now < then else None

    return value


def _at_most(limit: int) -> Callable[[Present], str | None]:
    return lambda present: str(limit) if int(present.value) > limit else None


def _ignored(present: Present) -> str | None:
    now, lost = int(present.value), present.vitals.count("allocator_frag_bytes")
    if present.cause != "fragmentation-after-deletes":
        return str(USUAL_IGNORED) if now < USUAL_IGNORED else None
    # With more than that ignored, defragmentation would not even begin.
    wanted = max(LEAST_IGNORED, _whole((lost or 0) / 4))
    return str(wanted) if lost is not None and wanted < lost <= now else None


def _timeout(present: Present) -> str | None:
    return str(IDLE_SECONDS) if int(present.value) == 0 else None


def _yes(_: Present) -> str:
    return "yes"


_VALUES: dict[str, Callable[[Present], str | None]] = {
    "maxmemory": _maxmemory,
    "maxmemory-policy": _policy,
    "maxmemory-clients": _clients_share,
    "client-output-buffer-limit": _buffer,
    "repl-backlog-size": _backlog,
    "client-query-buffer-limit": _at_most(64 * MIB),
    "activedefrag": _yes,
    "timeout": _timeout,
    "hz": _at_least(10, 50),
    "active-expire-effort": _at_least(4, 8),
    "active-defrag-cycle-max": _at_most(10),
    "active-defrag-ignore-bytes": _ignored,
    "active-defrag-threshold-lower": _at_least(10, 10),
    "auto-aof-rewrite-percentage": _at_least(100, 100),
    "auto-aof-rewrite-min-size": _at_least(64 * MIB, 64 * MIB),
    "hash-max-listpack-entries": _at_least(128, 512),
    "hash-max-ziplist-entries": _at_least(128, 512),
    "zset-max-listpack-entries": _at_least(128, 128),
    "zset-max-ziplist-entries": _at_least(128, 128),
    "hash-max-listpack-value": _at_least(64, 64),
    "hash-max-ziplist-value": _at_least(64, 64),
    "zset-max-listpack-value": _at_least(64, 64),
    "zset-max-ziplist-value": _at_least(64, 64),
    "set-max-listpack-entries": _at_least(128, 128),
    "set-max-intset-entries": _at_least(512, 512),
    "lazyfree-lazy-expire": _yes,
    "lazyfree-lazy-eviction": _yes,
    "lazyfree-lazy-server-del": _yes,
    "lazyfree-lazy-user-del": _yes,
}
