"""Signals of what replication holds: buffers of replicas, lag, the backlog."""

from agent.incident import Culprit
from agent.signals.seen import MIB, Finding, Look, Seen, measured, scaled, signal
from tools.clients import Clients
from tools.memory import MemoryInfo
from tools.replication import ReplicaRow, Replication

BUFFER_SHARE = 0.1
BUFFER_FLOOR = 16 * MIB
"""FAILURE_MODES 11: far above what a replica that reads needs (some KB)."""
LAG_BYTES = 8 * MIB
"""A replica that reads is a few KB behind; redis.conf's soft limit for replicas is 64 MB."""
LAG_SECONDS = 10
"""Replicas acknowledge every second; repl-ping-replica-period is 10 s."""
BACKLOG_SHARE = 0.25
"""FAILURE_MODES 12: a large share of maxmemory (60 of 100 MB measured)."""
BACKLOG_FLOOR = 16 * MIB
"""Above the default of every build (1 MB, 10 MB on Valkey)."""


def _furthest(replication: Look[Replication]) -> tuple[int, ReplicaRow] | None:
    rows = enumerate(replication.reading.replicas)
    return max(rows, key=lambda item: item[1].lag_bytes, default=None)


def _slow_replica(seen: Seen) -> Culprit | None:
    """The replica that is furthest behind, else the one with the largest buffer."""
    replication = seen.optional(Replication)
    if replication and (behind := _furthest(replication)) is not None:
        return Culprit(kind="replica", name=behind[1].address)
    clients = seen.optional(Clients)
    rows = [row for row in clients.reading.largest if row.type == "replica"] if clients else []
    return Culprit(kind="replica", name=rows[0].address) if rows else None


@signal("symptom")
def replica_buffers_large(seen: Seen) -> Finding | None:
    """Buffers for replicas hold much memory that does not count against the limit."""
    memory = seen.look(MemoryInfo)
    used = max(measured(memory.reading.used_memory), 1)
    buffers = measured(memory.reading.mem_clients_slaves)
    spared = measured(memory.reading.mem_not_counted_for_evict)
    if min(buffers, spared) < max(BUFFER_FLOOR, BUFFER_SHARE * used):
        return None
    return Finding(
        "Buffers for replicas hold {buffers} of {used} in use, and {spared} do not count against "
        "the limit.",
        [
            memory.fact("buffers", "mem_clients_slaves", unit="bytes"),
            memory.fact("used", "used_memory", unit="bytes"),
            memory.fact("spared", "mem_not_counted_for_evict", unit="bytes"),
        ],
        scaled(buffers / used, BUFFER_SHARE, 0.4),
        _slow_replica(seen),
    )


@signal("symptom")
def replica_lags(seen: Seen) -> Finding | None:
    """A replica is far behind."""
    replication = seen.look(Replication)
    found = _furthest(replication)
    if found is None:
        return None
    index, row = found
    if row.lag_bytes < LAG_BYTES and (row.lag_seconds < LAG_SECONDS or row.lag_bytes <= 0):
        return None
    at = f"replicas.{index}"
    return Finding(
        "The replica {address} is {bytes} behind; it last answered {seconds} ago.",
        [
            replication.fact("address", f"{at}.address", unit="text"),
            replication.fact("bytes", f"{at}.lag_bytes", unit="bytes"),
            replication.fact("seconds", f"{at}.lag_seconds", unit="seconds"),
        ],
        1.0,
        Culprit(kind="replica", name=row.address),
    )


@signal("symptom")
def backlog_takes_limit(seen: Seen) -> Finding | None:
    """The replication backlog takes a large share of maxmemory."""
    memory = seen.look(MemoryInfo)
    limit, backlog = measured(memory.reading.limit), _backlog(memory.reading)
    if memory.reading.limit_source != "maxmemory" or limit <= 0:
        return None
    if backlog < max(BACKLOG_FLOOR, BACKLOG_SHARE * limit):
        return None
    return Finding(
        "The replication backlog takes {backlog}: {share} of the limit, {limit}.",
        [
            memory.fact("backlog", "mem_replication_backlog", unit="bytes"),
            memory.fact("share", "mem_replication_backlog", "limit", unit="ratio"),
            memory.fact("limit", "limit", unit="bytes"),
        ],
        scaled(backlog / limit, BACKLOG_SHARE, 0.5),
        Culprit(kind="config", name="repl-backlog-size"),
    )


def _backlog(memory: MemoryInfo) -> int:
    return measured(memory.mem_replication_backlog)
