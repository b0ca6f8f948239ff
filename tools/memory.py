"""Where the bytes of a server are."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from tools.catalogue import Arguments
from tools.connection import Connection, Reply, read_info
from tools.reading import InfoReading, Measured, NotMeasured, Reading, number
from tools.replies import absent, decimal, integer, mapping, measured_integer, prose

LimitSource = Literal["maxmemory", "configured memory limit", "host memory", "none known"]


class MemoryInfo(InfoReading):
    """Memory used and its limit, in bytes. Source: INFO memory; fields carry INFO's names."""

    info_command: ClassVar[str] = "INFO memory"

    used_memory: Measured[int]
    used_memory_rss: Measured[int]
    used_memory_peak: Measured[int]
    used_memory_overhead: Measured[int]
    used_memory_startup: Measured[int]
    used_memory_dataset: Measured[int]
    total_system_memory: Measured[int]
    maxmemory: Measured[int]
    maxmemory_policy: Measured[str]
    mem_not_counted_for_evict: Measured[int]
    mem_replication_backlog: Measured[int]
    mem_clients_normal: Measured[int]
    mem_clients_slaves: Measured[int]
    mem_aof_buffer: Measured[int]
    mem_fragmentation_ratio: Measured[float]
    mem_fragmentation_bytes: Measured[int]
    allocator_frag_ratio: Measured[float]
    allocator_frag_bytes: Measured[int]
    allocator_rss_ratio: Measured[float]
    allocator_rss_bytes: Measured[int]
    mem_allocator: Measured[str]
    active_defrag_running: Measured[int]
    lazyfree_pending_objects: Measured[int]
    used_memory_vm_eval: Measured[int]
    used_memory_scripts_eval: Measured[int]
    number_of_cached_scripts: Measured[int]
    # Computed here, so that facts can point at them:
    counted_memory: Measured[int]
    """used_memory - mem_not_counted_for_evict: what counts against maxmemory (evict.c)."""
    limit: Measured[int]
    """maxmemory; with maxmemory 0 the configured memory limit of the target, else host memory."""
    limit_source: LimitSource
    pressure: Measured[float]
    """Logical pressure L = counted_memory / limit, a fraction."""


class MemoryStats(Reading):
    """MEMORY STATS, in bytes unless named otherwise."""

    peak_allocated: Measured[int]
    total_allocated: Measured[int]
    startup_allocated: Measured[int]
    replication_backlog: Measured[int]
    clients_slaves: Measured[int]
    clients_normal: Measured[int]
    aof_buffer: Measured[int]
    overhead_total: Measured[int]
    hashtable_main: Measured[int]
    """Sum over databases of overhead.hashtable.main."""
    hashtable_expires: Measured[int]
    keys_count: Measured[int]
    keys_bytes_per_key: Measured[int]
    dataset_bytes: Measured[int]
    dataset_percentage: Measured[float]
    """0..100"""
    lua_caches: Measured[int]
    functions_caches: Measured[int]


class MemoryDoctor(Reading):
    """MEMORY DOCTOR's text, bounded to 2,000 characters. Untrusted prose, for people."""

    text: str = Field(max_length=2_100)


class MemoryInfoArguments(Arguments):
    """What the server cannot know about itself."""

    memory_limit: int | None = Field(default=None, gt=0)
    """Bytes it may use when maxmemory is 0: the limit of its container or machine."""


async def memory_info(connection: Connection, args: MemoryInfoArguments) -> MemoryInfo:
    """Memory used, what it is used for, and its limit, in bytes; ratios as fractions.

    With maxmemory 0 the limit is `memory_limit` if given, else the host's memory (which knows
    nothing of containers). Source: INFO memory.
    """
    info = await read_info(connection, "memory")
    return memory_info_of(info, args.memory_limit)


# Names of 6.2 for what later versions renamed.
_FORMER_NAMES = {
    "used_memory_vm_eval": "used_memory_lua",
    "used_memory_scripts_eval": "used_memory_scripts",
}


def with_later_names(info: dict[str, str]) -> dict[str, str]:
    """INFO memory of 6.2 under the names of later versions."""
    return {later: info[former] for later, former in _FORMER_NAMES.items() if former in info} | info


def memory_info_of(info: dict[str, str], memory_limit: int | None) -> MemoryInfo:
    """The reading from INFO's fields."""
    unknown = absent("the memory limit")
    reading = MemoryInfo.from_info(
        with_later_names(info),
        counted_memory=absent("counted_memory"),
        limit=unknown,
        limit_source="none known",
        pressure=absent("pressure"),
    )
    limit, source = _limit(reading, memory_limit)
    counted = _difference(reading.used_memory, reading.mem_not_counted_for_evict)
    return reading.model_copy(
        update={
            "counted_memory": counted,
            "limit": limit,
            "limit_source": source,
            "pressure": _fraction(counted, limit),
        }
    )


_NONE: LimitSource = "none known"


def _limit(reading: MemoryInfo, memory_limit: int | None) -> tuple[Measured[int], LimitSource]:
    maxmemory = reading.maxmemory
    if isinstance(maxmemory, NotMeasured):
        return (memory_limit, "configured memory limit") if memory_limit else (maxmemory, _NONE)
    if maxmemory > 0:
        return maxmemory, "maxmemory"
    if memory_limit:
        return memory_limit, "configured memory limit"
    host = reading.total_system_memory
    return (host, "host memory") if number(host) else (absent("total_system_memory"), _NONE)


def _difference(a: Measured[int], b: Measured[int]) -> Measured[int]:
    if isinstance(a, NotMeasured):
        return a
    return b if isinstance(b, NotMeasured) else a - b


def _fraction(a: Measured[int], b: Measured[int]) -> Measured[float]:
    if isinstance(a, NotMeasured):
        return a
    return b if isinstance(b, NotMeasured) else a / b


class MemoryStatsArguments(Arguments):
    """None."""


_STATS_NAMES = {
    "peak_allocated": "peak.allocated",
    "total_allocated": "total.allocated",
    "startup_allocated": "startup.allocated",
    "replication_backlog": "replication.backlog",
    "clients_slaves": "clients.slaves",
    "clients_normal": "clients.normal",
    "aof_buffer": "aof.buffer",
    "overhead_total": "overhead.total",
    "keys_count": "keys.count",
    "keys_bytes_per_key": "keys.bytes-per-key",
    "dataset_bytes": "dataset.bytes",
    "lua_caches": "lua.caches",
    "functions_caches": "functions.caches",
}


async def memory_stats(connection: Connection, args: MemoryStatsArguments) -> MemoryStats:
    """Memory by part of the server, in bytes; dataset_percentage 0..100. Source: MEMORY STATS."""
    reply = mapping(await connection.execute("MEMORY", "STATS"))
    percentage = decimal(reply.get("dataset.percentage"))
    values: dict[str, object] = {
        field: measured_integer(reply.get(name), f"MEMORY STATS {name}")
        for field, name in _STATS_NAMES.items()
    }
    values["dataset_percentage"] = (
        absent("MEMORY STATS dataset.percentage") if percentage is None else percentage
    )
    values["hashtable_main"] = _over_databases(reply, "overhead.hashtable.main")
    values["hashtable_expires"] = _over_databases(reply, "overhead.hashtable.expires")
    return MemoryStats.model_validate(values)


def _over_databases(reply: Mapping[str, Reply], name: str) -> int:
    # `db.0`, `db.1`, …, but not `db.dict.rehashing.count`.
    databases = [
        mapping(value)
        for key, value in reply.items()
        if key.startswith("db.") and key.removeprefix("db.").isdigit()
    ]
    return sum(integer(database.get(name)) for database in databases)


class MemoryDoctorArguments(Arguments):
    """None."""


async def memory_doctor(connection: Connection, args: MemoryDoctorArguments) -> MemoryDoctor:
    """The server's own opinion about its memory; prose without units. Source: MEMORY DOCTOR."""
    return MemoryDoctor(text=prose(await connection.execute("MEMORY", "DOCTOR"), 2_000))
