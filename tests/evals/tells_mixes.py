"""Tells of mixes."""

from tests.evals.tells_memory import TELLS as SINGLE
from tests.evals.tells_memory import (
    Seen,
    Tell,
    flags,
    output,
    prefix_share,
    query,
    sizes_of_keys,
    stream_share,
)

BLOCKED = 10


def calm(seen: Seen) -> bool:
    return seen["L"] < 0.7 and "errorstat_OOM" not in seen


def holds(seen: Seen, key_start: str) -> int:
    """Length of the archive list, wherever the seed put it."""
    client = seen["client"]
    return max((int(client.llen(k)) for k in client.scan_iter(match=f"*:{key_start}")), default=0)


def calls(seen: Seen, command: str) -> int:
    return int(seen[f"cmdstat_{command}"]["calls"])


def errors(seen: Seen, code: str) -> int:
    return int(seen[f"errorstat_{code}"]["count"])


def slow(seen: Seen, command: bytes) -> list[int]:
    log = seen["client"].slowlog_get(128)
    return [entry["duration"] for entry in log if entry["command"].startswith(command)]


def full_cache(seen: Seen) -> bool:
    return bool(SINGLE["cache-full-by-design"](seen, "")) and seen["evicted_keys"] > 0


def heaviest(seen: Seen) -> int:
    return max(output(seen, c["name"]) for c in seen["clients"] if c["name"])


def heaviest_query(seen: Seen) -> int:
    return max(query(seen, c["name"]) for c in seen["clients"] if c["name"])


def largest_key(seen: Seen) -> int:
    return max(sizes_of_keys(seen, samples=0).values())


TELLS: dict[str, Tell] = {
    "idle-workers": lambda s, _: (
        s["blocked_clients"] > BLOCKED and calm(s) and calls(s, "rpush") > 0
    ),
    "many-clients": lambda s, _: s["connected_clients"] > 100 and calm(s),
    "steady-datastore": lambda s, _: s["db0"]["expires"] < 0.05 * s["keys"] and calm(s),
    "churning-cache": lambda s, _: (
        calls(s, "set") > 20 and s["keyspace_hits"] > 4 * s["keyspace_misses"] and calm(s)
    ),
    "fresh-heap": lambda s, _: s["mem_fragmentation_ratio"] > 1.5 and calm(s),
    "cold-cache": lambda s, _: s["keyspace_misses"] > 5 and s["L"] < 0.5,
    "few-scripts": lambda s, _: 10 <= s["number_of_cached_scripts"] <= 20 and calm(s),
    "calm-pair": lambda s, _: s["slave0"]["state"] == "online" and calm(s),
    "batch-ended": lambda s, _: s["used_memory_peak"] > 1.3 * s["used_memory"] and calm(s),
    "full-cache-of-objects": lambda s, _: full_cache(s),
    "full-cache-of-pages": lambda s, _: full_cache(s),
    "leak-beside-archive": lambda s, name: (
        holds(s, "archive") > 1_000 and prefix_share(s, name) > 0.4
    ),
    "buffer-beside-stream": lambda s, name: (
        output(s, name) > 0.3 * s["used_memory"] and largest_key(s) > 0.05 * s["used_memory"]
    ),
    "key-behind-clients": lambda s, key: (
        s["connected_clients"] > 90 and s["usage"](key) > 0.3 * s["used_memory_dataset"]
    ),
    "thrash-beside-archive": lambda s, name: (
        SINGLE["eviction-thrash"](s, name) and holds(s, "archive") > 100
    ),
    "leak-under-policy": lambda s, name: (
        errors(s, "OOM") > 0
        and s["maxmemory_policy"].startswith("volatile-")
        and prefix_share(s, name) > 0.6
    ),
    "monitor-and-leak": lambda s, _: (
        s["db0"]["expires"] / s["keys"] < 0.6
        and any("O" in flags(s, c["name"]) for c in s["clients"] if c["name"])
        and heaviest(s) > 1_000_000
    ),
    "key-and-subscriber": lambda s, _: (
        heaviest(s) > 0.25 * s["used_memory"] and largest_key(s) > 0.2 * s["used_memory"]
    ),
    "stream-and-replies": lambda s, _: (
        heaviest(s) > 0.25 * s["used_memory"] and largest_key(s) > 0.2 * s["used_memory"]
    ),
    "backlog-and-replies": lambda s, _: (
        heaviest(s) > 0.25 * s["used_memory"]
        and s["mem_replication_backlog"] > 0.15 * s["maxmemory"]
    ),
    "key-and-request": lambda s, _: (
        heaviest_query(s) > 0.25 * s["used_memory"] and largest_key(s) > 0.2 * s["used_memory"]
    ),
    "leak-without-scan": lambda s, _: errors(s, "OOM") > 0 and s["L"] > 0.97,
    "key-without-scan": lambda s, _: largest_key(s) > 0.3 * s["used_memory"],
    "buffer-without-clients": lambda s, _: heaviest(s) > 0.4 * s["used_memory"],
    "leak-without-sizes": lambda s, _: errors(s, "OOM") > 0 and s["db0"]["expires"] < s["keys"],
    "quiet-with-info-only": lambda s, _: calm(s),
    "frozen": lambda s, _: calm(s),
    "leak-and-one-keys": lambda s, name: (
        len(slow(s, b"KEYS")) == 1 and errors(s, "OOM") > 0 and prefix_share(s, name) > 0.3
    ),
    "stream-and-archive": lambda s, name: stream_share(s, name) > 0.3 and holds(s, "archive") > 0,
    "replies-and-workers": lambda s, name: (
        output(s, name) > 0.4 * s["used_memory"] and s["blocked_clients"] > BLOCKED
    ),
    "key-and-past-errors": lambda s, key: (
        errors(s, "WRONGTYPE") == 300 and s["usage"](key) > 0.3 * s["used_memory_dataset"]
    ),
    "quiet-after-oom": lambda s, _: errors(s, "OOM") == 120 and s["L"] < 0.7,
    "paused-writes": lambda s, _: calls(s, "client|pause") > 1 and calm(s),
    "wrong-types": lambda s, _: errors(s, "WRONGTYPE") > 20 and calm(s),
    "aborted-transactions": lambda s, _: errors(s, "ERR") > 10 and calm(s),
    "connection-churn": lambda s, _: s["total_connections_received"] > 150 and calm(s),
    "tight-scripts": lambda s, _: max(slow(s, b"EVAL"), default=0) > 15_000 and calm(s),
    "tracking-table": lambda s, _: s["tracking_total_keys"] > 10_000 and s["L"] > 0.75,
    "many-patterns": lambda s, _: (
        s["pubsub_patterns"] > 10_000 and max(slow(s, b"PUBLISH"), default=0) > 10_000
    ),
}
