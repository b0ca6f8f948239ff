"""Signals of a cluster: whether one node carries what all should, and whether one slot does."""

from agent.incident import Culprit
from agent.signals.seen import MIB, Finding, Look, Seen, measured, scaled, signal
from tools.cluster import Cluster, slot_of
from tools.keyspace import BigKeys
from tools.nodes import Nodes
from tools.reading import number

SLOT_SHARE = 0.3
SLOT_KEYS = 500
"""A node holds thousands of slots, so a fair one has well under one per cent of its keys; few
keys are uneven by chance."""
HELD_FLOOR = MIB
"""As for any key or prefix: below it nothing is skewed that anybody would feel."""
SLOTS_LEAST = 50
"""Of a node with fewer slots, one may well hold a large part."""
UNFAIR = 1.5
"""Times its fair share of slots: what resharding left uneven, not the rounding of 16,384."""
BYTES_SHARE = 0.4
MORE_MEMORY, MEMORY_FLOOR = 1.5, 32 * MIB
"""Times the median of the other primaries, and bytes above it: FAILURE_MODES.md 41."""
MORE_LOAD, LOAD_FLOOR = 3.0, 1_000
"""The same of commands a second; a node serves some hundred thousand."""
OF_OTHER_NODES: frozenset[str] = frozenset({"node_stands_out"})
"""With the URL of one node nobody can measure them: they count where they fired."""
OTHERS_LEAST = 2
"""Of one other primary nobody can tell which of the two is the odd one."""


@signal("trend")
def slots_skewed(seen: Seen) -> Finding | None:
    """One hash slot, or far too many of them, put the load on this node."""
    cluster = seen.look(Cluster)
    if not cluster.reading.enabled:
        return None
    return _one_slot(seen, cluster) or _one_tag(seen, cluster) or _too_many(cluster)


def _one_slot(seen: Seen, cluster: Look[Cluster]) -> Finding | None:
    owned = number(cluster.reading.slots_owned) or 0
    fullest = cluster.reading.fullest[:1]
    if not fullest or owned < SLOTS_LEAST:
        return None
    row = fullest[0]
    if row.share_of_keys < SLOT_SHARE or row.keys < SLOT_KEYS:
        return None
    if not _holds_much(seen, row.keys):
        return None
    prefix = row.prefix or _tag_in(seen, row.slot)
    return Finding(
        "One of {owned} slots of this node, slot {slot}, holds {keys} of its {all} keys: {share}.",
        [
            cluster.fact("owned", "slots_owned", unit="count"),
            cluster.fact("slot", "fullest.0.slot"),
            cluster.fact("keys", "fullest.0.keys", unit="count"),
            cluster.fact("all", "keys", unit="count"),
            cluster.fact("share", "fullest.0.share_of_keys", unit="ratio"),
        ],
        scaled(row.share_of_keys, SLOT_SHARE, 0.6),
        Culprit(kind="prefix", name=prefix) if prefix else None,
    )


def _tag_in(seen: Seen, slot: int) -> str:
    bigkeys = seen.optional(BigKeys)
    names = [row.prefix for row in bigkeys.reading.prefixes] if bigkeys else []
    tagged = (name for name in names if name.startswith("{") and "}" in name)
    return next((name for name in tagged if slot_of(name.encode()) == slot), "")


def _holds_much(seen: Seen, keys: int) -> bool:
    """Whether so many keys of ordinary size hold a relevant amount of memory."""
    bigkeys = seen.optional(BigKeys)
    mean = number(bigkeys.reading.mean_key_bytes) if bigkeys else None
    return mean is None or keys * mean >= HELD_FLOOR


def _one_tag(seen: Seen, cluster: Look[Cluster]) -> Finding | None:
    """Few keys of one tag can hold most of the bytes."""
    bigkeys = seen.optional(BigKeys)
    for index, row in enumerate(bigkeys.reading.prefixes if bigkeys else ()):
        tagged = row.prefix.startswith("{") and "}" in row.prefix
        if bigkeys and tagged and row.share_of_bytes >= BYTES_SHARE and row.bytes >= HELD_FLOOR:
            return Finding(
                "All keys of {prefix} are in one of {owned} slots of this node, and they hold "
                "{share} of its bytes.",
                [
                    bigkeys.fact("prefix", f"prefixes.{index}.prefix", unit="text"),
                    bigkeys.fact("share", f"prefixes.{index}.share_of_bytes", unit="ratio"),
                    cluster.fact("owned", "slots_owned", unit="count"),
                ],
                scaled(row.share_of_bytes, BYTES_SHARE, 0.7),
                Culprit(kind="prefix", name=row.prefix),
            )
    return None


def _too_many(cluster: Look[Cluster]) -> Finding | None:
    fair = number(cluster.reading.fair_share_of_slots) or 0.0
    if fair < UNFAIR:
        return None
    return Finding(
        "This node has {owned} of {assigned} slots, with {nodes} primaries to share them.",
        [
            cluster.fact("owned", "slots_owned", unit="count"),
            cluster.fact("assigned", "slots_assigned", unit="count"),
            cluster.fact("nodes", "size", unit="count"),
        ],
        scaled(fair, UNFAIR, 2.5),
    )


@signal("trait")
def node_stands_out(seen: Seen) -> Finding | None:
    """This primary holds far more memory, or serves far more commands, than the others do."""
    nodes = seen.look(Nodes)
    others = [row for row in nodes.reading.rows[1:] if row.role == "primary"]
    here = nodes.reading.rows[0]
    if here.role != "primary" or len(others) < OTHERS_LEAST:
        return None
    numbers = measured(here.numbers)
    used, ops = (
        measured(nodes.reading.others_median_used_bytes),
        measured(nodes.reading.others_median_ops_per_second),
    )
    if numbers.used_bytes >= max(MORE_MEMORY * used, used + MEMORY_FLOOR):
        return _stands_out(nodes, "used_bytes", "bytes", "uses {own}", numbers.used_bytes / used)
    if numbers.ops_per_second >= max(MORE_LOAD * ops, ops + LOAD_FLOOR):
        share = numbers.ops_per_second / max(1, ops)
        return _stands_out(nodes, "ops_per_second", "per_second", "serves {own}", share)
    return None


def _stands_out(nodes: Look[Nodes], field: str, unit: str, says: str, times: float) -> Finding:
    return Finding(
        f"{{node}} {says}, the median of the other primaries is {{others}}.",
        [
            nodes.fact("node", "rows.0.node", unit="text"),
            nodes.fact("own", f"rows.0.numbers.{field}", unit=unit),
            nodes.fact("others", f"others_median_{field}", unit=unit),
        ],
        scaled(times, MORE_MEMORY, 2 * MORE_LOAD),
    )
