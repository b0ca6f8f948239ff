"""Counters and their rates, from two INFO samples at least 5 s apart."""

import statistics
from typing import Any, ClassVar

from tools.catalogue import Arguments
from tools.commands import READS, WRITES, is_diagnostic
from tools.connection import CommandFailure, Connection, read_info
from tools.provider import provider_of
from tools.reading import InfoReading, Measured, NotMeasured, Reading, printable
from tools.replies import absent, fields, whole
from tools.samples import SampleArguments, take_samples


class ServerInfo(InfoReading):
    """Who the server is. Source: INFO server."""

    info_command: ClassVar[str] = "INFO server"

    redis_version: Measured[str]
    valkey_version: Measured[str]
    redis_mode: Measured[str]
    run_id: Measured[str]
    os: Measured[str]
    process_id: Measured[int]
    uptime_in_seconds: Measured[int]
    hz: Measured[int]
    flavour: str
    """`redis 7.0.15` or `valkey 9.1.2`"""
    provider: str | None = None
    """Whose managed service it is, by the name of its endpoint."""
    round_trip_seconds: Measured[float]
    """Median of five pings (an error reply to PING counts: it travelled)."""


class Stats(InfoReading):
    """INFO stats twice. Names without suffix: last value; `_per_second`: rate between samples."""

    info_command: ClassVar[str] = "INFO stats"

    seconds: float
    """Between the samples."""
    uptime_in_seconds: Measured[int]
    used_memory_first: Measured[int]
    used_memory_last: Measured[int]
    used_memory_per_second: Measured[float]
    keys_per_second: Measured[float]
    """Growth of the number of keys over all databases."""
    keys_without_expiry_per_second: Measured[float] = NotMeasured(
        not_measured="INFO keyspace expires", because="it was not asked for"
    )
    """Growth of the number of keys that never expire."""
    cpu_cores: Measured[float] = NotMeasured(
        not_measured="INFO cpu", because="it was not asked for"
    )
    """Cores the server's process kept busy, our own looks among it; commands run on one."""
    instantaneous_ops_per_sec: Measured[int]
    commands_per_second: Measured[float]
    input_bytes_per_second: Measured[float]
    output_bytes_per_second: Measured[float]
    connections_per_second: Measured[float]
    evicted_keys: Measured[int]
    evicted_keys_per_second: Measured[float]
    expired_keys_per_second: Measured[float]
    expired_stale_perc: Measured[float]
    expired_time_cap_reached_count: Measured[int]
    keyspace_hits_per_second: Measured[float]
    keyspace_misses_per_second: Measured[float]
    hit_ratio: Measured[float]
    """Hits / (hits + misses) between the samples; NotMeasured without lookups."""
    rejected_connections: Measured[int]
    rejected_connections_per_second: Measured[float]
    sync_full: Measured[int]
    sync_full_per_second: Measured[float]
    sync_partial_err: Measured[int]
    replicated_bytes_per_second: Measured[float] = NotMeasured(
        not_measured="INFO replication master_repl_offset", because="it was not asked for"
    )
    """Growth of the replication stream: what a backlog has to hold, a second."""
    client_output_buffer_limit_disconnections: Measured[int] = NotMeasured(
        not_measured="INFO stats client_output_buffer_limit_disconnections",
        because="it was not asked for",
    )
    """Clients cut off for what they left unread (after 7.0.15)."""
    total_forks: Measured[int]
    total_forks_per_second: Measured[float]
    evicted_clients: Measured[int]
    total_error_replies_per_second: Measured[float]
    latest_fork_usec: Measured[int]
    total_eviction_exceeded_time: Measured[int]
    acl_access_denied_auth: Measured[int]
    acl_access_denied_cmd: Measured[int]


class CommandRow(Reading):
    """One command of INFO commandstats."""

    command: str
    """lower case, `config|get` for subcommands"""
    calls: int
    calls_per_second: float
    usec_per_call: float
    """Between the samples if it was called, else since start."""
    rejected_calls: int
    rejected_per_second: float
    failed_calls: int
    cpu_share: float
    """Share of all command time between the samples, a fraction."""


class CommandStats(Reading):
    """INFO commandstats twice; our own diagnostic commands are left out of the rates' order."""

    seconds: float
    commands: list[CommandRow]
    """Thirty with most calls per second, then most calls."""
    writes_per_second: float
    reads_per_second: float
    rejected_per_second: float


class ErrorRow(Reading):
    """One error code of INFO errorstats."""

    code: str
    """OOM, MISCONF, NOPERM, …"""
    count: int
    per_second: float


class ErrorStats(Reading):
    """INFO errorstats twice (6.2 and later)."""

    seconds: float
    errors: list[ErrorRow]
    """Thirty most frequent."""
    oom: int
    oom_per_second: float
    """OOM errors: writes refused at maxmemory."""


class ServerInfoArguments(Arguments):
    """None."""


PINGS = 5
# The link was there and the server answered, if only to say no.
_ANSWERED = frozenset({"misconf", "refused", "loading", "masterdown", "busy", "error"})


async def server_info(connection: Connection, args: ServerInfoArguments) -> ServerInfo:
    """Version, process, uptime in seconds, and how long a round trip takes, in seconds.

    Source: INFO server and five PINGs.
    """
    info = await read_info(connection, "server")
    trip = statistics.median([await _round_trip(connection) for _ in range(PINGS)])
    valkey = info.get("valkey_version")
    flavour = f"valkey {valkey}" if valkey else f"redis {info.get('redis_version', 'unknown')}"
    if "server_mode" in info:  # Valkey's name for it
        info.setdefault("redis_mode", info["server_mode"])
    return ServerInfo.from_info(
        info,
        flavour=flavour,
        provider=provider_of(connection.node),
        round_trip_seconds=trip or absent("round trip in a recording, where no time passes"),
    )


async def _round_trip(connection: Connection) -> float:
    began = connection.now()
    try:
        await connection.execute("PING")
    except CommandFailure as failure:
        if failure.kind not in _ANSWERED:
            raise
    return max(0.0, (connection.now() - began).total_seconds())


class StatsArguments(SampleArguments):
    """How far apart the two samples are taken."""


# Field of Stats -> counter of INFO stats it is the rate of.
_RATES = {
    "commands_per_second": "total_commands_processed",
    "input_bytes_per_second": "total_net_input_bytes",
    "output_bytes_per_second": "total_net_output_bytes",
    "connections_per_second": "total_connections_received",
    "evicted_keys_per_second": "evicted_keys",
    "expired_keys_per_second": "expired_keys",
    "keyspace_hits_per_second": "keyspace_hits",
    "keyspace_misses_per_second": "keyspace_misses",
    "rejected_connections_per_second": "rejected_connections",
    "sync_full_per_second": "sync_full",
    "total_forks_per_second": "total_forks",
    "total_error_replies_per_second": "total_error_replies",
}


_CUT_OFF = "client_output_buffer_limit_disconnections"


async def stats(connection: Connection, args: StatsArguments) -> Stats:
    """Counters now, and their rates per second between two samples; bytes, microseconds as named.

    A rate is not measured when the counters were reset or the server restarted in between.
    Source: INFO server, stats, memory, keyspace, cpu, replication, twice.
    """
    samples = await take_samples(
        connection, args.seconds, "memory", "keyspace", "cpu", "replication"
    )
    for info in (samples.first, samples.last):
        keys, expires = _in_all_databases(info, "keys"), _in_all_databases(info, "expires")
        info["keys"], info["without_expiry"] = str(keys), str(keys - expires)
    computed: dict[str, Any] = {field: samples.rate(name) for field, name in _RATES.items()}
    computed |= {
        "seconds": samples.seconds,
        "used_memory_first": samples.first.get("used_memory", absent("INFO memory used_memory")),
        "used_memory_last": samples.last.get("used_memory", absent("INFO memory used_memory")),
        "used_memory_per_second": samples.growth("used_memory"),
        "keys_per_second": samples.growth("keys"),
        "keys_without_expiry_per_second": samples.growth("without_expiry"),
        "replicated_bytes_per_second": samples.growth("master_repl_offset"),
        _CUT_OFF: samples.last.get(_CUT_OFF, absent(f"INFO stats {_CUT_OFF}")),
        "cpu_cores": _sum(samples.growth("used_cpu_user"), samples.growth("used_cpu_sys")),
        "hit_ratio": _hit_ratio(
            computed["keyspace_hits_per_second"], computed["keyspace_misses_per_second"]
        ),
    }
    return Stats.from_info(samples.last, **computed)


def _in_all_databases(info: dict[str, str], field: str) -> int:
    """Sum over INFO keyspace; a server without keys reports no database."""
    lines = (v for name, v in info.items() if name.startswith("db") and name[2:].isdigit())
    return sum(whole(fields(line).get(field)) for line in lines)


def _sum(one: Measured[float], other: Measured[float]) -> Measured[float]:
    if isinstance(one, NotMeasured):
        return one
    return other if isinstance(other, NotMeasured) else one + other


def _hit_ratio(hits: Measured[float], misses: Measured[float]) -> Measured[float]:
    if isinstance(hits, NotMeasured):
        return hits
    if isinstance(misses, NotMeasured):
        return misses
    if hits + misses == 0:
        return NotMeasured(not_measured="hit ratio", because="no lookups between the samples")
    return hits / (hits + misses)


class CommandStatsArguments(SampleArguments):
    """How far apart the two samples are taken."""


MOST_ROWS = 30


async def command_stats(
    connection: Connection, args: CommandStatsArguments
) -> CommandStats | NotMeasured:
    """Commands by rate (per second), time per call (microseconds) and share of command time.

    Source: INFO commandstats, twice.
    """
    samples = await take_samples(connection, args.seconds, "commandstats")
    if (broken := samples.restarted() or samples.counters_reset()) is not None:
        return broken
    before, after = (_command_fields(info) for info in (samples.first, samples.last))
    if not after:
        return absent("INFO commandstats")
    increases = {name: _increase(before.get(name, {}), now) for name, now in after.items()}
    spent = sum(increase["usec"] for increase in increases.values())
    rows = [
        _command_row(name, after[name], increases[name], samples.seconds, spent) for name in after
    ]
    rows.sort(key=lambda row: (is_diagnostic(row.command), -row.calls_per_second, -row.calls))

    def calls_per_second(among: frozenset[str]) -> float:
        return sum(row.calls_per_second for row in rows if row.command in among)

    return CommandStats(
        seconds=samples.seconds,
        commands=rows[:MOST_ROWS],
        writes_per_second=calls_per_second(WRITES),
        reads_per_second=calls_per_second(READS),
        rejected_per_second=sum(row.rejected_per_second for row in rows),
    )


def _command_fields(info: dict[str, str]) -> dict[str, dict[str, int]]:
    return {
        printable(name.removeprefix("cmdstat_").lower(), 64): {
            field: whole(value) for field, value in fields(line).items() if "per" not in field
        }
        for name, line in info.items()
        if name.startswith("cmdstat_")
    }


def _increase(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    return {
        field: max(0, after.get(field, 0) - before.get(field, 0))
        for field in ("calls", "usec", "rejected_calls")
    }


def _command_row(
    name: str, total: dict[str, int], increase: dict[str, int], seconds: float, spent: int
) -> CommandRow:
    basis = increase if increase["calls"] else total
    calls = basis.get("calls", 0)
    return CommandRow(
        command=name,
        calls=total.get("calls", 0),
        calls_per_second=increase["calls"] / seconds,
        usec_per_call=basis.get("usec", 0) / calls if calls else 0.0,
        rejected_calls=total.get("rejected_calls", 0),
        rejected_per_second=increase["rejected_calls"] / seconds,
        failed_calls=total.get("failed_calls", 0),
        cpu_share=increase["usec"] / spent if spent else 0.0,
    )


class ErrorStatsArguments(SampleArguments):
    """How far apart the two samples are taken."""


async def error_stats(
    connection: Connection, args: ErrorStatsArguments
) -> ErrorStats | NotMeasured:
    """Error replies by code, in all and per second. Source: INFO errorstats, twice."""
    samples = await take_samples(connection, args.seconds, "errorstats")
    if (broken := samples.restarted() or samples.counters_reset()) is not None:
        return broken
    if "total_error_replies" not in samples.last:  # came with errorstats, which may be empty
        return absent("INFO errorstats")
    before, after = (_error_counts(info) for info in (samples.first, samples.last))
    if "ERRORSTATS_DISABLED" in after:
        return NotMeasured(
            not_measured="INFO errorstats",
            because="the server stopped counting: more than 128 different errors",
            failure="disabled",
            remedy="CONFIG RESETSTAT starts counting again",
        )
    per_second = {
        code: max(0, count - before.get(code, 0)) / samples.seconds for code, count in after.items()
    }
    rows = [
        ErrorRow(code=code, count=count, per_second=per_second[code])
        for code, count in sorted(after.items(), key=lambda entry: -entry[1])
    ]
    return ErrorStats(
        seconds=samples.seconds,
        errors=rows[:MOST_ROWS],
        oom=after.get("OOM", 0),
        oom_per_second=per_second.get("OOM", 0.0),
    )


def _error_counts(info: dict[str, str]) -> dict[str, int]:
    return {
        printable(name.removeprefix("errorstat_"), 64): whole(fields(line).get("count"))
        for name, line in info.items()
        if name.startswith("errorstat_")
    }
