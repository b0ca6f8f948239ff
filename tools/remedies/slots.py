"""Which slots of a cluster a node holds: keys that move to another take their expiry along."""

import zlib

from tools.cluster_view import cluster_view, myself
from tools.connection import CommandFailure, Connection


async def slots_held(connection: Connection) -> str:
    """A sign that changes with them; empty without a cluster, or where it may not be asked."""
    held, _ = await _held(connection)
    return held


async def have_moved(connection: Connection, before: str) -> bool:
    """Since `slots_held` told that, or they are moving now."""
    held, moving = await _held(connection)
    return held != before or moving > 0


async def _held(connection: Connection) -> tuple[str, int]:
    try:
        me = myself(cluster_view(await connection.execute("CLUSTER", "NODES")))
    except CommandFailure:
        return "", 0
    if me is None:
        return "", 0
    return f"{me.slot_count}:{zlib.crc32(repr(me.slots).encode()):08x}", me.moving_slots
