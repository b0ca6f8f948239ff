"""One cheap look at how a server does: seven INFO sections and a few round trips, as numbers.

Taken every second or so around a write, to tell whether the write made anything worse.
"""

import re
import statistics
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from tools.commands import is_diagnostic
from tools.connection import CommandFailure, Connection, read_info
from tools.remedies.vitals import Vitals

SECTIONS = (
    "server", "clients", "memory", "stats", "replication", "persistence", "errorstats",
    "commandstats",
)  # fmt: skip
PROBES = 5
"""Round trips of one look."""
APART_SECONDS = 0.02
"""Right after a stall every command is quick: probes side by side would meet it once."""
OWN_LAG_MS = 5.0
"""So late, and this process itself waits for its turn: what it times says nothing of the server."""
MOST_COMMANDS = 12
"""Kept of a look, those with most time: the rest changes no mean."""
MOST_ERRORS = 128
"""As many kinds as servers keep."""
_ERROR = re.compile(r"errorstat_([A-Z][A-Z_]{1,29})")
_COMMAND = re.compile(r"cmdstat_([a-z][a-z_.|-]{0,39})")
OTHER_ERRORS = "other"
"""Kinds that are no plain word: a script may name its errors as it likes."""
_SAVES = ("rdb_last_bgsave_status", "aof_last_write_status", "aof_last_bgrewrite_status")
_COUNTERS = {
    "errors": "total_error_replies",
    "evicted_keys": "evicted_keys",
    "expired_keys": "expired_keys",
    "hits": "keyspace_hits",
    "misses": "keyspace_misses",
    "connections": "total_connections_received",
    "rejected_connections": "rejected_connections",
    "full_syncs": "sync_full",
    "buffer_disconnections": "client_output_buffer_limit_disconnections",
}
"""Our name -> INFO stats' name."""

Numbers = dict[str, float | None]


@dataclass(frozen=True)
class Pulse:
    """Numbers of one moment; what the server does not report is None, never zero."""

    at: float
    """Seconds since the epoch."""
    run_id: str
    role: str
    gauges: Numbers = field(default_factory=dict)
    counters: Numbers = field(default_factory=dict)
    """Since the server's start. An error kind that is missing has not happened yet."""
    commands: dict[str, list[int]] = field(default_factory=dict)
    """Of the application's commands: calls, and microseconds together."""

    def to_json(self) -> dict[str, Any]:
        """For the journal."""
        return asdict(self)

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Self:
        """Back from the journal."""
        return cls(**kept)


async def take_pulse(connection: Connection) -> Pulse:
    """Look once. Raises CommandFailure. Source: INFO, TIME."""
    trips = await _round_trips(connection)
    info = await read_info(connection, *SECTIONS)
    trip: Numbers = {
        "round_trip_ms": round(statistics.fmean(trips), 3) if trips else None,
        "worst_round_trip_ms": max(trips, default=None),
    }
    return Pulse(
        at=round(connection.now().timestamp(), 3),
        run_id=info.get("run_id", "unknown"),
        role=info.get("role", "unknown"),
        gauges=trip | _gauges(Vitals(info)),
        counters=_counters(Vitals(info)) | _errors(info),
        commands=_commands(info),
    )


async def _round_trips(connection: Connection) -> list[float]:
    """Milliseconds each; none where it was this process that was slow.

    TIME: PING is refused where snapshots fail, and would count as errors.
    """
    trips, late = [], 0.0
    for _ in range(PROBES):
        waiting = time.perf_counter()
        await connection.wait(APART_SECONDS)
        started = time.perf_counter()
        await connection.execute("TIME")
        trips.append(round((time.perf_counter() - started) * 1000, 3))
        late += started - waiting - APART_SECONDS
    return [] if late / PROBES * 1000 > OWN_LAG_MS else trips


def _gauges(vitals: Vitals) -> Numbers:
    pressure = vitals.pressure
    saves = [vitals.fields[name] for name in _SAVES if name in vitals.fields]
    link = vitals.fields.get("master_link_status")
    return {
        "pressure": None if pressure is None else round(pressure, 4),
        "used_memory": vitals.used,
        "used_memory_rss": vitals.count("used_memory_rss"),
        "connected_clients": vitals.count("connected_clients"),
        "blocked_clients": vitals.count("blocked_clients"),
        "replicas_online": _replicas_online(vitals) if vitals.role == "master" else None,
        "replica_lag_bytes": _lag(vitals),
        "primary_link_down": None if link is None else float(link != "up"),
        "saves_failing": float(sum(save != "ok" for save in saves)) if saves else None,
    }


def _replicas(vitals: Vitals) -> list[dict[str, str]]:
    lines = [line for name, line in vitals.fields.items() if re.fullmatch(r"slave\d+", name)]
    return [dict(part.split("=", 1) for part in line.split(",") if "=" in part) for line in lines]


def _replicas_online(vitals: Vitals) -> float:
    return float(sum(replica.get("state") == "online" for replica in _replicas(vitals)))


def _lag(vitals: Vitals) -> float | None:
    """Bytes that the furthest replica is behind; of a replica, nothing is known of others."""
    written = vitals.count("master_repl_offset")
    offsets = [replica.get("offset", "") for replica in _replicas(vitals)]
    known = [int(offset) for offset in offsets if offset.isdigit()]
    return None if written is None or not known else float(max(0, written - min(known)))


def _counters(vitals: Vitals) -> Numbers:
    return {name: vitals.count(field) for name, field in _COUNTERS.items()}


def _errors(info: Mapping[str, str]) -> Numbers:
    """`errors.OOM` and so on."""
    counted: dict[str, float] = {}
    for name, value in info.items():
        if not name.startswith("errorstat_"):
            continue
        known = _ERROR.fullmatch(name)
        kind = known[1] if known else OTHER_ERRORS
        count = value.partition("count=")[2]
        counted[kind] = counted.get(kind, 0) + (int(count) if count.isdigit() else 0)
    return {f"errors.{kind}": counted[kind] for kind in sorted(counted)[:MOST_ERRORS]}


def _commands(info: Mapping[str, str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for name, value in info.items():
        known = _COMMAND.fullmatch(name)
        if known is None or is_diagnostic(known[1]):
            continue
        parts = dict(part.split("=", 1) for part in value.split(",") if "=" in part)
        if parts.get("calls", "").isdigit() and parts.get("usec", "").isdigit():
            found[known[1]] = [int(parts["calls"]), int(parts["usec"])]
    longest = sorted(found, key=lambda command: -found[command][1])[:MOST_COMMANDS]
    return {command: found[command] for command in longest}


def is_answer(failure: CommandFailure) -> bool:
    """Did the server itself refuse (BUSY, LOADING, NOPERM)? Else it could not be reached."""
    return failure.kind not in ("timeout", "connection_lost", "unreachable", "unresolvable")
