"""Who is connected, and what their buffers hold. Source: CLIENT LIST, INFO clients."""

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from tools.catalogue import Arguments
from tools.connection import CLIENT_NAME, CommandFailure, Connection, parse_info
from tools.reading import Measured, NotMeasured, Reading, printable

MOST_CLIENTS = 10_000
LARGEST = 10
MOST_GROUPS = 10
UNNAMED = "(unnamed)"

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


@dataclass(frozen=True)
class ClientRows:
    """CLIENT LIST as rows, ours left out."""

    rows: list[ClientRow]
    truncated: bool
    """More than the cap were connected."""


class ClientsArguments(Arguments):
    """None."""


async def client_rows(connection: Connection) -> ClientRows:
    """Who is connected. Raises CommandFailure."""
    listed, own = await connection.execute_many([("CLIENT", "LIST"), ("CLIENT", "ID")])
    if isinstance(listed, CommandFailure):
        raise listed
    return _rows(listed if isinstance(listed, bytes) else b"", own)


def _rows(listed: bytes, own: object) -> ClientRows:
    """Ours is left out by its id and by its name."""
    lines = listed.splitlines()
    rows = [
        row
        for line in islice(lines, MOST_CLIENTS)
        if (row := _row(line)) is not None and row.id != own and row.name != CLIENT_NAME
    ]
    return ClientRows(rows, truncated=len(lines) > MOST_CLIENTS)


async def clients(connection: Connection, args: ClientsArguments) -> Clients | NotMeasured:
    """Connected clients by type, name, host and command, with buffers in bytes, idle in seconds.

    Ours is left out, by id and by its name. At most 10,000 clients are read.
    Source: CLIENT LIST; maxclients of INFO clients or CONFIG GET, rejected_connections of INFO
    stats.
    """
    listed, own, info_clients, info_stats, limit = await connection.execute_many(
        [
            ("CLIENT", "LIST"),
            ("CLIENT", "ID"),
            ("INFO", "clients"),
            ("INFO", "stats"),
            ("CONFIG", "GET", "maxclients"),
        ]
    )
    if isinstance(listed, CommandFailure):
        return listed.as_not_measured()
    if not isinstance(listed, bytes):
        return NotMeasured(not_measured="CLIENT LIST", because="the reply is not text")
    found = _rows(listed, own)
    rows = found.rows
    return Clients(
        connected=len(rows),
        maxclients=_maxclients(info_clients, limit),
        blocked=sum("b" in row.flags for row in rows),
        pubsub=sum(row.type == "pubsub" for row in rows),
        monitors=sum(row.type == "monitor" for row in rows),
        replicas=sum(row.type == "replica" for row in rows),
        in_multi=sum(row.multi >= 0 for row in rows),
        output_bytes=sum(row.output_bytes for row in rows),
        input_bytes=sum(row.input_bytes for row in rows),
        memory=sum(row.memory for row in rows),
        rejected_connections=_field(info_stats, "stats", "rejected_connections"),
        by_type=_groups(rows, lambda row: row.type),
        by_name=_groups(rows, lambda row: row.name or UNNAMED),
        by_address=_groups(rows, lambda row: _host(row.address)),
        by_command=_groups(rows, lambda row: row.command),
        largest=sorted(rows, key=lambda row: (-row.memory, row.id))[:LARGEST],
        truncated=found.truncated,
    )


def _row(line: bytes) -> ClientRow | None:
    """One line of CLIENT LIST: `field=value` by spaces; a field this version lacks counts 0."""
    raw = dict(part.partition(b"=")[::2] for part in line.split(b" "))
    fields = {printable(name): printable(value) for name, value in raw.items()}
    if not fields.get("id", "").isdecimal():
        return None
    name, address = fields.get("name", ""), fields.get("addr", "")
    output = _count(fields, "omem")
    given = _count(fields, "qbuf", "qbuf-free", "argv-mem")
    return ClientRow(
        id=int(fields["id"]),
        name=name,
        address=address,
        label=name or address,
        user=fields.get("user", ""),
        library=" ".join(filter(None, (fields.get("lib-name"), fields.get("lib-ver")))),
        type=_type(fields.get("flags", "")),
        flags=fields.get("flags", ""),
        command=fields.get("cmd", ""),
        age_seconds=_count(fields, "age"),
        idle_seconds=_count(fields, "idle"),
        db=_count(fields, "db"),
        subscriptions=_count(fields, "sub", "psub", "ssub"),
        multi=_number(fields.get("multi", ""), otherwise=-1),
        output_bytes=output,
        output_list_length=_count(fields, "oll"),
        input_bytes=given,
        memory=_count(fields, "tot-mem") if "tot-mem" in fields else output + given,
    )


def _type(flags: str) -> ClientType:
    """CLIENT LIST's flags: O monitor, S replica, M master, P subscriber. A monitor is both O, S."""
    kinds: tuple[tuple[str, ClientType], ...] = (
        ("O", "monitor"),
        ("S", "replica"),
        ("M", "master"),
        ("P", "pubsub"),
    )
    return next((kind for flag, kind in kinds if flag in flags), "normal")


def _count(fields: dict[str, str], *names: str) -> int:
    return sum(max(_number(fields.get(name, ""), otherwise=0), 0) for name in names)


def _number(text: str, otherwise: int) -> int:
    try:
        return int(text)
    except ValueError:
        return otherwise


def _host(address: str) -> str:
    return address.rpartition(":")[0] or address


def _groups(rows: Iterable[ClientRow], key: Callable[[ClientRow], str]) -> list[ClientGroup]:
    members: dict[str, list[ClientRow]] = defaultdict(list)
    for row in rows:
        members[key(row)].append(row)
    groups = [
        ClientGroup(
            key=name,
            count=len(group),
            output_bytes=sum(row.output_bytes for row in group),
            input_bytes=sum(row.input_bytes for row in group),
            memory=sum(row.memory for row in group),
            longest_idle_seconds=max(row.idle_seconds for row in group),
            median_idle_seconds=round(statistics.median(row.idle_seconds for row in group)),
            median_age_seconds=round(statistics.median(row.age_seconds for row in group)),
        )
        for name, group in members.items()
    ]
    groups.sort(key=lambda group: (-group.memory, -group.count, group.key))
    return groups[:MOST_GROUPS]


def _field(answer: object, section: str, name: str) -> Measured[int]:
    if isinstance(answer, CommandFailure):
        return answer.as_not_measured()
    value = parse_info(answer).get(name, "") if isinstance(answer, bytes) else ""
    if value.isdecimal():
        return int(value)
    return NotMeasured(
        not_measured=f"INFO {section} {name}", because=f"this server does not report {name}"
    )


def _maxclients(info: object, configured: object) -> Measured[int]:
    """INFO clients has it since 7.0; CONFIG GET where that is allowed."""
    reported = _field(info, "clients", "maxclients")
    if isinstance(reported, int):
        return reported
    if isinstance(configured, CommandFailure):
        return configured.as_not_measured()
    match configured:
        case [bytes(), bytes() as value] if value.isdigit():
            return int(value)
    return reported
