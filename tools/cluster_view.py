"""The nodes of a cluster as one of them sees the others. Source: CLUSTER NODES. Pure."""

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tools.connection import Reply
from tools.target_url import address_of, is_address

MOST_NODES = 1_000
"""The cluster specification's own limit."""
SLOTS = 16_384
_EPOCH = re.compile(r"[0-9]{1,20}")
_SPAN = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")


@dataclass(frozen=True)
class ClusterNode:
    """One line of CLUSTER NODES."""

    id: str
    address: str
    """host:port; empty where the cluster does not know it."""
    flags: frozenset[str]
    primary_id: str
    """Of a replica; `-` of a primary."""
    epoch: int
    slots: tuple[tuple[int, int], ...]
    """First and last of each range it serves."""
    moving_slots: int
    """On their way from or to it."""
    names: tuple[str, ...] = ()
    """host:port by its address and by its host name, as far as it announces them."""

    @property
    def is_primary(self) -> bool:
        """Whether it is one, as far as the one who was asked knows."""
        return "master" in self.flags

    @property
    def is_failing(self) -> bool:
        """Marked as failed by most (`fail`) or by the one who was asked (`fail?`)."""
        nowhere = not self.address and "myself" not in self.flags
        return bool(self.flags & {"fail", "fail?", "noaddr", "handshake"}) or nowhere

    @property
    def slot_count(self) -> int:
        """Slots it serves, of 16,384."""
        return sum(last - first + 1 for first, last in self.slots)


def cluster_view(reply: Reply, *, by_name: bool = False, asked: str = "") -> list[ClusterNode]:
    """The nodes; lines that are none are left out. `by_name`: their host names where they have one.

    TLS is checked against names. `asked`: host:port of the one who was: a node that no other node
    has met does not know its own address.
    """
    if not isinstance(reply, bytes):
        return []
    lines = (line.split(" ") for line in reply.decode("utf-8", "replace").splitlines()[:MOST_NODES])
    return [_node(line, by_name=by_name, asked=asked) for line in lines if len(line) >= 8]


def _node(words: Sequence[str], *, by_name: bool, asked: str) -> ClusterNode:
    place, _, names = words[1].partition(",")
    host, _, port = place.partition("@")[0].rpartition(":")
    name = names.partition(",")[0]
    flags = frozenset(words[2].split(","))
    has_name = bool(name) and "=" not in name
    address = address_of(name if by_name and has_name else host, port)
    if not host and "myself" in flags:
        address = asked
    known = [address, address_of(host, port), *([address_of(name, port)] if has_name else [])]
    return ClusterNode(
        id=words[0],
        address=address if is_address(address) else "",
        flags=flags,
        primary_id=words[3],
        epoch=int(words[6]) if _EPOCH.fullmatch(words[6]) else 0,
        slots=_spans(words[8:]),
        moving_slots=sum(word.startswith("[") for word in words[8:]),
        names=tuple(dict.fromkeys(filter(is_address, known))),
    )


def _spans(words: Iterable[str]) -> tuple[tuple[int, int], ...]:
    """In order and apart, whatever the node says: what compares them takes no longer then."""
    said = (_SPAN.fullmatch(word) for word in words)
    spans = sorted((int(span[1]), int(span[2] or span[1])) for span in said if span)
    found: list[tuple[int, int]] = []
    for first, last in spans:
        if last >= SLOTS or last < first:
            continue
        if found and first <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(last, found[-1][1])
        else:
            found.append((first, last))
    return tuple(found)


View = Sequence[ClusterNode]


def members(views: Iterable[View]) -> set[str]:
    """The ids of all nodes in them."""
    return {node.id for view in views for node in view}


def clusters(views: Iterable[View]) -> list[list[View]]:
    """The views by the cluster that they are of, that of most first: views of one share nodes.

    An address may belong to another cluster's node since somebody wrote it down.
    """
    found: list[list[View]] = []
    for view in views:
        alike: list[list[View]] = []
        others: list[list[View]] = []
        for group in found:
            (alike if members(group) & members([view]) else others).append(group)
        found = [*others, [*itertools.chain(*alike), view]]
    return sorted(found, key=len, reverse=True)


def newest(views: Iterable[Sequence[ClusterNode]]) -> Sequence[ClusterNode]:
    """Of several nodes' views the one that knows of the latest failover: of the highest epoch.

    Nodes cut off from the others keep an old one.
    """
    return max(views, key=lambda view: max((node.epoch for node in view), default=-1), default=())


def myself(view: Iterable[ClusterNode]) -> ClusterNode | None:
    """The node that was asked."""
    return next((node for node in view if "myself" in node.flags), None)


def successor(before: ClusterNode, view: Sequence[ClusterNode]) -> ClusterNode | None:
    """Who serves now what a primary served: itself, or who has most of its slots.

    None: nobody does, so far.
    """
    now = next((node for node in view if node.id == before.id), None)
    is_well = now is not None and now.is_primary and not now.is_failing
    if now is not None and is_well and (now.slots or not before.slots):
        return now
    serving = [node for node in view if node.is_primary and not node.is_failing]
    best = max(serving, key=lambda node: _shared(node, before), default=None)
    return best if best is not None and _shared(best, before) > 0 else None


def _shared(node: ClusterNode, other: ClusterNode) -> int:
    return len(_served(node) & _served(other))


def _served(node: ClusterNode) -> set[int]:
    return {slot for first, last in node.slots for slot in range(first, last + 1)}


def named_by(texts: Iterable[str], view: Sequence[ClusterNode]) -> ClusterNode | None:
    """The node an alert's labels speak of: by host and port, else by a host that only one has.

    An exporter's `instance` has the exporter's port.
    """
    known = [text.rpartition("://")[2] for text in texts]
    for node in view:
        if node.address and not set(known).isdisjoint(node.names):
            return node
    for text in known:
        host = text.rpartition(":")[0] or text
        of_it = [node for node in view if host in {n.rpartition(":")[0] for n in node.names}]
        if len(of_it) == 1:
            return of_it[0]
    return None
