"""Signals of clients: who does not read, who sends half a request, who watches everything."""

from collections.abc import Callable

from agent.incident import Culprit, CulpritKind
from agent.signals.seen import MIB, Finding, Look, Seen, clamp, measured, scaled, signal
from tools.clients import ClientRow, Clients
from tools.memory import MemoryInfo
from tools.reading import NotMeasured

BUFFER_FLOOR = MIB
"""A client that reads holds some KB; FAILURE_MODES 10: far above 1 MB."""
BUFFER_SHARE = 0.1
"""Of used memory; on a server with less, the next threshold decides."""
BUFFER_LARGE = 8 * MIB
"""The soft limit of client-output-buffer-limit pubsub, redis.conf: large on any server."""
LEFT_ON_SECONDS = 60
"""Nobody watches MONITOR by eye for longer."""


def _heaviest(
    clients: Look[Clients], size: Callable[[ClientRow], int], *types: str
) -> tuple[int, ClientRow] | None:
    rows = [(i, row) for i, row in enumerate(clients.reading.largest) if row.type in types]
    return max(rows, key=lambda item: size(item[1]), default=None)


def _is_large(size: int, used: int) -> bool:
    return size >= BUFFER_LARGE or (size >= BUFFER_FLOOR and size >= BUFFER_SHARE * used)


def _strength(size: int, used: int) -> float:
    return clamp(0.6 + 0.4 * scaled(size / max(used, 1), BUFFER_SHARE, 0.5))


def _unread(seen: Seen, text: str, *types: str, kind: CulpritKind = "client") -> Finding | None:
    clients = seen.look(Clients)
    memory = seen.optional(MemoryInfo)
    used = memory.reading.used_memory if memory else 0
    used = 0 if isinstance(used, NotMeasured) else used
    found = _heaviest(clients, lambda row: row.output_bytes, *types)
    if found is None:
        return None
    index, row = found
    if not _is_large(row.output_bytes, used):
        return None
    at = f"largest.{index}"
    return Finding(
        text,
        [
            clients.fact("client", f"{at}.label", unit="text"),
            clients.fact("address", f"{at}.address", unit="text"),
            clients.fact("bytes", f"{at}.output_bytes", unit="bytes"),
            clients.fact("command", f"{at}.command", unit="text"),
        ],
        _strength(row.output_bytes, used),
        Culprit(kind=kind, name=row.label),
    )


@signal("symptom")
def subscriber_unread(seen: Seen) -> Finding | None:
    """A subscriber does not read what is published to it."""
    return _unread(
        seen,
        "The subscriber {client} ({address}) does not read: {bytes} wait in its output buffer "
        "(last command {command}).",
        "pubsub",
    )


@signal("symptom")
def replies_unread(seen: Seen) -> Finding | None:
    """A client does not read its replies."""
    return _unread(
        seen,
        "The client {client} ({address}) does not read its replies: {bytes} wait in its output "
        "buffer (last command {command}).",
        "normal",
    )


@signal("symptom")
def input_buffer_large(seen: Seen) -> Finding | None:
    """A client has sent a huge request that is not complete."""
    clients = seen.look(Clients)
    memory = seen.optional(MemoryInfo)
    used = memory.reading.used_memory if memory else 0
    used = 0 if isinstance(used, NotMeasured) else used
    found = _heaviest(clients, lambda row: row.input_bytes, "normal", "pubsub")
    if found is None or not _is_large(found[1].input_bytes, used):
        return None
    index, row = found
    at = f"largest.{index}"
    return Finding(
        "The client {client} ({address}) holds {bytes} of input buffer: a request it has not "
        "finished.",
        [
            clients.fact("client", f"{at}.label", unit="text"),
            clients.fact("address", f"{at}.address", unit="text"),
            clients.fact("bytes", f"{at}.input_bytes", unit="bytes"),
        ],
        _strength(row.input_bytes, used),
        Culprit(kind="client", name=row.label),
    )


@signal("symptom")
def monitor_attached(seen: Seen) -> Finding | None:
    """A client runs MONITOR: every command is copied to it."""
    clients = seen.look(Clients)
    if not clients.reading.monitors:
        return None
    found = _heaviest(clients, lambda row: row.memory, "monitor")
    if found is None:
        return Finding(
            "{monitors} clients run MONITOR: every command is copied to them.",
            [clients.fact("monitors", "monitors", unit="count")],
            0.7,
        )
    index, row = found
    left_on = row.age_seconds >= LEFT_ON_SECONDS or row.output_bytes >= BUFFER_FLOOR
    at = f"largest.{index}"
    return Finding(
        "The client {client} ({address}) has run MONITOR for {age}; {bytes} wait in its output "
        "buffer.",
        [
            clients.fact("client", f"{at}.label", unit="text"),
            clients.fact("address", f"{at}.address", unit="text"),
            clients.fact("age", f"{at}.age_seconds", unit="seconds"),
            clients.fact("bytes", f"{at}.output_bytes", unit="bytes"),
        ],
        1.0 if left_on else 0.7,
        Culprit(kind="client", name=row.label),
    )


@signal("symptom")
def connections_rejected(seen: Seen) -> Finding | None:
    """New connections are refused: no slot is left."""
    clients = seen.look(Clients)
    most = measured(clients.reading.maxclients)
    if clients.reading.connected + 1 < most * 0.95 or most <= 0:
        return None
    if not measured(clients.reading.rejected_connections):
        return None
    return Finding(
        "{connected} clients are connected, {most} may be, and {rejected} were turned away since "
        "the start.",
        [
            clients.fact("connected", "connected", unit="count"),
            clients.fact("most", "maxclients", unit="count"),
            clients.fact("rejected", "rejected_connections", unit="count"),
        ],
    )
