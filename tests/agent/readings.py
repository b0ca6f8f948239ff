"""Typed readings for tables of cases: what is not given was not measured, or is empty."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from tools.clients import ClientRow, Clients
from tools.configuration import Configuration
from tools.keyspace import BigKeys, KeyRow, Keyspace, PrefixRow, TypeRow
from tools.memory import MemoryInfo, MemoryStats
from tools.persistence import Persistence
from tools.reading import Evidence, NotMeasured, Reading
from tools.reads import READS
from tools.replication import ReplicaRow, Replication
from tools.stats import CommandRow, CommandStats, ErrorRow, ErrorStats, Stats
from tools.streams import GroupRow, StreamRow, Streams

MIB = 1024 * 1024
AT = datetime(2026, 1, 1, tzinfo=UTC)
UNSEEN = NotMeasured(not_measured="a field", because="this server does not report it")
R = TypeVar("R", bound=Reading)


def blank(cls: type[R], **given: Any) -> R:
    """A reading of which only `given` is known."""
    values = dict(given)
    for name, field in cls.model_fields.items():
        if name not in values and field.is_required():
            values[name] = _empty(TypeAdapter(field.rebuild_annotation()))
    return cls.model_validate(values)


def _empty(adapter: TypeAdapter[Any]) -> Any:
    candidates: tuple[Any, ...] = (UNSEEN, None, [], {}, 0, "", "none known", "normal")
    for candidate in candidates:
        try:
            return adapter.validate_python(candidate)
        except ValidationError:
            continue
    raise AssertionError(f"no empty value for {adapter}")


def evidence(*readings: Reading) -> list[Evidence]:
    """Readings as they are kept, in this order."""
    tools = {tool.reading: name for name, tool in READS.items()}
    return [
        Evidence(
            id=f"E{number}",
            tool=tools[type(reading)],
            args={},
            reading=reading.model_dump(mode="json"),
            measured=True,
            taken_at=AT,
            target="cache-1",
            node="127.0.0.1:6379 (master)",
        )
        for number, reading in enumerate(readings, 1)
    ]


def refused(*tools: str) -> list[Evidence]:
    """Tools that the user may not use."""
    why = NotMeasured(not_measured="a command", because="NOPERM", failure="refused")
    return [
        Evidence(
            id=f"E{900 + number}",
            tool=tool,
            args={},
            reading=why.model_dump(mode="json"),
            measured=False,
            taken_at=AT,
            target="cache-1",
            node="127.0.0.1:6379 (master)",
        )
        for number, tool in enumerate(tools)
    ]


def memory(used: int, limit: int = 0, *, host: int = 64 * 1024 * MIB, **given: Any) -> MemoryInfo:
    """INFO memory of a server that uses `used` bytes of `limit` (0: no maxmemory)."""
    spared = given.get("mem_not_counted_for_evict", 0)
    ceiling = limit or host
    return blank(
        MemoryInfo,
        **{
            "used_memory": used,
            "used_memory_rss": int(used * 1.1) + 8 * MIB,
            "used_memory_peak": used,
            "used_memory_startup": MIB,
            "used_memory_overhead": used // 5,
            "used_memory_dataset": used - used // 5,
            "total_system_memory": host,
            "maxmemory": limit,
            "maxmemory_policy": "noeviction",
            "mem_not_counted_for_evict": 0,
            "mem_replication_backlog": 0,
            "mem_clients_normal": 20_000,
            "mem_clients_slaves": 0,
            "mem_fragmentation_ratio": 1.1,
            "mem_fragmentation_bytes": used // 10,
            "allocator_frag_ratio": 1.05,
            "allocator_frag_bytes": MIB,
            "allocator_rss_ratio": 1.05,
            "allocator_rss_bytes": MIB,
            "mem_allocator": "jemalloc-5.3.0",
            "active_defrag_running": 0,
            "counted_memory": used - spared,
            "limit": ceiling,
            "limit_source": "maxmemory" if limit else "host memory",
            "pressure": (used - spared) / ceiling,
            **given,
        },
    )


def key(name: str, kind: str, size: int, elements: int = 10, **given: Any) -> KeyRow:
    """One key."""
    return blank(
        KeyRow,
        **{"key": name, "type": kind, "bytes": size, "elements": elements, "ttl_seconds": -1.0}
        | given,
    )


def prefix(name: str, keys: int, size: int, share: float, without_ttl: float) -> PrefixRow:
    """One prefix of strings."""
    return blank(
        PrefixRow,
        prefix=name,
        keys=keys,
        bytes=size,
        share_of_bytes=share,
        mean_bytes=size / max(keys, 1),
        types=["string"],
        without_ttl_share=without_ttl,
        median_idle_seconds=5.0,
    )


def bigkeys(
    top: Sequence[KeyRow], prefixes: Sequence[PrefixRow] = (), keys: int = 50_000, **given: Any
) -> BigKeys:
    """A complete scan."""
    held = sum(row.bytes for row in prefixes)
    held += sum(row.bytes for row in top if isinstance(row.bytes, int) and not prefixes)
    kinds = sorted({row.type for row in top} | ({"string"} if prefixes else set()))
    return blank(
        BigKeys,
        **{
            "keys_total": keys,
            "keys_seen": keys,
            "coverage": 1.0,
            "complete": True,
            "stopped_because": "every key was seen",
            "bytes_seen": held,
            "dataset_bytes": held,
            "mean_value_bytes": 200.0,
            "mean_key_bytes": 280.0,
            "without_ttl_share": 0.5,
            "top_by_bytes": list(top),
            "top_by_elements": [],
            "prefixes": list(prefixes),
            "types": [TypeRow(type=k, keys=keys, bytes=held, share_of_bytes=1.0) for k in kinds],
        }
        | given,
    )


def keyspace(keys: int, expires: int) -> Keyspace:
    """INFO keyspace."""
    share = expires / keys if keys else None
    return blank(Keyspace, keys=keys, expires=expires, expires_share=share)


def stats(**given: Any) -> Stats:
    """Two quiet samples."""
    return blank(
        Stats,
        **{
            "seconds": 5.0,
            "used_memory_first": 50 * MIB,
            "used_memory_last": 50 * MIB,
            "used_memory_per_second": 0.0,
            "keys_per_second": 0.0,
            "evicted_keys_per_second": 0.0,
            "keyspace_hits_per_second": 0.0,
            "keyspace_misses_per_second": 0.0,
            "expired_stale_perc": 0.0,
            "expired_keys_per_second": 0.0,
            "expired_time_cap_reached_count": 0,
            "total_forks_per_second": 0.0,
        }
        | given,
    )


def client(label: str, kind: str = "normal", **given: Any) -> ClientRow:
    """One client of the list."""
    return blank(
        ClientRow,
        **{"id": 7, "name": label, "label": label, "address": "127.0.0.1:50000", "type": kind}
        | given,
    )


def clients(*largest: ClientRow, **given: Any) -> Clients:
    """CLIENT LIST."""
    return blank(
        Clients,
        **{
            "connected": max(len(largest), 1),
            "maxclients": 10_000,
            "rejected_connections": 0,
            "monitors": sum(row.type == "monitor" for row in largest),
            "output_bytes": sum(row.output_bytes for row in largest),
            "largest": list(largest),
        }
        | given,
    )


def errors(*rows: tuple[str, int, float]) -> ErrorStats:
    """INFO errorstats: code, count, per second."""
    listed = [ErrorRow(code=code, count=count, per_second=rate) for code, count, rate in rows]
    oom = next((row for row in listed if row.code == "OOM"), None)
    return blank(
        ErrorStats,
        seconds=5.0,
        errors=listed,
        oom=oom.count if oom else 0,
        oom_per_second=oom.per_second if oom else 0.0,
    )


def commands(writes: float = 0.0, reads: float = 0.0, **rates: float) -> CommandStats:
    """INFO commandstats: SETs and GETs per second, and other commands by name."""
    rows = [
        blank(CommandRow, command=name, calls=int(rate * 100), calls_per_second=rate)
        for name, rate in {"set": writes, "get": reads, **rates}.items()
    ]
    return blank(
        CommandStats, seconds=5.0, commands=rows, writes_per_second=writes, reads_per_second=reads
    )


def stream(name: str, size: int, length: int, pending: int = 0, idle: float = 0.0) -> StreamRow:
    """One stream, with a group if something is pending."""
    group = blank(GroupRow, name="billing", consumers=1, pending=pending, longest_idle_seconds=idle)
    return blank(
        StreamRow,
        key=name,
        bytes=size,
        length=length,
        length_per_second=0.0,
        pending=pending,
        pending_share=min(pending / max(length, 1), 10.0),
        groups=[group] if pending else [],
    )


def streams(*rows: StreamRow) -> Streams:
    """Streams found."""
    return blank(Streams, streams=list(rows), found=len(rows), stopped_because="all were seen")


def config(**parameters: str) -> Configuration:
    """CONFIG GET; `repl_backlog_size` stands for `repl-backlog-size`."""
    named = {name.replace("_", "-"): value for name, value in parameters.items()}
    return Configuration(parameters={"hz": "10", "activedefrag": "no"} | named, unknown=[])


def replication(*rows: ReplicaRow, **given: Any) -> Replication:
    """INFO replication of a primary."""
    return blank(
        Replication,
        **{"role": "master", "connected_slaves": len(rows), "replicas": list(rows)} | given,
    )


def persistence(**given: Any) -> Persistence:
    """INFO persistence, idle and well."""
    return blank(
        Persistence,
        **{
            "rdb_bgsave_in_progress": 0,
            "aof_rewrite_in_progress": 0,
            "rdb_last_bgsave_status": "ok",
            "aof_last_write_status": "ok",
            "rdb_last_cow_size": 0,
            "aof_last_cow_size": 0,
            "current_cow_size": 0,
        }
        | given,
    )


def memory_stats(**given: Any) -> MemoryStats:
    """MEMORY STATS."""
    return blank(
        MemoryStats,
        **{
            "total_allocated": 50 * MIB,
            "overhead_total": 5 * MIB,
            "dataset_bytes": 45 * MIB,
            "dataset_percentage": 90.0,
        }
        | given,
    )
