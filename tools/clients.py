"""Who is connected, and what their buffers hold. Source: CLIENT LIST, INFO clients."""

from typing import Literal

from tools.reading import Measured, Reading

ClientType = Literal["normal", "pubsub", "replica", "monitor", "master"]


class ClientGroup(Reading):
    """Clients that share a type, name, address (host only) or last command."""

    key: str
    count: int
    output_bytes: int
    """Sum of omem: replies not read yet."""
    input_bytes: int
    """Sum of qbuf + qbuf-free + argv-mem."""
    memory: int
    """Sum of tot-mem (omem + input where the server has no tot-mem)."""
    longest_idle_seconds: int
    median_idle_seconds: int
    median_age_seconds: int


class ClientRow(Reading):
    """One client of CLIENT LIST."""

    id: int
    name: str
    address: str
    """ip:port, or the socket path"""
    label: str
    """Its name, else its address: what a culprit is called."""
    user: str
    library: str
    type: ClientType
    flags: str
    command: str
    age_seconds: int
    idle_seconds: int
    db: int
    subscriptions: int
    """sub + psub + ssub"""
    multi: int
    """Commands queued in MULTI; -1: not in MULTI."""
    output_bytes: int
    output_list_length: int
    input_bytes: int
    memory: int


class Clients(Reading):
    """All clients, aggregated, with the heaviest ones in full. Ours is left out."""

    connected: int
    """As listed (ours not counted)."""
    maxclients: Measured[int]
    blocked: int
    pubsub: int
    monitors: int
    replicas: int
    in_multi: int
    output_bytes: int
    input_bytes: int
    memory: int
    rejected_connections: Measured[int]
    """INFO stats, since start."""
    by_type: list[ClientGroup]
    by_name: list[ClientGroup]
    """Ten heaviest by memory, then by count. A client without a name is `(unnamed)`."""
    by_address: list[ClientGroup]
    by_command: list[ClientGroup]
    largest: list[ClientRow]
    """Ten by memory."""
    truncated: bool
    """More clients than the cap (10,000) were connected."""
