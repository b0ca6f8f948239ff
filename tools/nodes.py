"""All nodes of a deployment side by side: the cluster's, or a primary and its replicas."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Literal

from tools.catalogue import Arguments
from tools.cluster_view import ClusterNode, cluster_view, myself
from tools.connection import CommandFailure, Connection, parse_info
from tools.node_rows import SECTIONS, NodeRow, medians, numbers_of, primary_of, role_of
from tools.reading import Measured, NotMeasured, Reading, printable
from tools.replies import fields
from tools.target_url import address_of

MOST_ROWS = 64
AT_ONCE = 8
"""Nodes that are asked at the same time."""
NODE_SECONDS = 6.0
"""Longest one node may take."""
ALL_SECONDS = 15.0
"""Longest all others may take: of a look that takes twice as long nothing is kept."""


class Nodes(Reading):
    """The node that is looked at first, then those of its shard, then the others."""

    kind: Literal["cluster", "replication", "single"]
    rows: list[NodeRow]
    """At most 64."""
    more_nodes: int
    """That are not among the rows."""
    primaries: int
    replicas: int
    not_reached: int
    """Of the rows, those that did not answer."""
    failing: int
    """Nodes that the cluster marks as failed."""
    others_median_used_bytes: Measured[int]
    """used_memory of the other primaries in the rows."""
    others_median_ops_per_second: Measured[int]
    """Commands a second of the other primaries in the rows."""


class NodesArguments(Arguments):
    """None."""


Asked = tuple[dict[str, str], Measured[int]]
"""INFO of a node, and its keys."""


async def nodes(connection: Connection, args: NodesArguments) -> Nodes:
    """Every node of the cluster, or primary and replicas: role, slots, memory, load, lag (bytes).

    Source: CLUSTER NODES, INFO, DBSIZE of each node.
    """
    info, keys = await _ask(connection)
    here = _here(connection)
    if info.get("cluster_enabled") == "1":
        return await _of_cluster(connection, here, (info, keys))
    return await _of_replication(connection, here, (info, keys))


async def replication_nodes(connection: Connection) -> Nodes:
    """The shard alone: this node, its primary and replicas. Raises CommandFailure."""
    return await _of_replication(connection, _here(connection), await _ask(connection))


def _here(connection: Connection) -> str:
    return connection.node.partition(" ")[0]


async def _ask(connection: Connection) -> Asked:
    commands = [*(("INFO", section) for section in (*SECTIONS, "cluster")), ("DBSIZE",)]
    *sections, size = await connection.execute_many(commands)
    info: dict[str, str] = {}
    for section in sections:
        if isinstance(section, CommandFailure):
            raise section
        info |= parse_info(section)
    if isinstance(size, CommandFailure):
        return info, size.as_not_measured()
    unread = NotMeasured(not_measured="DBSIZE", because="this server does not report it")
    return info, size if isinstance(size, int) else unread


async def _ask_others(
    connection: Connection, addresses: Sequence[str]
) -> dict[str, Asked | NotMeasured]:
    """Each for itself: one that is silent does not keep the others, nor do many of them."""
    turn, clock = asyncio.Semaphore(AT_ONCE), asyncio.get_running_loop().time
    until = clock() + ALL_SECONDS

    async def ask(address: str) -> Asked | NotMeasured:
        async with turn:
            try:
                async with asyncio.timeout_at(min(until, clock() + NODE_SECONDS)):
                    return await _ask(await connection.at(address))
            except CommandFailure as failure:
                return failure.as_not_measured()
            except TimeoutError:
                return NotMeasured(
                    not_measured=f"INFO of {address}",
                    because=f"no answer within {NODE_SECONDS:.0f} s, or too many others gave none",
                    failure="timeout",
                )

    asked = list(dict.fromkeys(addresses))
    replies = await asyncio.gather(*map(ask, asked))
    return dict(zip(asked, replies, strict=True))


# -- a cluster ------------------------------------------------------------------------------


async def _of_cluster(connection: Connection, here: str, own: Asked) -> Nodes:
    view = cluster_view(await connection.execute("CLUSTER", "NODES"))
    me = myself(view)
    ordered = sorted(view, key=lambda node: (node is not me, not _same_shard(node, me)))
    shown = ordered[:MOST_ROWS]
    found = await _ask_others(
        connection,
        [node.address for node in shown if node is not me and node.address and not node.is_failing],
    )
    addresses = {node.id: here if node is me else node.address for node in view}
    rows = [
        _cluster_row(node, here, own, addresses)
        if node is me
        else _cluster_row(node, node.address, found.get(node.address) or _marked(node), addresses)
        for node in shown
    ]
    return _nodes("cluster", rows, view=view)


def _same_shard(node: ClusterNode, me: ClusterNode | None) -> bool:
    if me is None:
        return False
    return (me.id if me.is_primary else me.primary_id) in (node.id, node.primary_id)


def _marked(node: ClusterNode) -> NotMeasured:
    return NotMeasured(
        not_measured=f"INFO of {node.address or 'a node without an address'}",
        because="the cluster marks it as failed: it was not asked",
        failure="unreachable",
    )


def _cluster_row(
    node: ClusterNode, address: str, asked: Asked | NotMeasured, addresses: Mapping[str, str]
) -> NodeRow:
    wrong = sorted(node.flags & {"fail", "fail?", "noaddr", "handshake"})
    return NodeRow(
        node=printable(address) or "unknown",
        role="primary" if node.is_primary else "replica",
        primary=None if node.is_primary else addresses.get(node.primary_id) or None,
        state=", ".join(wrong) or "ok",
        slots=node.slot_count,
        moving_slots=node.moving_slots,
        numbers=asked if isinstance(asked, NotMeasured) else numbers_of(*asked),
    )


# -- a primary and its replicas ---------------------------------------------------------------


async def _of_replication(connection: Connection, here: str, own: Asked) -> Nodes:
    asked: dict[str, Asked | NotMeasured] = {here: own}
    primary = here
    if role_of(own[0]) == "replica" and (named := primary_of(own[0])) is not None:
        primary = named
        asked |= await _ask_others(connection, [primary])
    told = asked[primary]
    replicas = {} if isinstance(told, NotMeasured) else _replicas(told[0])
    if primary != here:
        replicas = {address: state for address, state in replicas.items() if address != here}
    shown = list(replicas)[: MOST_ROWS - len(asked)]
    asked |= await _ask_others(connection, [one for one in shown if one not in asked])
    mine = own[0].get("run_id")
    rows = [
        _row(address, found, primary, replicas)
        for address, found in asked.items()
        # Others may call this node by another name than we do.
        if address == here or isinstance(found, NotMeasured) or found[0].get("run_id") != mine
    ]
    return _nodes(
        "replication" if len(rows) > 1 else "single", rows, more=len(replicas) - len(shown)
    )


def _replicas(info: Mapping[str, str]) -> dict[str, str]:
    """host:port of each `slaveN:` line and its state."""
    lines = [
        fields(value)
        for name, value in info.items()
        if name[:5] == "slave" and name[5:].isdecimal()
    ]
    return {
        printable(address_of(line["ip"], line["port"])): printable(line.get("state", ""), 40)
        for line in lines
        if line.get("ip") and line.get("port")
    }


def _row(
    address: str, asked: Asked | NotMeasured, primary: str, replicas: Mapping[str, str]
) -> NodeRow:
    is_replica = address != primary or (
        not isinstance(asked, NotMeasured) and role_of(asked[0]) == "replica"
    )
    state = replicas.get(address, "online")
    return NodeRow(
        node=address,
        role="replica" if is_replica else "primary",
        primary=primary if address != primary else None,
        state="ok" if state == "online" else state,
        numbers=asked if isinstance(asked, NotMeasured) else numbers_of(*asked),
    )


# -- both -------------------------------------------------------------------------------------


def _nodes(
    kind: Literal["cluster", "replication", "single"],
    rows: list[NodeRow],
    *,
    view: Sequence[ClusterNode] = (),
    more: int = 0,
) -> Nodes:
    used, ops = medians(rows[1:])
    everybody = len(view) or len(rows) + more
    primaries = sum(n.is_primary for n in view) or sum(row.role == "primary" for row in rows)
    return Nodes(
        kind=kind,
        rows=_with_lags(rows),
        more_nodes=max(0, everybody - len(rows)),
        primaries=primaries,
        replicas=everybody - primaries,
        not_reached=sum(isinstance(row.numbers, NotMeasured) for row in rows),
        failing=sum(node.is_failing for node in view),
        others_median_used_bytes=used,
        others_median_ops_per_second=ops,
    )


def _with_lags(rows: Sequence[NodeRow]) -> list[NodeRow]:
    offsets = {
        row.node: row.numbers.offset_bytes
        for row in rows
        if not isinstance(row.numbers, NotMeasured)
    }

    def lag(row: NodeRow) -> Measured[int] | None:
        if row.primary is None:
            return None
        if row.node in offsets and row.primary in offsets:
            return max(0, offsets[row.primary] - offsets[row.node])
        return NotMeasured(
            not_measured=f"lag of {row.node}", because="the replica or its primary was not reached"
        )

    return [row.model_copy(update={"lag_bytes": lag(row)}) for row in rows]
