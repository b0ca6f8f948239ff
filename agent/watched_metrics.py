"""The numbers that are watched around a write, and when a change of one is a regression. Data."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """One number that is watched around a write, and when a change of it is a regression."""

    title: str
    unit: Literal["ms", "us", "share", "bytes", "count", "per_second"]
    worse: Literal["up", "down", ""]
    """Empty: recorded and never judged; `why` says why not."""
    ratio: float
    """Of the value before: at least (up) or at most (down) this."""
    floor: float
    """Of the change itself; of what is counted (`per_second`), how many more over the hold."""
    why: str


METRICS: dict[str, Metric] = {
    "round_trip_ms": Metric(
        "mean round trip", "ms", "up", 3.0, 5.0,
        "a healthy event loop answers within a millisecond or two; 5 ms more are seen by callers",
    ),
    "worst_round_trip_ms": Metric(
        "slowest round trip", "ms", "up", 5.0, 25.0,
        "single stalls of some milliseconds are the network's; that every look meets one is not",
    ),
    "microseconds_per_call": Metric(
        "time per command", "us", "up", 3.0, 100.0,
        "weighted by the mix of commands from before; 100 us x 10,000 calls/s are a whole core",
    ),
    "commands": Metric(
        "commands", "per_second", "down", 0.1, 20.0,
        "a tenth of the traffic: callers went away; fewer calls alone are no harm",
    ),
    "errors": Metric(
        "error replies", "per_second", "", 0, 0, "judged by kind: a frequent one would hide others",
    ),
    "refused_writes": Metric(
        "refused writes", "per_second", "up", 2.0, 5.0,
        "OOM, MISCONF, READONLY, NOREPLICAS: accepted before, lost now; five are no accident",
    ),
    "errors.*": Metric(
        "error replies of one kind", "per_second", "up", 3.0, 20.0,
        "applications live with a few errors, often in bursts; twenty more of a kind are new",
    ),
    "evicted_keys": Metric(
        "evicted keys", "per_second", "up", 2.0, 10.0,
        "evictions lose data; the first ten may be a peak that would have come anyway",
    ),
    "expired_keys": Metric(
        "expired keys", "per_second", "", 0, 0, "keys expire when their owner said, in waves",
    ),
    "miss_share": Metric(
        "lookups that miss", "share", "up", 1.5, 0.2,
        "a fifth of all lookups meets a key that is gone: callers fall back on a database",
    ),
    "pressure": Metric(
        "memory of its limit", "share", "up", 1.05, 0.05,
        "a twentieth of the limit within a hold is minutes from full",
    ),
    "used_memory": Metric(
        "memory in use", "bytes", "", 0, 0, "judged as pressure: growth alone is no harm",
    ),
    "used_memory_rss": Metric(
        "resident memory", "bytes", "up", 1.3, 128 * 1024 * 1024,
        "a third more than before is a burst that the host may not have room for",
    ),
    "connected_clients": Metric(
        "connected clients", "count", "down", 0.8, 5.0,
        "a fifth of all clients gone at once is no coming and going",
    ),
    "connections": Metric(
        "new connections", "per_second", "up", 4.0, 60.0,
        "clients that are cut off come back at once, again and again",
    ),
    "rejected_connections": Metric(
        "refused connections", "per_second", "up", 2.0, 3.0, "each is a client that cannot work",
    ),
    "buffer_disconnections": Metric(
        "clients cut off for unread replies", "per_second", "up", 2.0, 3.0,
        "each lost what it had not read; one or two may be the culprits",
    ),
    "blocked_clients": Metric(
        "blocked clients", "count", "", 0, 0, "workers that have caught up wait, and should",
    ),
    "replicas_online": Metric(
        "replicas online", "count", "down", 0.99, 1.0, "one less is one failure closer to a loss",
    ),
    "replica_lag_bytes": Metric(
        "replication lag", "bytes", "up", 2.0, 16 * 1024 * 1024,
        "a replica acknowledges once a second: that much more is behind by seconds",
    ),
    "primary_link_down": Metric(
        "link to the primary is down", "count", "up", 1.0, 1.0, "a replica serves stale data",
    ),
    "full_syncs": Metric(
        "full synchronisations", "per_second", "up", 2.0, 2.0,
        "one may be a replica that was restarted; the second is the start of a loop",
    ),
    "saves_failing": Metric(
        "saves that fail", "count", "up", 1.0, 1.0, "writes are refused next, or lost in a crash",
    ),
}  # fmt: skip
"""Each threshold with its reason. `errors.*` stands for each kind of error."""
REFUSALS = ("errors.OOM", "errors.MISCONF", "errors.READONLY", "errors.NOREPLICAS")
"""Judged together, as refused_writes."""


def metric_of(name: str) -> Metric | None:
    """The entry of METRICS; each kind of error has the same."""
    if name in REFUSALS:
        return None
    return METRICS.get("errors.*" if name.startswith("errors.") else name)


def shown(value: float, metric: Metric) -> str:
    """A value of this metric for people."""
    if metric.unit == "share":
        return f"{value:.0%}"
    if metric.unit == "bytes":
        return f"{value / 1024 / 1024:,.1f} MiB"
    whole = abs(value) >= 10 or value == int(value)
    number = f"{value:,.0f}" if whole else f"{value:,.1f}"
    return number + {"ms": " ms", "us": " us", "per_second": "/s"}.get(metric.unit, "")
