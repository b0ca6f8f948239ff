"""Signals of encodings: small collections kept as tables, and the limits that decide it."""

from agent.incident import Culprit
from agent.signals.seen import KIB, MIB, Finding, Look, Seen, measured, signal
from tools.configuration import Configuration
from tools.keyspace import BigKeys, KeyRow
from tools.memory import MemoryInfo
from tools.reading import number

TYPE_SHARE = 0.2
TYPE_FLOOR = MIB
SMALL_COLLECTION = 16 * KIB
"""Bytes; a collection that the default limits keep compact is smaller."""
ELEMENT_BYTES = 128
"""A table with more bytes an element holds values that are too long for a listpack (64)."""
SHORT_ELEMENT_BYTES = 72
"""FAILURE_MODES 4: 64 bytes a field, once short fields are kept in a table."""
INTSET_ELEMENTS = 512
"""set-max-intset-entries, redis.conf"""
INTEGER_BYTES = 52
"""A table needs 20-50 bytes a member of at most five characters; one of eight needs 56."""
CONVERTED_ROWS = 20
CONVERTED_BY_LIMIT = 3
"""Where a lowered limit explains them and their type holds a fifth of the memory: other types
may fill the list of the largest keys."""
CONVERTED_SHARE = 0.5
TABLES = frozenset({"hashtable", "skiplist"})
COMPACT_ELEMENTS = 128
"""The smallest default entry limit of the four builds."""
COMPACT_TYPES = frozenset({"hash", "zset"})
"""Sets of strings are tables before 7.2 by default."""
LIMITS: dict[str, tuple[str, int]] = {
    "hash-max-listpack-entries": ("hash", 128),
    "hash-max-ziplist-entries": ("hash", 128),
    "hash-max-listpack-value": ("hash", 64),
    "hash-max-ziplist-value": ("hash", 64),
    "zset-max-listpack-entries": ("zset", 128),
    "zset-max-ziplist-entries": ("zset", 128),
    "zset-max-listpack-value": ("zset", 64),
    "zset-max-ziplist-value": ("zset", 64),
    "set-max-intset-entries": ("set", 512),
    "set-max-listpack-entries": ("set", 128),
}
"""Parameter -> type and the smallest default of the four builds, redis.conf."""


@signal("trait")
def small_collections_use_tables(seen: Seen) -> Finding | None:
    """Many small collections are kept as tables, not in their compact encoding."""
    keys = seen.look(BigKeys)
    lowered = _lowered(seen.optional(Configuration))
    kinds = COMPACT_TYPES | {"set"} | set(lowered)
    found = [
        (len(converted), held, *converted[0])
        for kind in sorted(kinds)
        if (converted := _converted(keys.reading, kind, kind in lowered))
        and (held := _held_by(seen, kind)) is not None
    ]
    if not found:
        _refuse_unread_lengths(seen, keys.reading)
        return None
    _, held, index, row = max(found, key=lambda item: item[0])
    limit = lowered.get(row.type)
    return Finding(
        "Small collections are kept as tables: {key} holds {size} in a {encoding}, and "
        "most of the largest keys are like it; keys of its type hold {bytes}.",
        [
            keys.fact("key", f"top_by_bytes.{index}.key", unit="text"),
            keys.fact("size", f"top_by_bytes.{index}.bytes", unit="bytes"),
            keys.fact("encoding", f"top_by_bytes.{index}.encoding", unit="text"),
            keys.fact("bytes", f"types.{held}.bytes", unit="bytes"),
        ],
        1.0 if limit else _certainty(row),
        Culprit(kind="config", name=limit) if limit else None,
    )


def _refuse_unread_lengths(seen: Seen, keys: BigKeys) -> None:
    """Ends the signal where tables might be small, but their lengths may not be read."""
    for kind in sorted(COMPACT_TYPES | {"set"}):
        rows = [row for row in keys.top_by_bytes if row.type == kind and row.encoding in TABLES]
        unread = [row for row in rows if number(row.elements) is None and _is_small(row)]
        if len(unread) >= CONVERTED_ROWS and _held_by(seen, kind) is not None:
            measured(unread[0].elements)


def _is_small(row: KeyRow) -> bool:
    return (number(row.bytes) or SMALL_COLLECTION) < SMALL_COLLECTION


def _converted(keys: BigKeys, kind: str, lowered: bool) -> list[tuple[int, KeyRow]]:
    """Those of the largest keys of a type that are tables and need not be; none if too few are.

    Each type has limits of its own, so only keys of the same type say whether it is the rule.
    """
    rows = [(i, row) for i, row in enumerate(keys.top_by_bytes) if row.type == kind]
    converted = [(i, row) for i, row in rows if _would_be_compact(row, lowered)]
    least = CONVERTED_BY_LIMIT if lowered else CONVERTED_ROWS
    enough = len(converted) >= max(least, CONVERTED_SHARE * len(rows))
    return converted if enough else []


def _certainty(row: KeyRow) -> float:
    """Without a lowered limit, one long value makes a table of a hash by design."""
    each = (number(row.bytes) or 0) / max(number(row.elements) or 1, 1)
    return 1.0 if row.type == "set" else 0.8 if each <= SHORT_ELEMENT_BYTES else 0.4


def _lowered(config: Look[Configuration] | None) -> dict[str, str]:
    """Type -> the limit of its compact encoding that is far below the default."""
    if config is None:
        return {}
    found: dict[str, str] = {}
    for name, (kind, default) in LIMITS.items():
        value = config.reading.parameters.get(name, "")
        if value.isdigit() and int(value) <= default // 2:
            found.setdefault(kind, name)
    return found


def _would_be_compact(row: KeyRow, lowered: bool) -> bool:
    elements, size = number(row.elements), number(row.bytes)
    if row.encoding not in TABLES or size is None:
        return False
    if elements is None:  # its length may not be read: with a lowered limit the size will do
        return lowered and size < SMALL_COLLECTION
    if row.type == "set" and not lowered:
        return COMPACT_ELEMENTS < elements <= INTSET_ELEMENTS and size < INTEGER_BYTES * elements
    return 0 < elements <= COMPACT_ELEMENTS and size < min(
        SMALL_COLLECTION, ELEMENT_BYTES * elements + KIB
    )


def _held_by(seen: Seen, kind: str) -> int | None:
    """Index of the type's row, if keys of that type hold a relevant share of the memory."""
    keys, memory = seen.look(BigKeys), seen.look(MemoryInfo)
    used = measured(memory.reading.used_memory)
    for index, row in enumerate(keys.reading.types):
        if row.type == kind and row.bytes >= max(TYPE_FLOOR, TYPE_SHARE * used):
            return index
    return None


@signal("trend")
def compact_limit_lowered(seen: Seen) -> Finding | None:
    """A limit of the compact encodings is far below its default, and such keys hold memory."""
    config, keys = seen.look(Configuration), seen.look(BigKeys)
    for kind, name in _lowered(config).items():
        if (held := _held_by(seen, kind)) is None:
            continue
        row = keys.reading.types[held]
        if row.bytes >= SMALL_COLLECTION * max(row.keys, 1):
            continue  # large ones are tables under any limit
        return Finding(
            "A limit of the compact encodings is set to {value}; keys of type {type} hold {bytes}.",
            [
                config.fact("value", f"parameters.{name}", unit="count"),
                keys.fact("type", f"types.{held}.type", unit="text"),
                keys.fact("bytes", f"types.{held}.bytes", unit="bytes"),
            ],
            1.0,
            Culprit(kind="config", name=name),
        )
    return None
