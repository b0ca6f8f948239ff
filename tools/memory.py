"""Where the bytes of a server are."""

from typing import ClassVar, Literal

from pydantic import Field

from tools.reading import InfoReading, Measured, Reading

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
