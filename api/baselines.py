"""What a target looks like in healthy times, kept at intervals: for what changed since then."""

import asyncio
from datetime import timedelta

import structlog

from agent.context import Target
from agent.reaching import open_target
from agent.redaction import redacted
from api.observed_connection import ObservedConnection
from api.store import baselines, incidents
from api.store.baselines import Kind
from api.store.database import Database
from api.store.leases import acquire
from tools.connection import CommandFailure
from tools.encodings import Encodings
from tools.reads import READS
from tools.replicas import Walker
from tools.shape import KeyShape, ServerShape, key_shape, server_shape
from tools.target_url import deployment_of

EVERY: dict[Kind, timedelta] = {"server": timedelta(minutes=15), "keyspace": timedelta(hours=1)}
"""A look at the keys is a walk: 2,000 of them, gently, with up to five lookups each."""
LOOK_SECONDS = 30.0
log = structlog.get_logger(__name__)


async def keep(database: Database, target: Target, holder: str, every: float) -> None:
    """Look at the target and keep that, where it is time and nothing is wrong with it.

    `every`: seconds between two calls. Not of a cluster: which node is looked at varies there.
    """
    if deployment_of(target.url).kind == "cluster":
        return
    now = incidents.now() + timedelta(seconds=every / 2)  # half an interval is the nearest
    async with database.reading() as session:
        latest = {kind: await baselines.newest(session, target.name, kind) for kind in EVERY}
        due = [kind for kind, at in latest.items() if at is None or now - at >= EVERY[kind]]
        if not due or not await baselines.is_quiet(session, target.name, now):
            return
    # No target's name has a slash: this is the lease of no investigation.
    if await acquire(database, f"baseline/{target.name}", "", holder, LOOK_SECONDS * 2) is None:
        return
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            shapes = await _looks(target, due)
    except (CommandFailure, TimeoutError) as failure:
        log.debug("baseline_failed", target=target.name, because=type(failure).__name__)
        return
    async with database.writing() as session:
        # What began while we looked is no healthy time.
        if await baselines.is_quiet(session, target.name, now):
            for kind, shape in shapes.items():
                await baselines.keep(session, target.name, kind, shape)


async def _looks(target: Target, due: list[Kind]) -> dict[Kind, ServerShape | KeyShape]:
    """Without secrets, as evidence is. Raises CommandFailure."""
    opened = await open_target(target)
    connection = ObservedConnection(opened, target.name, "watch")
    found: dict[Kind, ServerShape | KeyShape] = {}
    try:
        if "server" in due:
            seen = await server_shape(connection)
            shape = redacted(seen.model_copy(update={"unread": []}))
            if isinstance(shape, ServerShape):
                found["server"] = shape
        if "keyspace" in due:
            walks = await Walker(connection, target.walk_on).connection_for(READS["key_changes"])
            sample = redacted(await READS["encodings"].call(walks, {}))
            if isinstance(sample, Encodings):
                found["keyspace"] = key_shape(sample, connection.now())
    finally:
        await connection.close()
    return found
