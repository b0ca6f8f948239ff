"""What a server looks like, in little: kept from healthy times, compared with what it is now.

Of what every look has anew (addresses, numbers in names) the general form is kept: `api-7f9-x2`
and `api-b41-q8` are the same population of clients.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import islice

from pydantic import Field

from tools.clients import UNNAMED, ClientRow, ClientRows, client_rows
from tools.configuration import ConfigGetArguments, config_get
from tools.connection import CommandFailure, Connection, read_info
from tools.encodings import ROWS, Encodings
from tools.prefixes import OTHER
from tools.reading import NotMeasured, Reading, printable
from tools.redaction import redact
from tools.replies import fields
from tools.secret_shapes import REDACTED

MOST_COMMANDS = 100
MOST_POPULATIONS = 50
MOST_DATABASES = 16
MOST_KEPT = 64
"""Shapes of one kind."""
FLOWS = {
    "connections_per_second": "total_connections_received",
    "input_bytes_per_second": "total_net_input_bytes",
    "output_bytes_per_second": "total_net_output_bytes",
    "evicted_keys_per_second": "evicted_keys",
    "expired_keys_per_second": "expired_keys",
}
"""What is compared -> the counter of INFO stats that it is the rate of."""
_PARTS = re.compile(r"([^0-9A-Za-z]+)")
_NUMBERED = re.compile(r"([A-Za-z]{2,})[0-9]+")
_UPTIME = re.compile(r"[0-9]{1,10}")
_COUNT = re.compile(r"[0-9]{1,18}")
_NO_WORD = 5
"""Letters: so many without a vowel are no word, but a name that a machine made."""


class Population(Reading):
    """Clients whose names differ only in numbers and the like."""

    client: str
    count: int


class ServerShape(Reading):
    """A server at one moment. What could not be read is empty, or None."""

    at: datetime
    node: str
    """host:port"""
    run_id: str
    started_at: datetime | None
    flavour: str
    """`redis 7.0.15`"""
    role: str
    """`primary` or `replica`"""
    primary: str
    """Of a replica: host:port."""
    parameters: dict[str, str] = Field(max_length=100)
    counters: dict[str, int] = Field(max_length=len(FLOWS))
    """By name of the rate: INFO stats, since the server's start."""
    calls: dict[str, int] = Field(max_length=MOST_COMMANDS)
    """By command, the most frequent ones: INFO commandstats, since the server's start."""
    clients: list[Population] | None = Field(max_length=MOST_POPULATIONS)
    """The largest first; None: CLIENT LIST was refused."""
    all_clients: bool = True
    """No population was left out."""
    to_its_end: bool = True
    """The list of clients was read; else there may be more of each population."""
    keys: dict[str, int] | None = Field(max_length=MOST_DATABASES)
    """By database: `db0`. None: there are too many databases."""
    unread: list[NotMeasured] = Field(default_factory=list, max_length=4)
    """What was refused."""


class KeyGroup(Reading):
    """Sampled keys that are alike."""

    prefix: str
    type: str
    encoding: str
    keys: int


class KeyShape(Reading):
    """A sample of the keys of one database at one moment."""

    at: datetime
    sampled: int
    groups: list[KeyGroup] = Field(max_length=ROWS)
    """Without small ones beyond the first, and keys whose prefix is too rare to be told."""


class Baselines(Reading):
    """A target's shapes of healthy times, oldest first."""

    servers: list[ServerShape] = Field(default_factory=list, max_length=MOST_KEPT)
    keyspaces: list[KeyShape] = Field(default_factory=list, max_length=MOST_KEPT)
    because: str = ""
    """Why there are none."""


def population(row: ClientRow) -> str:
    """What a client belongs to: its name without secrets and what differs from one to the next.

    Parts that hold digits, or that are no word, become `*`; so do the digits after a word.
    """
    # First: a secret whose digits are gone is not seen to be one.
    name = redact(row.name or f"{UNNAMED} {row.library}".strip())
    parts = REDACTED.split(name)
    shown = (part if at % 2 else _without_numbers(part) for at, part in enumerate(parts))
    return printable("".join(shown), 100)


def _without_numbers(text: str) -> str:
    return "".join(_general(part) for part in _PARTS.split(text))


def _general(part: str) -> str:
    if (numbered := _NUMBERED.fullmatch(part)) is not None:
        return f"{_general(numbered[1])}*".replace("**", "*")
    made = len(part) >= _NO_WORD and part.isascii() and part.isalnum()
    spoken = re.search(r"[aeiouyAEIOUY]", part) is not None
    return "*" if re.search(r"[0-9]", part) or (made and not spoken) else part


async def server_shape(connection: Connection) -> ServerShape:
    """The server as it is now. Raises CommandFailure.

    Source: INFO server, stats, commandstats, keyspace, replication; CONFIG GET; CLIENT LIST.
    """
    info = await read_info(connection, "server", "stats", "commandstats", "keyspace", "replication")
    shape = shape_of(info, connection.now(), connection.node.partition(" ")[0])
    read: dict[str, object] = {}
    unread = []
    try:
        found = await config_get(connection, ConfigGetArguments())
        read["parameters"] = found.parameters
    except CommandFailure as failure:
        unread.append(failure.as_not_measured())
    try:
        read |= await asyncio.to_thread(_populations, await client_rows(connection))
    except CommandFailure as failure:
        unread.append(failure.as_not_measured())
    return shape.model_copy(update={**read, "unread": unread})


def _populations(listed: ClientRows) -> dict[str, object]:
    apps = [row for row in listed.rows if row.type in ("normal", "pubsub")]
    counts = Counter(map(population, apps))
    kept = counts.most_common(MOST_POPULATIONS)
    return {
        "clients": [Population(client=name, count=n) for name, n in kept],
        "all_clients": not listed.truncated and len(counts) <= MOST_POPULATIONS,
        "to_its_end": not listed.truncated,
    }


def shape_of(info: dict[str, str], at: datetime, node: str) -> ServerShape:
    """What INFO says of it. Pure."""
    told = (("valkey", info.get("valkey_version")), ("redis", info.get("redis_version")))
    flavour = next((f"{name} {version}" for name, version in told if version), "")
    uptime = info.get("uptime_in_seconds", "")
    first = list(islice(info.items(), 10_000))
    calls = _counts(
        (printable(name.removeprefix("cmdstat_").lower(), 64), fields(line).get("calls"))
        for name, line in first
        if name.startswith("cmdstat_")
    )
    keys = _counts(
        (name, fields(line).get("keys"))
        for name, line in first
        if re.fullmatch(r"db[0-9]{1,5}", name)
    )
    counters = _counts((name, info.get(field)) for name, field in FLOWS.items() if field in info)
    role = {"master": "primary", "slave": "replica"}.get(info.get("role", ""), "")
    host, port = info.get("master_host"), info.get("master_port")
    return ServerShape(
        at=at,
        node=printable(node),
        run_id=printable(info.get("run_id", ""), 64),
        started_at=at - timedelta(seconds=int(uptime)) if _UPTIME.fullmatch(uptime) else None,
        flavour=printable(flavour),
        role=role,
        primary=printable(f"{host}:{port}") if role == "replica" and host and port else "",
        parameters={},
        counters=counters or {},
        calls=dict(Counter(calls or {}).most_common(MOST_COMMANDS)),
        clients=None,
        keys=keys if keys is not None and len(keys) <= MOST_DATABASES else None,
    )


def _counts(told: Iterable[tuple[str, str | None]]) -> dict[str, int] | None:
    """None where one is no number: what is left out would count as nothing."""
    found = {}
    for name, number in told:
        if number is None or not _COUNT.fullmatch(number):
            return None
        found[name] = int(number)
    return found


def key_shape(reading: Encodings, at: datetime) -> KeyShape:
    """What a sample of the keys says, without secrets. Pure."""
    return KeyShape(
        at=at,
        sampled=reading.keys_seen,
        groups=[
            KeyGroup(prefix=redact(row.prefix), type=row.type, encoding=row.encoding, keys=row.keys)
            for row in reading.rows
            if row.prefix != printable(OTHER)
        ],
    )
