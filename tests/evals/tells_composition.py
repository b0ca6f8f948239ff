"""Tells of composition and upkeep."""

from typing import Any

from tests.evals.tells_memory import MIB, Seen, Tell


def converted(seen: Seen) -> int:
    """Small collections that are kept as tables."""
    client: Any = seen["client"]
    names = [name for kind in ("hash", "set") for name in client.scan_iter(count=1_000, _type=kind)]
    return sum(client.object("encoding", name) == b"hashtable" for name in names)


def unexplained(seen: Seen) -> float:
    """Share of the dataset that no key accounts for."""
    keys = sum(seen["client"].memory_usage(name) for name in seen["client"].scan_iter(count=1_000))
    return 1 - float(keys / seen["used_memory_dataset"])


TELLS: dict[str, Tell] = {
    "encoding-conversion": lambda s, _: converted(s) >= 20 and s["L"] > 0.8,
    "lua-script-cache": lambda s, _: s["number_of_cached_scripts"] > 1_000,
    "module-memory": lambda s, _: unexplained(s) > 0.5 and len(s["modules"]) > 0,
    "organic-growth": lambda s, _: s["L"] > 0.75 and s["db0"]["expires"] > 0.5 * s["keys"],
    "maxmemory-unset": lambda s, _: s["maxmemory"] == 0,
    "expired-backlog": lambda s, _: s["expired_stale_perc"] > 10 and s["configured_hz"] == 1,
    "defrag-cpu-burn": lambda s, _: s["active_defrag_running"] > 0,
    "fork-cow-memory": lambda s, _: s["current_cow_size"] > 0.3 * s["used_memory"],
    "transient-fork-spike": lambda s, _: (
        s["rdb_last_cow_size"] > 0.3 * s["used_memory"] and not s["rdb_bgsave_in_progress"]
    ),
    "rss-not-returned-after-peak": lambda s, _: s["used_memory_peak"] > 1.5 * s["used_memory"],
    "wrong-threshold-false-alarm": lambda s, _: (
        s["used_memory"] < 8 * MIB and s["L"] < 0.5 and s["mem_fragmentation_ratio"] > 1.2
    ),
    "replica-output-buffer": lambda s, _: (
        s["mem_clients_slaves"] > MIB and s["mem_not_counted_for_evict"] > 0.3 * s["used_memory"]
    ),
}
"""What shows that a fault is really there: read from the server, not from the fault."""
