"""What a remedy reads of its target before and after it writes."""

import statistics
import time
from contextlib import suppress
from dataclasses import dataclass, field

from tools.connection import CommandFailure, Connection, read_info
from tools.reading import printable
from tools.remedies.remedy import Check

MIB = 1024 * 1024
SECTIONS = ("server", "memory", "stats", "replication", "persistence", "errorstats", "keyspace")
PROBES = 3


def sized(count: float) -> str:
    """Bytes for people: `57.2 MiB`."""
    if abs(count) < MIB:
        return f"{count / 1024:.1f} KiB"
    return f"{count / MIB:.1f} MiB" if abs(count) < 1024 * MIB else f"{count / MIB / 1024:.2f} GiB"


@dataclass(frozen=True)
class Vitals:
    """INFO, as numbers; what the server does not report is None, never zero."""

    fields: dict[str, str] = field(default_factory=dict)

    def count(self, name: str) -> int | None:
        """An integer field."""
        try:
            return int(self.fields[name])
        except (KeyError, ValueError):
            return None

    @property
    def used(self) -> int | None:
        """Bytes in use: used_memory."""
        return self.count("used_memory")

    @property
    def counted(self) -> int | None:
        """What counts against maxmemory (evict.c)."""
        used = self.used
        return None if used is None else used - (self.count("mem_not_counted_for_evict") or 0)

    @property
    def pressure(self) -> float | None:
        """Counted memory over maxmemory; None without a limit."""
        counted, limit = self.counted, self.count("maxmemory")
        return counted / limit if counted is not None and limit else None

    @property
    def oom_errors(self) -> int:
        """Writes refused at maxmemory since the start. The server lists only errors it made."""
        return int(self.fields.get("errorstat_OOM", "count=0").partition("=")[2] or 0)

    @property
    def role(self) -> str:
        """`master`, `slave` or `unknown`."""
        return self.fields.get("role", "unknown")

    @property
    def expires(self) -> int:
        """Keys with an expiry, over all databases."""
        return self._keys("expires")

    @property
    def keys(self) -> int:
        """Keys, over all databases."""
        return self._keys("keys")

    def _keys(self, what: str) -> int:
        total = 0
        for name, line in self.fields.items():
            if name.startswith("db") and name[2:].isdigit():
                parts = dict(part.split("=", 1) for part in line.split(",") if "=" in part)
                total += int(parts.get(what, 0))
        return total

    def at_least(self, version: int) -> bool:
        """Does it speak this major version of Redis (Valkey reports the one it is compatible to)?

        An unknown version is an old one.
        """
        major = self.fields.get("redis_version", "0").partition(".")[0]
        return major.isdigit() and int(major) >= version


async def read_vitals(connection: Connection) -> Vitals:
    """INFO's sections that remedies judge by. Raises CommandFailure."""
    return Vitals(await read_info(connection, *SECTIONS))


async def read_parameter(connection: Connection, name: str) -> str | None:
    """CONFIG GET of one allowed parameter; None if this build lacks it. Raises CommandFailure."""
    reply = await connection.execute("CONFIG", "GET", name)
    if isinstance(reply, list) and len(reply) >= 2 and isinstance(reply[1], bytes):
        return printable(reply[1], 1000)
    return None


async def round_trip_seconds(connection: Connection, probes: int = PROBES) -> float:
    """Median of a few round trips: how quickly the server answers right now."""
    times = []
    for _ in range(probes):
        started = time.perf_counter()
        with suppress(CommandFailure):  # an error reply to PING (MISCONF) travelled too
            await connection.execute("PING")
        times.append(time.perf_counter() - started)
    return statistics.median(times)


@dataclass(frozen=True)
class ClientLine:
    """One line of CLIENT LIST, as far as remedies judge by it."""

    id: int
    name: str
    address: str
    type: str
    """normal, pubsub, replica, monitor or master"""
    output_bytes: int
    input_bytes: int
    memory: int
    idle_seconds: int = 0
    quiet: bool = True
    """Nothing is under way: no MULTI, subscription, blocking call, tracking or unread reply."""

    @property
    def label(self) -> str:
        """Its name, else its address: what a culprit is called."""
        return self.name or self.address

    @property
    def buffered(self) -> int:
        """Bytes it makes the server hold."""
        return max(self.output_bytes, self.input_bytes, self.memory)


async def read_clients(connection: Connection, *, only: int | None = None) -> list[ClientLine]:
    """CLIENT LIST, or the one line of a client. Raises CommandFailure."""
    if only is not None:
        with suppress(CommandFailure):  # a recording holds the whole list only
            return _client_lines(await connection.execute("CLIENT", "LIST", "ID", only))
    lines = _client_lines(await connection.execute("CLIENT", "LIST"))
    return [line for line in lines if only is None or line.id == only]


def _client_lines(reply: object) -> list[ClientLine]:
    if not isinstance(reply, bytes):
        return []
    return [_client(line) for line in reply.decode("utf-8", "backslashreplace").splitlines()]


def _client(line: str) -> ClientLine:
    parts = dict(part.split("=", 1) for part in line.split(" ") if "=" in part)

    def count(name: str) -> int:
        value = parts.get(name, "0")
        return int(value) if value.isdigit() else 0

    inward = count("qbuf") + count("qbuf-free") + count("argv-mem") + count("multi-mem")
    return ClientLine(
        id=count("id"),
        name=printable(parts.get("name", "")),
        address=printable(parts.get("addr", "")),
        type=_client_type(parts.get("flags", "N")),
        output_bytes=count("omem"),
        input_bytes=inward,
        memory=count("tot-mem"),
        idle_seconds=count("idle"),
        quiet=_is_quiet(parts, count("omem") + sum(map(count, ("sub", "psub", "ssub")))),
    )


def _is_quiet(parts: dict[str, str], under_way: int) -> bool:
    # N: none; e: no-evict; T: no-touch; U: a unix socket; u: was unblocked. Every other flag says
    # that it is doing something or is somebody special (a replica, a blocked worker).
    plain = set(parts.get("flags", "?")) <= set("NeTUu")
    return plain and not under_way and parts.get("multi", "-1") == "-1"


def _client_type(flags: str) -> str:
    for flag, kind in (("O", "monitor"), ("M", "master"), ("S", "replica"), ("P", "pubsub")):
        if flag in flags:
            return kind
    return "normal"


def is_primary(vitals: Vitals) -> Check:
    """What a replica holds is its primary's: INFO replication, role."""
    return Check(
        text="The server is a primary: a replica's data is its primary's",
        holds=vitals.role == "master",
        because=f"role: {vitals.role}",
    )
