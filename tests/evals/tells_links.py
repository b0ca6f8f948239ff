"""Tells of replication, access and cluster."""

from collections import Counter

from tests.evals.tells_memory import Seen, Tell, prefix_share
from tools.cluster import slot_of


def named(seen: Seen, name: str) -> int:
    return sum(client["name"] == name for client in seen["clients"])


def blocked(seen: Seen) -> int:
    return sum("b" in client["flags"] for client in seen["clients"])


def refused(seen: Seen, name: str) -> int:
    return sum(
        entry["count"]
        for entry in seen["client"].acl_log()
        if name in (entry["username"], entry["client-info"]["name"])
    )


def largest_slot(seen: Seen) -> float:
    slots = Counter(slot_of(key) for key in seen["client"].scan_iter(count=1_000))
    return max(slots.values()) / sum(slots.values())


TELLS: dict[str, Tell] = {
    "repl-link-broken": lambda s, _: (
        s["role"] == "slave" and s["master_link_status"] == "down" and "errorstat_READONLY" not in s
    ),
    "full-sync-loop": lambda s, _: (
        s["sync_full"] >= 3
        and s["total_forks"] >= 2
        and s.get("slave0", {}).get("state") != "online"
    ),
    "backlog-too-small": lambda s, _: (
        s["sync_partial_err"] >= 2 and s["sync_full"] >= 2 and s["slave0"]["state"] == "online"
    ),
    "writes-to-replica": lambda s, _: (
        s["role"] == "slave"
        and s["master_link_status"] == "up"
        and s["errorstat_READONLY"]["count"] > 0
    ),
    "maxclients-leak": lambda s, name: (
        s["rejected_connections"] > 5
        and named(s, name) > 0.6 * s["connected_clients"]
        and s["client"].config_get("maxclients")["maxclients"] <= str(s["connected_clients"] + 3)
    ),
    "blocked-clients": lambda s, _: (
        blocked(s) > 10 and s["cmdstat_rpush"]["calls"] > 50 and "cmdstat_lpush" not in s
    ),
    "acl-auth-failures": lambda s, name: refused(s, name) > 3,
    "slot-skew-hot-shard": lambda s, prefix: (
        largest_slot(s) > 0.5 and prefix_share(s, prefix) > 0.5 and s["cluster_enabled"] == 1
    ),
    "even-cluster": lambda s, _: (
        s["cluster_enabled"] == 1 and largest_slot(s) < 0.2 and 0.2 < s["L"] < 0.7
    ),
}
