"""Where every byte of a server is: parts that add up to `used_memory`, drawn by whoever shows it.

Pure. From stored evidence: INFO memory and MEMORY STATS of one node, and what a walk over its keys
found. What the keys were not seen to hold stands as a part of its own, and is never spread over
the others.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from tools.reading import Evidence, number

TOOLS = ("memory_info", "memory_stats", "bigkeys")
"""What the picture is drawn of."""
MOST_PREFIXES = 24
SAME_TIME = timedelta(seconds=30)
"""Looks of one round are closer together; a remedy is watched for longer."""
OTHER = "(other)"
"""How `bigkeys` calls what is not among its prefixes."""
Kind = Literal["keys", "unseen", "tables", "clients", "replication", "persistence", "scripts",
               "startup", "overhead"]  # fmt: skip


@dataclass(frozen=True)
class Part:
    """Some of the used memory."""

    name: str
    """A prefix (hostile text), or what the server calls it."""
    bytes: int
    kind: Kind
    evidence: str
    """Which look says so."""
    types: tuple[str, ...] = ()
    """Of keys: theirs, the most common first."""
    keys: int | None = None


@dataclass(frozen=True)
class TypeShare:
    """Of the keys that were seen."""

    type: str
    share: float
    keys: int


@dataclass(frozen=True)
class MemoryPicture:
    """One node at one time. The bytes of `parts` add up to `used`."""

    node: str
    at: datetime
    used: int
    counted: int | None
    """What counts against the limit; None: not measured."""
    limit: int | None
    limit_source: str
    resident: int | None
    """used_memory_rss: what the operating system gave."""
    peak: int | None
    parts: Sequence[Part]
    """Largest first."""
    types: Sequence[TypeShare]
    basis: str
    """What the parts of the keys rest on."""
    evidence: Sequence[str]

    @property
    def pressure(self) -> float | None:
        """Of the limit, what counts against it."""
        return self.counted / self.limit if self.counted is not None and self.limit else None

    @property
    def not_in_use(self) -> int | None:
        """Bytes that the operating system gave beyond what is used: fragmentation and caches."""
        return self.resident - self.used if self.resident is not None else None


def memory_picture(evidence: Iterable[Evidence]) -> MemoryPicture | None:
    """Of the newest look at memory; None: used memory was not measured."""
    pieces = [piece for piece in evidence if piece.measured and piece.tool in TOOLS]
    memory = next(
        (
            piece
            for piece in reversed(pieces)
            if piece.tool == "memory_info" and _bytes(piece.reading, "used_memory") is not None
        ),
        None,
    )
    if memory is None:
        return None
    same_node = [piece for piece in pieces if _address(piece) == _address(memory)]
    stats, walk = _last(same_node, "memory_stats"), _last(same_node, "bigkeys")
    info = memory.reading
    used = _bytes(info, "used_memory") or 0
    parts = _server_parts(memory, stats, used)
    left = used - sum(part.bytes for part in parts)
    parts += _key_parts(walk, memory.id, left)
    return MemoryPicture(
        node=memory.node,
        at=memory.taken_at,
        used=used,
        counted=_bytes(info, "counted_memory"),
        limit=_bytes(info, "limit"),
        limit_source=str(info.get("limit_source", "")),
        resident=_bytes(info, "used_memory_rss"),
        peak=_bytes(info, "used_memory_peak"),
        parts=sorted(parts, key=lambda part: -part.bytes),
        types=_types(walk),
        basis=_basis(walk) + _age(walk, memory),
        evidence=[piece.id for piece in (memory, stats, walk) if piece is not None],
    )


_INFO: tuple[tuple[str, str, Kind], ...] = (
    ("used_memory_startup", "server at start", "startup"),
    ("mem_clients_normal", "clients", "clients"),
    ("mem_clients_slaves", "replicas' connections", "replication"),
    ("mem_replication_backlog", "replication backlog", "replication"),
    ("mem_aof_buffer", "append-only file buffer", "persistence"),
)
_STATS: tuple[tuple[str, str, Kind], ...] = (
    ("hashtable_main", "tables of keys", "tables"),
    ("hashtable_expires", "tables of expiries", "tables"),
    ("lua_caches", "cached scripts", "scripts"),
    ("functions_caches", "functions", "scripts"),
)


def _server_parts(memory: Evidence, stats: Evidence | None, used: int) -> list[Part]:
    """What is no data, as the server counts it; never more than there is."""
    found: list[Part] = []
    overhead = _bytes(memory.reading, "used_memory_overhead")
    left = used if overhead is None else min(overhead, used)
    for source, rows in ((memory, _INFO), (stats, _STATS)):
        for field, name, kind in rows:
            size = min(_bytes(source.reading, field) or 0, left) if source is not None else 0
            if source is not None and size > 0:
                found.append(Part(name, size, kind, source.id))
                left -= size
    if overhead is not None and left > 0:
        found.append(Part("other overhead", left, "overhead", memory.id))
    return found


def _key_parts(walk: Evidence | None, memory: str, dataset: int) -> list[Part]:
    """The dataset by prefix. A walk over some of the keys says shares; one over all of them, bytes.

    Sizes are the server's estimates: where they come to more than there is, they are scaled.
    """
    rows = _rows(walk, "prefixes")
    named = [row for row in rows if row.get("prefix") != OTHER][:MOST_PREFIXES]
    seen = number(walk.reading.get("bytes_seen")) if walk is not None else None
    found: list[Part] = []
    left = dataset
    if walk is not None and seen and dataset > 0:
        scale = min(1.0, dataset / seen) if walk.reading.get("complete") is True else dataset / seen
        for row in named:
            size = min(round((number(row.get("bytes")) or 0) * scale), left)
            if size > 0:
                types = tuple(str(kind) for kind in row.get("types") or ())
                keys = number(row.get("keys"))
                whole = walk.reading.get("complete") is True and keys is not None
                found.append(Part(str(row.get("prefix")) or "(no prefix)", size, "keys", walk.id,
                                  types, int(keys or 0) if whole else None))  # fmt: skip
                left -= size
        others = sum(number(row.get("bytes")) or 0 for row in rows if row not in named)
        if (size := min(round(others * scale), left)) > 0:
            found.append(Part("other prefixes", size, "keys", walk.id))
            left -= size
    if left > 0:
        name = "data, not seen key by key" if walk is None else "data beyond the keys seen"
        found.append(Part(name, left, "unseen", memory))
    return found


def _types(walk: Evidence | None) -> list[TypeShare]:
    return [
        TypeShare(str(row.get("type")), share, int(number(row.get("keys")) or 0))
        for row in _rows(walk, "types")
        if (share := number(row.get("share_of_bytes"))) is not None
    ]


def _basis(walk: Evidence | None) -> str:
    if walk is None:
        return "the keys were not looked at one by one"
    seen, total = number(walk.reading.get("keys_seen")), number(walk.reading.get("keys_total"))
    if walk.reading.get("complete") is True:
        return f"sizes of all {seen or 0:,.0f} keys, as the server estimates them"
    of = f" of {total:,.0f}" if total else ""
    return f"shares of {seen or 0:,.0f}{of} keys that were looked at, taken for all"


def _age(walk: Evidence | None, memory: Evidence) -> str:
    """What was changed between the two looks is seen by one of them alone."""
    if walk is None or abs(memory.taken_at - walk.taken_at) < SAME_TIME:
        return ""
    return f"; the keys as they were at {walk.taken_at:%Y-%m-%d %H:%M:%S} UTC"


def _rows(walk: Evidence | None, field: str) -> list[Mapping[str, Any]]:
    rows = walk.reading.get(field) if walk is not None else None
    return [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []


def _last(pieces: Sequence[Evidence], tool: str) -> Evidence | None:
    return next((piece for piece in reversed(pieces) if piece.tool == tool), None)


def _address(piece: Evidence) -> str:
    """Without its role, which a failover changes."""
    return piece.node.partition(" ")[0]


def _bytes(reading: Mapping[str, Any], field: str) -> int | None:
    value = number(reading.get(field))
    return int(value) if value is not None and value >= 0 else None
