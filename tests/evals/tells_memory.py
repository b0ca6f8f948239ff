"""What shows that a fault is really there: read from the server, not from the fault."""

from collections.abc import Callable
from typing import Any

Seen = dict[str, Any]
MIB = 1024 * 1024
Tell = Callable[[Seen, str], object]
"""(what `look` saw, the culprit's name) -> whether the fault shows. KeyError: not yet."""


def prefix_share(seen: Seen, prefix: str) -> float:
    sizes = sizes_of_keys(seen)
    share = sum(size for key, size in sizes.items() if key.startswith(prefix.encode()))
    return share / sum(sizes.values())


def sizes_of_keys(seen: Seen, samples: int | None = None) -> dict[bytes, int]:
    """In one round trip; 0: gone since."""
    keys = list(seen["client"].scan_iter(count=1_000))
    pipe = seen["client"].pipeline(transaction=False)
    for key in keys:
        pipe.memory_usage(key, samples)
    return {key: size or 0 for key, size in zip(keys, pipe.execute(), strict=True)}


def output(seen: Seen, name: str) -> int:
    return sum(int(c["omem"]) for c in seen["clients"] if c["name"] == name)


def query(seen: Seen, name: str) -> int:
    return sum(int(c["qbuf"]) + int(c["argv-mem"]) for c in seen["clients"] if c["name"] == name)


def flags(seen: Seen, name: str) -> str:
    return "".join(c["flags"] for c in seen["clients"] if c["name"] == name)


def groups(seen: Seen, key: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = seen["client"].xinfo_groups(key)
    return found


def stream_share(seen: Seen, key: str) -> float:
    return float(seen["usage"](key) / seen["used_memory"])


TELLS: dict[str, Tell] = {
    "missing-ttl-prefix-leak": lambda s, name: (
        prefix_share(s, name) > 0.5
        and s["db0"]["expires"] / s["keys"] < 0.6
        and s["L"] > 0.97
        and s["errorstat_OOM"]["count"] > 0
    ),
    "single-bigkey": lambda s, key: s["usage"](key) > 0.3 * s["used_memory_dataset"],
    "stream-unbounded": lambda s, key: (
        stream_share(s, key) > 0.3 and all(g["pending"] < 500 for g in groups(s, key))
    ),
    "stream-pel-growth": lambda s, key: groups(s, key)[0]["pending"] >= 20_000,
    "small-string-overhead": lambda s, _: (
        s["used_memory_overhead"] / s["keys"] > 50 and s["L"] > 0.7
    ),
    "slow-pubsub-cob": lambda s, name: (
        output(s, name) > 0.5 * s["used_memory"] and "P" in flags(s, name)
    ),
    "unread-reply-cob": lambda s, name: output(s, name) > 0.5 * s["used_memory"],
    "query-buffer-bloat": lambda s, name: query(s, name) > 0.4 * s["used_memory"],
    "monitor-left-on": lambda s, name: output(s, name) > MIB and "O" in flags(s, name),
    "noeviction-oom": lambda s, _: s["errorstat_OOM"]["count"] > 0 and s["L"] > 0.97,
    "volatile-policy-no-ttl": lambda s, _: (
        s["errorstat_OOM"]["count"] > 0
        and s["maxmemory_policy"].startswith("volatile-")
        and s.get("db0", {}).get("expires", 0) == 0
        and s["evicted_keys"] == 0
    ),
    "eviction-thrash": lambda s, _: (
        s["evicted_keys"] > 20 and s["keyspace_misses"] > s["keyspace_hits"] / 2
    ),
    "cache-full-by-design": lambda s, _: (
        s["L"] > 0.95 and s["keyspace_hits"] > 4 * s["keyspace_misses"]
    ),
    "healthy": lambda s, _: s["L"] < 0.7 and "errorstat_OOM" not in s,
    "fragmentation-after-deletes": lambda s, _: s["allocator_frag_ratio"] > 1.5,
    "oversized-backlog": lambda s, _: s["mem_replication_backlog"] > 0.3 * s["maxmemory"],
}
