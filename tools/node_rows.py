"""One node among those of a deployment, and which of several is in trouble. Pure."""

import statistics
from collections.abc import Callable, Mapping, Sequence

from tools.reading import Measured, NotMeasured, Reading, printable
from tools.replies import whole
from tools.target_url import address_of

SECTIONS = ("server", "clients", "memory", "persistence", "stats", "replication")
"""Of INFO, one command each."""
LEAST_OPS = 100
"""Commands a second below which no node is busy, however idle the others are."""


class NodeNumbers(Reading):
    """What a node says of itself."""

    version: str
    used_bytes: int
    """INFO memory used_memory"""
    limit_bytes: int
    """INFO memory maxmemory; 0: none"""
    ops_per_second: int
    """INFO stats instantaneous_ops_per_sec"""
    connected_clients: int
    keys: Measured[int]
    """DBSIZE"""
    link: str
    """To its primary: up or down; empty on a primary."""
    offset_bytes: int
    """Of the replication stream."""
    refuses_writes: bool
    """The last snapshot or write to the append-only file failed."""


class NodeRow(Reading):
    """One node."""

    node: str
    """host:port"""
    role: str
    """primary or replica; empty: unknown"""
    primary: str | None = None
    """Whom it follows."""
    state: str
    """`ok`, or the cluster's word for what is wrong with it: `fail`, `fail?`, `noaddr`."""
    slots: int | None = None
    """It serves, of 16,384; None without a cluster."""
    moving_slots: int | None = None
    """On their way from or to it."""
    lag_bytes: Measured[int] | None = None
    """Behind its primary; None on a primary."""
    numbers: Measured[NodeNumbers]


def numbers_of(info: Mapping[str, str], keys: Measured[int]) -> Measured[NodeNumbers]:
    """From the fields of SECTIONS."""
    if "used_memory" not in info:
        return NotMeasured(
            not_measured="INFO memory used_memory",
            because="this server does not report used_memory",
        )
    follows = info.get("role") == "slave"
    return NodeNumbers(
        version=printable(info.get("valkey_version") or info.get("redis_version", "unknown"), 40),
        used_bytes=whole(info["used_memory"]),
        limit_bytes=whole(info.get("maxmemory")),
        ops_per_second=whole(info.get("instantaneous_ops_per_sec")),
        connected_clients=whole(info.get("connected_clients")),
        keys=keys,
        link=printable(info.get("master_link_status", ""), 20) if follows else "",
        offset_bytes=whole(info.get("slave_repl_offset" if follows else "master_repl_offset")),
        refuses_writes="err"
        in (info.get("rdb_last_bgsave_status"), info.get("aof_last_write_status")),
    )


def role_of(info: Mapping[str, str]) -> str:
    """Primary or replica, of INFO replication."""
    return {"master": "primary", "slave": "replica"}.get(info.get("role", ""), "")


def primary_of(info: Mapping[str, str]) -> str | None:
    """host:port of the primary that INFO replication names."""
    host, port = info.get("master_host"), info.get("master_port")
    return printable(address_of(host, port)) if host and port else None


def most_loaded(nodes: Mapping[str, NodeNumbers]) -> str:
    """Which of them to look at first: one that refuses writes, else the one that stands out most.

    By memory (against its limit, where all have one) or by commands a second, over the median of
    the others. There is at least one.
    """
    for node, numbers in nodes.items():
        if numbers.refuses_writes:
            return node
    limited = all(numbers.limit_bytes for numbers in nodes.values())

    def memory(numbers: NodeNumbers) -> float:
        return numbers.used_bytes / numbers.limit_bytes if limited else numbers.used_bytes

    def load(numbers: NodeNumbers) -> float:
        return max(numbers.ops_per_second, LEAST_OPS)

    def most(node: str) -> float:
        return max(_over_others(nodes, node, measure) for measure in (memory, load))

    return max(nodes, key=most)


def _over_others(
    nodes: Mapping[str, NodeNumbers], node: str, measure: Callable[[NodeNumbers], float]
) -> float:
    others = [measure(numbers) for known, numbers in nodes.items() if known != node]
    median = statistics.median(others) if others else 0.0
    return measure(nodes[node]) / median if median else 1.0


def medians(rows: Sequence[NodeRow]) -> tuple[Measured[int], Measured[int]]:
    """Of used_memory and of commands a second, over primaries."""
    found = [
        row.numbers
        for row in rows
        if row.role == "primary" and not isinstance(row.numbers, NotMeasured)
    ]
    if not found:
        nobody = NotMeasured(not_measured="INFO of other primaries", because="none was reached")
        return nobody, nobody
    return (
        round(statistics.median(numbers.used_bytes for numbers in found)),
        round(statistics.median(numbers.ops_per_second for numbers in found)),
    )
