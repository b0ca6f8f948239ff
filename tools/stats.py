"""Counters and their rates, from two INFO samples at least 5 s apart."""

from typing import ClassVar

from tools.reading import InfoReading, Measured, Reading


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
    round_trip_seconds: float
    """Median of five pings (an error reply to PING counts: it travelled)."""


class Stats(Reading):
    """INFO stats twice. Names without suffix: last value; `_per_second`: rate between samples."""

    seconds: float
    """Between the samples."""
    uptime_in_seconds: Measured[int]
    used_memory_first: Measured[int]
    used_memory_last: Measured[int]
    used_memory_per_second: Measured[float]
    keys_per_second: Measured[float]
    """Growth of the number of keys over all databases."""
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
