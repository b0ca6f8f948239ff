"""What a target looks like in healthy times, kept at intervals: for what changed since then."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from agent.context import Target
from agent.reaching import open_target
from agent.redaction import redacted
from api.observed_connection import ObservedConnection
from api.store import baselines, incidents
from api.store.baselines import Kind
from api.store.database import Database
from api.store.leases import acquire
from tools.connection import CommandFailure, Connection
from tools.encodings import Encodings
from tools.nodes import Nodes
from tools.reading import NotMeasured
from tools.reads import READS
from tools.replicas import Walker
from tools.shape import KeyShape, ServerShape, key_shape, server_shape
from tools.target_url import deployment_of

EVERY: dict[Kind, timedelta] = {"server": timedelta(minutes=15), "keyspace": timedelta(hours=1)}
"""A look at the keys is a walk: 2,000 of them, gently, with up to five lookups each."""
LOOK_SECONDS = 30.0
MOST_NODES = 16
"""Primaries of a cluster; one walk at a time over any of them."""
log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Due:
    """What it is time for."""

    latest: Mapping[tuple[str, str], datetime]
    now: datetime

    def is_due(self, node: str, kind: Kind) -> bool:
        """Whether the node was not looked at for that within the interval."""
        at = self.latest.get((node, kind))
        return at is None or self.now - at >= EVERY[kind]

    @property
    def anything(self) -> bool:
        """Of a node that was there lately; a new one shows itself with the next look at those."""
        lately = self.now - 2 * EVERY["keyspace"]
        nodes = {node for (node, _), at in self.latest.items() if at > lately} or {""}
        return any(self.is_due(node, kind) for node in nodes for kind in EVERY)


async def keep(database: Database, target: Target, holder: str, every: float) -> None:
    """Look at the target and keep that, where it is time and nothing is wrong with it.

    `every`: seconds between two calls.
    """
    now = incidents.now() + timedelta(seconds=every / 2)  # half an interval is the nearest
    async with database.reading() as session:
        due = Due(await baselines.newest(session, target.name), now)
        if not due.anything or not await baselines.is_quiet(session, target.name, now):
            return
    # No target's name has a slash: this is the lease of no investigation.
    if await acquire(database, f"baseline/{target.name}", "", holder, LOOK_SECONDS * 1.5) is None:
        return
    found = []
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            found = [one async for one in _looks(target, due)]
    except (CommandFailure, TimeoutError) as failure:
        log.debug("baseline_failed", target=target.name, because=type(failure).__name__)
    async with database.writing() as session:
        # What began while we looked is no healthy time.
        if found and await baselines.is_quiet(session, target.name, now):
            for node, shape in found:
                await baselines.keep(session, target.name, shape, node)


async def _looks(target: Target, due: Due) -> AsyncIterator[tuple[str, ServerShape | KeyShape]]:
    """Without secrets, as evidence is; by node, of a cluster. Raises CommandFailure."""
    opened = await open_target(target)
    connection = ObservedConnection(opened, target.name, "watch")
    walked = False
    try:
        async for node, one in _nodes(connection, target):
            if due.is_due(node, "server"):
                seen = await server_shape(one)
                shape = redacted(seen.model_copy(update={"unread": []}))
                if isinstance(shape, ServerShape):
                    yield node, shape
            if not walked and due.is_due(node, "keyspace"):
                walked = True
                walks = await Walker(one, target.walk_on).connection_for(READS["key_changes"])
                sample = redacted(await READS["encodings"].call(walks, {}))
                if isinstance(sample, Encodings):
                    yield node, key_shape(sample, one.now())
    finally:
        await connection.close()


async def _nodes(connection: Connection, target: Target) -> AsyncIterator[tuple[str, Connection]]:
    """Every primary of a cluster by its address; else what answers for the target."""
    if deployment_of(target.url).kind != "cluster":
        yield "", connection
        return
    found = await READS["nodes"].call(connection, {})
    rows = found.rows if isinstance(found, Nodes) else []
    primaries = [
        row
        for row in rows
        if row.role == "primary" and row.slots and not isinstance(row.numbers, NotMeasured)
    ]
    for row in primaries[:MOST_NODES]:
        yield row.node, await connection.at(row.node)
