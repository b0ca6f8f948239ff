"""A larger instance or more of them: what speaks for each, with numbers, and what each touches."""

import math
from collections.abc import Sequence
from typing import Literal

from tools.reading import NotMeasured, Reading, number
from tools.samples import Samples
from tools.size_artefacts import MIB, worded
from tools.sizes import Catalogue

BUSY = 0.8
"""Of one core: the thread that runs the commands is nearly full, and memory buys it nothing."""
HALF_BUSY = 0.5
"""What a shard should be at most, to have room."""
LONG_FORK_SECONDS = 0.5
"""Every client waits that long at each save: FAILURE_MODES knows 20 ms a GB as usual."""
FORK_FLOOR = 64 * MIB
"""A fork of less says nothing about a fork of much."""


class Way(Reading):
    """One of the two ways to more room."""

    way: Literal["scale up", "shard out"]
    better: bool
    because: list[str]
    """What speaks for it; empty: nothing measured does."""
    touches: list[str]
    """What it costs, with this server's numbers."""


def compare(samples: Samples, needed: int, catalogue: Catalogue) -> list[Way]:
    """Both ways, the better one first."""
    info = samples.last
    reasons = [
        found
        for found in (
            _larger_than_any(needed, catalogue),
            _busy(samples),
            _long_fork(info, needed),
        )
        if found is not None
    ]
    shards = max([2, *(shards for shards, _ in reasons)])
    largest = max(size.memory_bytes for size in catalogue.largest())
    up = Way(
        way="scale up",
        better=not reasons,
        because=[f"one instance of {worded(needed)} is offered"] if needed <= largest else [],
        touches=_up(info),
    )
    out = Way(
        way="shard out",
        better=bool(reasons),
        because=[why for _, why in reasons],
        touches=_out(info, needed, shards),
    )
    return [out, up] if reasons else [up, out]


def _larger_than_any(needed: int, catalogue: Catalogue) -> tuple[int, str] | None:
    largest = max(catalogue.largest(), key=lambda size: size.memory_bytes)
    if needed <= largest.memory_bytes:
        return None
    why = f"more than the largest of the catalogue, {largest.name} ({worded(largest.memory_bytes)})"
    return math.ceil(needed / largest.memory_bytes), f"{worded(needed)} is {why}"


def main_thread(samples: Samples) -> float | None:
    """Share of one core that runs the commands; None where it is not reported."""
    parts = [samples.rate(f"used_cpu_{part}_main_thread") for part in ("user", "sys")]
    if any(isinstance(part, NotMeasured) for part in parts):
        return None
    return sum(number(part) or 0.0 for part in parts)


def _busy(samples: Samples) -> tuple[int, str] | None:
    busy = main_thread(samples)
    if busy is None or busy < BUSY:
        return None
    return math.ceil(busy / HALF_BUSY), (
        f"the one thread that runs the commands used {busy:.0%} of a core in these "
        f"{samples.seconds:.0f} s: a larger instance does not make it faster"
    )


def _long_fork(info: dict[str, str], needed: int) -> tuple[int, str] | None:
    fork, used = _count(info, "latest_fork_usec"), _count(info, "used_memory")
    if not fork or used is None or used < FORK_FLOOR:
        return None
    expected = fork / 1e6 * needed / used
    if expected < LONG_FORK_SECONDS:
        return None
    return math.ceil(expected / LONG_FORK_SECONDS), (
        f"the last fork took {fork / 1000:,.0f} ms at {worded(used)}; of {worded(needed)} it would "
        f"take {expected:.1f} s, in which every client waits"
    )


def _up(info: dict[str, str]) -> list[str]:
    touches = []
    clients, used = _count(info, "connected_clients"), _count(info, "used_memory")
    if clients is not None:
        touches.append(f"one restart or failover: {clients:,} clients reconnect")
    replicas = _count(info, "connected_slaves")
    if used is not None and replicas is not None:
        touches.append(
            f"{worded(used)} are copied to the new node"
            + (
                ""
                if replicas
                else "; there is no replica now: without one, or a file, they are lost"
            )
        )
    return touches


def _out(info: dict[str, str], needed: int, shards: int) -> list[str]:
    touches = [f"{shards} shards of {worded(needed / shards)} each"]
    used, keys = _count(info, "used_memory"), _keys(info)
    moved = (shards - 1) / shards
    if used is not None:
        touches.append(f"about {worded(used * moved)} and {keys * moved:,.0f} keys move")
    if _count(info, "cluster_enabled") == 1:
        touches.append("it is a cluster already: clients stay as they are")
        return touches
    touches.append(
        "clients have to speak the cluster protocol, and keys of one command to share a hash tag"
    )
    others = sorted(name for name in _databases(info) if name != "db0")
    if others:
        touches.append(f"a cluster has database 0 only: {', '.join(others[:8])} have to move there")
    return touches


def _databases(info: dict[str, str]) -> Sequence[str]:
    return [name for name in info if name.startswith("db") and name[2:].isdigit()]


def _keys(info: dict[str, str]) -> int:
    total = 0
    for name in _databases(info):
        count = info[name].partition("keys=")[2].partition(",")[0]
        total += int(count) if count.isdecimal() else 0
    return total


def _count(info: dict[str, str], name: str) -> int | None:
    value = info.get(name, "")
    return int(value) if value.isdecimal() else None
