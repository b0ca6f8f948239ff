"""Where walks over the keyspace go: to a healthy replica, where the target's policy says so."""

import asyncio
from collections.abc import Sequence
from typing import Literal

from tools.catalogue import Tool
from tools.connection import CommandFailure, Connection, read_info
from tools.node_rows import NodeRow, role_of
from tools.nodes import Nodes, replication_nodes
from tools.reading import NotMeasured
from tools.scanner import ScanArguments

WalkOn = Literal["primary", "prefer_replica", "replica"]
MOST_LAG_BYTES = 16 * 1024**2
"""Of the replication stream: a replica further behind than this shows another keyspace."""


class Walker:
    """Chooses the node for the walks of an investigation: the same one while it is fit for them."""

    def __init__(self, connection: Connection, walk_on: WalkOn) -> None:
        self._connection = connection
        self._walk_on = walk_on
        self._chosen: Connection | None = None
        self._choosing = asyncio.Lock()

    async def connection_for(self, tool: Tool) -> Connection:
        """The connection to run a tool on. Raises CommandFailure: on none."""
        if self._walk_on == "primary" or not issubclass(tool.args, ScanArguments):
            return self._connection
        async with self._choosing:
            if self._chosen is None or not await self._is_fit(self._chosen):
                self._chosen = None
                self._chosen = await self._choose()
        return self._chosen

    async def _is_fit(self, chosen: Connection) -> bool:
        """Still: it may have died, lost its primary, or become one since."""
        is_first = chosen is self._connection
        if is_first and self._walk_on == "prefer_replica":
            return True
        try:
            info = await read_info(chosen, "replication")
        except CommandFailure as failure:
            return failure.kind == "not_recorded"
        is_linked = is_first or info.get("master_link_status") == "up"
        return role_of(info) == "replica" and is_linked

    async def _choose(self) -> Connection:
        try:
            found = await replication_nodes(self._connection)
            if found.rows[0].role == "replica":
                return self._connection
            return await self._connection.at(healthiest(found.rows[1:]))
        except CommandFailure:
            if self._walk_on == "replica":
                raise
            return self._connection


def healthiest(rows: Sequence[NodeRow]) -> str:
    """The replica with the least to do among those that are well. Raises CommandFailure."""
    reasons = {row.node: why for row in rows if (why := _unfit(row))}
    fit = [row for row in rows if row.node not in reasons]
    if not fit:
        said = "; ".join(f"{node}: {why}" for node, why in list(reasons.items())[:3])
        raise CommandFailure(
            "refused",
            "choose a replica to walk on",
            said or "the primary has none",
            "mend a replica, or let walks go to the primary (`walk_on: prefer_replica`)",
        )
    return min(fit, key=_ops).node


def walking_nodes(found: Nodes, walk_on: WalkOn) -> list[str]:
    """Of a cluster, where to walk so as to see all keys: a node of each shard."""
    primaries = [row for row in found.rows if row.role == "primary" and row.slots]
    return [_of_shard(row, found.rows, walk_on) for row in primaries]


def _of_shard(primary: NodeRow, rows: Sequence[NodeRow], walk_on: WalkOn) -> str:
    if walk_on == "primary":
        return primary.node
    try:
        return healthiest([row for row in rows if row.primary == primary.node])
    except CommandFailure:
        return primary.node if walk_on == "prefer_replica" else ""


def _ops(row: NodeRow) -> int:
    return row.numbers.ops_per_second if not isinstance(row.numbers, NotMeasured) else 0


def _unfit(row: NodeRow) -> str:
    if isinstance(row.numbers, NotMeasured):
        return row.numbers.because
    if row.numbers.link != "up":
        return f"its link to the primary is {row.numbers.link or 'unknown'}"
    if isinstance(row.lag_bytes, NotMeasured):
        return row.lag_bytes.because
    if (row.lag_bytes or 0) > MOST_LAG_BYTES:
        return f"it is {row.lag_bytes:,} bytes behind"
    return ""
