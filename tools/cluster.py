"""What one node of a cluster knows: its slots, its keys by slot, the state of the cluster.

Our connection goes to one node, so the load of the others is not in here: a node is compared with
its own fair share of the slots, and its slots with one another.
"""

import binascii
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from tools.catalogue import Arguments
from tools.cluster_view import SLOTS, cluster_view, myself
from tools.connection import Command, CommandFailure, Connection, Reply, parse_info, read_info
from tools.reading import Measured, NotMeasured, Reading, printable
from tools.replies import integer, items, mapping
from tools.scanner import ScanArguments, Walk, each

MOST_SLOTS = 10
CANDIDATES = 32
"""Slots whose keys are counted, of those met most often in the sample."""
SAMPLE = ScanArguments(seconds=2, keys=5_000, page=500)
_INFO = (
    "cluster_slots_assigned", "cluster_slots_ok", "cluster_slots_pfail", "cluster_slots_fail",
    "cluster_known_nodes", "cluster_size",
)  # fmt: skip


class SlotRow(Reading):
    """One hash slot of this node."""

    slot: int
    keys: int
    share_of_keys: float
    """Of all keys of this node, a fraction."""
    prefix: str
    """Up to and including the tag and what follows it, `{cart}:`, of the sampled keys in this
    slot; empty if they have none in common or none was sampled."""


class Cluster(Reading):
    """The cluster as this node sees it. On a server without cluster mode only `enabled` is set."""

    enabled: bool
    state: Measured[str]
    """ok or fail"""
    slots_assigned: Measured[int]
    """Of 16,384, over all nodes."""
    slots_ok: Measured[int]
    slots_pfail: Measured[int]
    slots_fail: Measured[int]
    known_nodes: Measured[int]
    size: Measured[int]
    """Primaries that hold slots."""
    slots_owned: Measured[int]
    """By this node (a replica: by its primary)."""
    fair_share_of_slots: Measured[float]
    """slots_owned / (slots_assigned / size): 1 is even."""
    keys: Measured[int]
    """On this node."""
    keys_per_slot: Measured[float]
    """keys / slots_owned"""
    fullest: list[SlotRow]
    """At most ten, by keys."""
    counted_by: str
    """`CLUSTER SLOT-STATS` over all slots, or the slots met in a sample and how large it was."""
    sampled_keys: int


class ClusterArguments(Arguments):
    """None."""


def slot_of(key: bytes) -> int:
    """The hash slot of a key: CRC16 of its tag, if it has one that is not empty."""
    start = key.find(b"{")
    end = key.find(b"}", start + 1) if start >= 0 else -1
    hashed = key[start + 1 : end] if end > start + 1 else key
    return binascii.crc_hqx(hashed, 0) % SLOTS


async def cluster(connection: Connection, args: ClusterArguments) -> Cluster:
    """State of the cluster, this node's slots, and which of them hold most of its keys (counts).

    The fullest slots come from CLUSTER SLOT-STATS (Redis 8.2, Valkey 8.0) or, without it, are
    counted exactly for the slots that a sample of at most 5,000 keys falls into.
    Source: INFO cluster, CLUSTER INFO, CLUSTER NODES, DBSIZE, SCAN, CLUSTER SLOT-STATS or
    CLUSTER COUNTKEYSINSLOT.
    """
    if (await read_info(connection, "cluster")).get("cluster_enabled") != "1":
        return _without_cluster()
    told, nodes, size = await connection.execute_many(
        [("CLUSTER", "INFO"), ("CLUSTER", "NODES"), ("DBSIZE",)]
    )
    info = parse_info(told) if isinstance(told, bytes) else {}
    numbers = {name.removeprefix("cluster_"): _number(told, info, name) for name in _INFO}
    owned = _owned(nodes)
    keys = _whole(size, "DBSIZE")
    sample = await _sampled(connection)
    fullest, counted_by = await _fullest(connection, sample, keys)
    return Cluster(
        enabled=True,
        state=info.get("cluster_state") or _why(told, "CLUSTER INFO"),
        slots_owned=owned,
        fair_share_of_slots=_fair(owned, numbers["slots_assigned"], numbers["size"]),
        keys=keys,
        keys_per_slot=_ratio(keys, owned),
        fullest=fullest,
        counted_by=counted_by,
        sampled_keys=len(sample),
        **numbers,
    )


def _without_cluster() -> Cluster:
    off = NotMeasured(
        not_measured="CLUSTER INFO",
        because="cluster mode is off on this server",
        failure="disabled",
    )
    missing = {
        name: off
        for name, field in Cluster.model_fields.items()
        if name not in ("enabled", "fullest", "counted_by", "sampled_keys") and field.is_required()
    }
    return Cluster(enabled=False, fullest=[], counted_by="", sampled_keys=0, **missing)


async def _sampled(connection: Connection) -> list[bytes]:
    walk = Walk(connection, SAMPLE)
    found: list[bytes] = []
    try:
        async for names, _ in walk.pages(each()):
            found += names
    except CommandFailure:
        return []
    return found


async def _fullest(
    connection: Connection, sample: Sequence[bytes], keys: Measured[int]
) -> tuple[list[SlotRow], str]:
    total = keys if isinstance(keys, int) else 0
    by_slot: dict[int, list[bytes]] = defaultdict(list)
    for key in sample:
        by_slot[slot_of(key)].append(key)
    try:
        command = ("CLUSTER", "SLOT-STATS", "ORDERBY", "key-count", "LIMIT", MOST_SLOTS, "DESC")
        counts = _counts(await connection.execute(*command))
        source = "CLUSTER SLOT-STATS"
    except CommandFailure:
        met = Counter({slot: len(names) for slot, names in by_slot.items()})
        asked = [slot for slot, _ in met.most_common(CANDIDATES)]
        counts = await _count(connection, asked)
        source = f"CLUSTER COUNTKEYSINSLOT of {len(asked)} slots met in {len(sample)} sampled keys"
    rows = [
        SlotRow(
            slot=slot,
            keys=count,
            share_of_keys=min(1.0, count / total) if total else 0.0,
            prefix=_prefix(by_slot.get(slot, ())),
        )
        for slot, count in counts
        if count > 0
    ]
    rows.sort(key=lambda row: (-row.keys, row.slot))
    return rows[:MOST_SLOTS], source


def _counts(reply: Reply) -> list[tuple[int, int]]:
    """SLOT-STATS: [[slot, [name, value, …]], …]."""
    rows = (items(row) for row in items(reply))
    return [
        (integer(row[0]), integer(mapping(row[1]).get("key-count")))
        for row in rows
        if len(row) == 2
    ]


async def _count(connection: Connection, slots: Sequence[int]) -> list[tuple[int, int]]:
    commands: list[Command] = [("CLUSTER", "COUNTKEYSINSLOT", slot) for slot in slots]
    replies = await connection.execute_many(commands)
    return [(slot, n) for slot, n in zip(slots, replies, strict=True) if isinstance(n, int)]


def _prefix(keys: Iterable[bytes]) -> str:
    """What most keys of a slot begin with: the tag and its separator, `{cart}:`."""
    tagged = Counter(key[: key.index(b"}") + 2] for key in keys if key[:1] == b"{" and b"}" in key)
    if not tagged:
        return ""
    (prefix, _), *_rest = tagged.most_common(1)
    return printable(prefix)


def _owned(nodes: Reply | CommandFailure) -> Measured[int]:
    """Slots on the line of CLUSTER NODES about this node, or about the primary it follows."""
    if isinstance(nodes, CommandFailure):
        return nodes.as_not_measured()
    view = cluster_view(nodes)
    if (me := myself(view)) is None:
        return _why(None, "CLUSTER NODES myself")
    return next((node for node in view if node.id == me.primary_id), me).slot_count


def _number(told: Reply | CommandFailure, info: dict[str, str], name: str) -> Measured[int]:
    value = info.get(name, "")
    return int(value) if value.isdecimal() else _why(told, f"CLUSTER INFO {name}")


def _whole(reply: Reply | CommandFailure, what: str) -> Measured[int]:
    return reply if isinstance(reply, int) else _why(reply, what)


def _why(reply: Reply | CommandFailure, what: str) -> NotMeasured:
    if isinstance(reply, CommandFailure):
        return reply.as_not_measured()
    return NotMeasured(not_measured=what, because=f"this server does not report {what}")


def _fair(owned: Measured[int], assigned: Measured[int], size: Measured[int]) -> Measured[float]:
    each = _ratio(assigned, size)
    if isinstance(owned, NotMeasured):
        return owned
    if isinstance(each, NotMeasured):
        return each
    return _ratio(owned, each)


def _ratio(part: Measured[int], whole: Measured[int] | float) -> Measured[float]:
    if isinstance(part, NotMeasured):
        return part
    if isinstance(whole, NotMeasured):
        return whole
    if not whole:
        return NotMeasured(not_measured="share of the slots", because="no slots are held")
    return part / whole
