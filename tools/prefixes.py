"""Which prefixes a keyspace is made of, found while it streams by, in bounded memory.

A key is cut after each run of separators (`:` `.` `/` `|` `#` `_` `-`). We descend while the parts
name things and stop where they enumerate: `user:123:profile` counts for `user:`,
`app:session:<hex>` for `app:session:`. A `{tag}` around an id does not hide it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

NO_PREFIX = b"(no prefix)"
OTHER = b"(other)"
MOST_CHILDREN = 64
"""A node with more children enumerates ids."""
MOST_ROOTS = 256
MOST_NODES = 1_024
DEEPEST = 8
HEAVY_SHARE = 0.1
"""A child with this share of its parent's keys is a namespace even among many siblings."""
FEW_KEYS = 4
"""Several siblings with fewer keys each than this are ids, not namespaces."""

MOST_KNOWN = 4_096
_CUT = re.compile(rb".*[:./|#_\-]", re.DOTALL)
_PART = re.compile(rb"[^:./|#_\-]{0,64}[:./|#_\-]{1,8}")
_ID = re.compile(rb"\{?(?:\d+|[0-9a-fA-F]{8,}|(?=(?:[^\d]*\d){4})[0-9A-Za-z]{8,})\}?[:./|#_\-]+\Z")


@dataclass(slots=True)
class Tally:
    """What was seen of one prefix. Lists hold the looked-up sample only."""

    keys: int = 0
    bytes: int = 0
    asked: int = 0
    """Keys of which more than the size was asked because few of this prefix had been."""
    types: set[str] = field(default_factory=set)
    ttls: list[float] = field(default_factory=list)
    """Seconds; -1: never expires."""
    idles: list[int] = field(default_factory=list)
    """Seconds."""

    def merge(self, other: "Tally") -> None:
        """Add what another prefix saw."""
        self.keys += other.keys
        self.bytes += other.bytes
        self.asked += other.asked
        self.types |= other.types
        self.ttls += other.ttls
        self.idles += other.idles


class _Node:
    __slots__ = ("children", "closed", "prefix", "tally")

    def __init__(self, prefix: bytes) -> None:
        self.prefix = prefix
        self.tally = Tally()
        self.children: dict[bytes, _Node] = {}
        self.closed = False
        """New children are counted here: they enumerate."""

    def nodes(self) -> "Iterator[_Node]":
        yield self
        for child in self.children.values():
            yield from child.nodes()

    def keys(self) -> int:
        return sum(node.tally.keys for node in self.nodes())


class Prefixes:
    """Counts keys by prefix. `of(key)` is the tally to add to, good until the next call."""

    def __init__(self) -> None:
        self._root = _Node(b"")
        self._tags = _Node(b"{")
        """Keys that begin with a tag around an id: `{123}:cart`."""
        self._other = Tally()
        self.nodes = 0
        """Kept at the moment, at most MOST_NODES."""
        self._known: dict[bytes, Tally] = {}
        """Found before, by what keys have up to their last separator; good until a fold."""

    def of(self, key: bytes) -> Tally:
        """The tally of this key's prefix."""
        # What follows the last separator is never looked at: the same before it, the same tally.
        cut = _CUT.match(key)
        named = cut[0] if cut else b""
        tally = self._known.get(named)
        if tally is None:
            tally = self._found(named)
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[named] = tally
        return tally

    def _found(self, key: bytes) -> Tally:
        node, at = self._root, 0
        for _ in range(DEEPEST):
            part = _PART.match(key, at)
            if part is None:
                break
            child = node.children.get(part[0])
            if child is None:
                if node.closed or _ID.match(part[0]):
                    break
                child = self._grow(node, part[0])
                if child is None:
                    return self._other if node is self._root else node.tally
            node, at = child, part.end()
        if node is not self._root:
            return node.tally
        if at == 0 and key.startswith(b"{") and (tag := _PART.match(key)) and _ID.match(tag[0]):
            return self._tags.tally
        return self._root.tally

    def _grow(self, parent: _Node, part: bytes) -> _Node | None:
        if parent is self._root and len(parent.children) >= MOST_ROOTS:
            self._drop_light_roots()
        elif parent is not self._root and len(parent.children) >= MOST_CHILDREN:
            self._close(parent)
            return None
        if self.nodes >= MOST_NODES:
            return None
        self.nodes += 1
        child = parent.children[part] = _Node(parent.prefix + part)
        return child

    def _close(self, parent: _Node) -> None:
        """The children enumerate: count them here, except those that carry a lot."""
        parent.closed = True
        floor = parent.keys() * HEAVY_SHARE
        for part, child in list(parent.children.items()):
            if child.keys() < floor:
                self._fold(child, parent.tally)
                del parent.children[part]

    def _drop_light_roots(self) -> None:
        """Make room: what is heavy was met often by now, since SCAN's order is random."""
        by_keys = sorted(self._root.children.items(), key=lambda item: item[1].keys())
        for part, child in by_keys[: MOST_ROOTS // 2]:
            self._fold(child, self._other)
            del self._root.children[part]

    def _fold(self, node: _Node, into: Tally) -> None:
        self._known.clear()
        for each in node.nodes():
            into.merge(each.tally)
            self.nodes -= 1

    def found(self, limit: int) -> dict[bytes, Tally]:
        """Prefix -> tally, most bytes (then keys) first; beyond `limit` all in `(other)`."""
        self._collapse(self._root)
        rows = [(node.prefix, node.tally) for node in self._root.nodes() if node.tally.keys]
        if self._tags.tally.keys:
            rows.append((self._tags.prefix, self._tags.tally))
        rows.sort(key=lambda row: (-row[1].bytes, -row[1].keys, row[0]))
        kept: dict[bytes, Tally] = {prefix or NO_PREFIX: tally for prefix, tally in rows[:limit]}
        other = Tally()
        other.merge(self._other)
        for _, tally in rows[limit:]:
            other.merge(tally)
        if other.keys:
            kept[OTHER] = other
        return kept

    def _collapse(self, node: _Node) -> None:
        for child in node.children.values():
            self._collapse(child)
        if node is self._root or len(node.children) < FEW_KEYS:
            return
        if sum(child.keys() for child in node.children.values()) < FEW_KEYS * len(node.children):
            for child in node.children.values():
                self._fold(child, node.tally)
            node.children = {}
