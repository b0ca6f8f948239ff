"""What a target looks like in healthy times, kept at intervals: for what changed since then."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from agent.context import Target
from agent.reaching import open_target
from agent.redaction import redacted
from api.observed_connection import ObservedConnection
from api.store import baselines, incidents
from api.store.baselines import Kind
from api.store.database import Database
from api.store.leases import acquire, release
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
        """Whether the node was not looked at for that within the interval.

        A look of a later time is one of a clock that ran ahead.
        """
        at = self.latest.get((node, kind))
        return at is None or not self.now - EVERY[kind] < at <= self.now

    @property
    def anything(self) -> bool:
        """Of a node that was there lately; a new one shows itself with the next look at those."""
        lately = self.now - 2 * EVERY["keyspace"]
        nodes = {node for (node, _), at in self.latest.items() if at > lately} or {""}
        return any(self.is_due(node, kind) for node in nodes for kind in EVERY)


@dataclass
class Seen:
    """By node, of a cluster: what a look has found so far."""

    shapes: list[tuple[str, ServerShape | KeyShape]] = field(default_factory=list)
    failed_because: str = ""


async def keep(database: Database, target: Target, holder: str, every: float) -> None:
    """Look at the target and keep that, where it is time and nothing is wrong with it.

    `every`: seconds between two calls. A look that fails is not begun again before the next one
    would be due: a server on which walks take too long is not walked on all the time.
    """
    now = incidents.now() + timedelta(seconds=every / 2)  # half an interval is the nearest
    if await _due(database, target.name, now) is None:
        return
    # No target's name has a slash: this is the lease of no investigation.
    name, seconds = f"baseline/{target.name}", EVERY["server"].total_seconds() * 0.9
    lease = await acquire(database, name, "", holder, seconds)
    # Another worker may just have done it.
    if lease is None or (due := await _due(database, target.name, now)) is None:
        return
    seen = Seen()
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            await _look(target, due, seen)
    except (CommandFailure, TimeoutError) as failure:
        seen.failed_because = type(failure).__name__
    async with database.writing() as session:
        # What began while we looked is no healthy time.
        if seen.shapes and await baselines.is_quiet(session, target.name, now):
            for node, shape in seen.shapes:
                await baselines.keep(session, target.name, shape, node)
    if seen.failed_because:
        log.debug("baseline_failed", target=target.name, because=seen.failed_because)
    else:
        await release(database, lease)


async def _due(database: Database, target: str, now: datetime) -> Due | None:
    """What it is time for; None: nothing, or something is wrong."""
    async with database.reading() as session:
        due = Due(await baselines.newest(session, target), now)
        return due if due.anything and await baselines.is_quiet(session, target, now) else None


async def _look(target: Target, due: Due, seen: Seen) -> None:
    """Without secrets, as evidence is; the walk comes last. Raises CommandFailure."""
    opened = await open_target(target)
    connection = ObservedConnection(opened, target.name, "watch")
    to_walk: list[tuple[str, Connection]] = []
    try:
        async for node, one in _nodes(connection, target):
            if due.is_due(node, "keyspace"):
                to_walk.append((node, one))
            if due.is_due(node, "server"):
                try:
                    shape = await server_shape(one)
                except CommandFailure as failure:
                    seen.failed_because = type(failure).__name__
                    continue
                kept = redacted(shape.model_copy(update={"unread": []}))
                if isinstance(kept, ServerShape):
                    seen.shapes.append((node, kept))
        if not to_walk:
            return
        # Any of them: one on which walks fail keeps no other from its turn.
        node, one = secrets.choice(to_walk)
        walks = await Walker(one, target.walk_on).connection_for(READS["key_changes"])
        sample = redacted(await READS["encodings"].call(walks, {}))
        if isinstance(sample, Encodings):
            seen.shapes.append((node, key_shape(sample, one.now())))
        else:
            seen.failed_because = "not_measured"
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
