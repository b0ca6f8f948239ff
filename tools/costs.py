"""What an element costs in the compact encodings, from sampled keys that have them. Pure."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from tools.reading import Measured, NotMeasured

FEW = 20
"""Sampled keys that a change must concern."""
SIBLINGS = 5
"""Sampled keys that say what an element costs."""
FIELDS = 8
"""Of a hash on average, so that what the hash itself costs counts little."""
COMPACT = frozenset({"listpack", "listpackex", "ziplist", "intset"})
TABLES = frozenset({"hashtable", "skiplist", "quicklist"})


@dataclass(slots=True)
class Key:
    """One sampled key; None is what was not told."""

    name: bytes
    type: str
    encoding: str
    size: int
    """MEMORY USAGE."""
    length: int | None = None
    idle: int | None = None
    """Seconds."""
    ttl: float | None = None
    """Seconds left; None: it never expires, if it `stays`."""
    stays: bool = False
    prefix: bytes = b""


@dataclass(frozen=True)
class Cost:
    """Of an element, on average."""

    bytes: float
    least: float
    """Of the cheapest key."""
    keys: int
    """So many say so."""
    elements: float
    """Of each of them, on average."""


class Costs:
    """Of the sampled keys."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self._groups: defaultdict[tuple[bytes, str, bool], list[Key]] = defaultdict(list)
        self._intsets: set[bytes] = set()
        for key in keys:
            if key.length and key.encoding in COMPACT | TABLES:
                self._groups[key.prefix, key.type, key.encoding in COMPACT].append(key)
        for (prefix, kind, compact), group in self._groups.items():
            ints = sum(key.encoding == "intset" for key in group)
            if compact and kind == "set" and ints >= max(SIBLINGS, len(group) / 2):
                self._intsets.add(prefix)

    def has_intsets(self, prefix: bytes) -> bool:
        """Whether most of the prefix's compact sets hold integers only."""
        return prefix in self._intsets

    def field(self) -> Cost | None:
        """Of a field in a compact hash, where it is cheapest; None: too few were sampled."""
        found = [
            cost
            for (_, kind, compact), group in self._groups.items()
            if compact and kind == "hash" and (cost := _cost(group)) and cost.elements >= FIELDS
        ]
        return min(found, key=lambda cost: cost.bytes, default=None)

    def compact(self, tables: Sequence[Key]) -> tuple[Measured[int], Measured[int], str]:
        """Bytes of these tables if they were compact, at most and at least, and how sure."""
        prefix, kind = tables[0].prefix, tables[0].type
        elements = sum(key.length or 0 for key in tables)
        if (cost := self._own(prefix, kind)) is not None:
            most, least = math.ceil(elements * cost.bytes), math.ceil(elements * cost.least)
            sure = (
                f"as in {cost.keys} keys of the same prefix that are compact, with "
                f"{cost.elements:.0f} elements each on average, if theirs are as long"
            )
            return most, least, sure
        now = sum(key.size for key in tables)
        if differences := self._differences(kind):
            sure = (
                "no key of this prefix is compact; the difference between both encodings is that "
                f"of {len(differences)} other prefixes which have both"
            )
            saved = sorted(math.floor(elements * each) for each in differences)
            return max(now - saved[0], 0), max(now - saved[-1], 0), sure
        unknown = NotMeasured(
            not_measured="bytes of an element in the compact encoding",
            because=f"too few compact keys of type {kind} were sampled",
        )
        return unknown, unknown, "that the compact encoding takes less is certain, not how much"

    def _own(self, prefix: bytes, kind: str) -> Cost | None:
        group = self._groups.get((prefix, kind, True), [])
        if kind == "set":  # intsets say nothing of strings, nor the other way round
            wanted = prefix in self._intsets
            group = [key for key in group if (key.encoding == "intset") == wanted]
        return _cost(group)

    def _differences(self, kind: str) -> list[float]:
        """Bytes of an element in a table less those in the compact encoding, by prefix."""
        found = []
        for prefix, each, compact in list(self._groups):
            if each != kind or compact:
                continue
            table, small = _cost(self._groups[prefix, kind, False]), self._own(prefix, kind)
            if table is not None and small is not None and table.bytes > small.bytes:
                found.append(table.bytes - small.bytes)
        return found


def _cost(group: Sequence[Key]) -> Cost | None:
    """From the larger half: what a key costs besides its elements counts least there."""
    larger = sorted(group, key=lambda key: key.length or 0)[len(group) // 2 :]
    if len(group) < SIBLINGS:
        return None
    elements = sum(key.length or 0 for key in larger)
    return Cost(
        bytes=sum(key.size for key in larger) / elements,
        least=min(key.size / (key.length or 1) for key in larger),
        keys=len(larger),
        elements=elements / len(larger),
    )
