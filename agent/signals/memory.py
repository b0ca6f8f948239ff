"""Signals of INFO memory: how full, how it grows, how the heap lies."""

from agent.incident import FactDraft
from agent.signals.seen import KIB, MIB, Finding, Look, Seen, Unmeasured, measured, scaled, signal
from tools.clients import Clients
from tools.host import Host
from tools.memory import MemoryInfo, MemoryStats
from tools.metric_history import MetricHistory
from tools.reading import NotMeasured, number
from tools.samples import LEAST_GROWTH, growth_noise
from tools.stats import Stats

PRESSURE_ALERT = 0.75
"""The user's runbook: "alerts when memory usage exceeds 75%"."""
PRESSURE_HIGH = 0.85
"""The user's runbook: "memory utilization reaching 85% or higher"."""
PRESSURE_FULL = 0.95
"""Eviction and refusals hold a full server within a few percent of its limit (evict.c)."""
PRESSURE_LOW = 0.5
RSS_NEAR_LIMIT = 0.7
"""FAILURE_MODES 24: RSS above 70 % of the container's limit."""
RAW_HIGH = 0.85
"""FAILURE_MODES 43: raw memory at 85 % and more while logical pressure is low."""
NOT_COUNTED_SHARE = 0.1
NOT_COUNTED_FLOOR = MIB
FRAGMENTED_RATIO = 1.5
"""FAILURE_MODES 13; MEMORY DOCTOR (object.c) warns from 1.4."""
FRAGMENTED_BYTES = 100 * MIB
"""FAILURE_MODES 13, and active-defrag-ignore-bytes' default."""
FRAGMENTED_RSS_SHARE = 0.2
FRAGMENTED_FLOOR = 10 * MIB
"""MEMORY DOCTOR (object.c): below 10 MB of waste there is nothing to judge."""
RSS_KEPT_RATIO = 1.3
"""FAILURE_MODES 14: allocator_rss_ratio."""
RSS_KEPT_BYTES = 64 * MIB
PEAK_RATIO = 1.5
"""MEMORY DOCTOR (object.c): peak above 150 % of use."""
PEAK_FLOOR = 16 * MIB
TINY_HEAP = 16 * MIB
"""MEMORY DOCTOR (object.c) does not judge a nearly empty instance (5 MB); a margin on top."""
GROWTH_PER_SECOND = 64 * KIB
HORIZON_SECONDS = 24 * 3600
"""Growth that fills what is left within a day wants a person today."""
CLIENTS_SHARE = 0.2
ORDINARY_CLIENT = 40 * KIB
"""Buffers of a client that keeps up: 16 KiB each way and some (28 KiB measured on 7.0)."""
CLIENTS_FLOOR = 8 * MIB
"""The soft limit of client-output-buffer-limit pubsub, redis.conf."""
OVERHEAD_DATASET_SHARE = 0.6
"""FAILURE_MODES 3: dataset percentage below 60 (44 measured for tiny strings)."""
OVERHEAD_FLOOR = 4 * MIB


@signal("symptom")
def memory_pressure(seen: Seen) -> Finding | None:
    """Memory that counts against the limit is high."""
    memory = seen.look(MemoryInfo)
    if measured(memory.reading.pressure) < PRESSURE_ALERT:
        return None
    return Finding(
        f"Memory that counts against the limit ({memory.reading.limit_source}) is {{counted}} of "
        "{limit}: {pressure}.",
        _pressure_facts(memory),
        scaled(measured(memory.reading.pressure), PRESSURE_ALERT, PRESSURE_HIGH),
    )


@signal("trait")
def memory_full(seen: Seen) -> Finding | None:
    """Memory is at maxmemory."""
    memory = seen.look(MemoryInfo)
    pressure = measured(memory.reading.pressure)
    if memory.reading.limit_source != "maxmemory" or pressure < PRESSURE_FULL:
        return None
    return Finding(
        f"The server is at its limit ({memory.reading.limit_source}): {{counted}} of {{limit}}, "
        "{pressure}.",
        _pressure_facts(memory),
    )


@signal("trait")
def low_pressure(seen: Seen) -> Finding | None:
    """Memory that counts against maxmemory is low."""
    memory = seen.look(MemoryInfo)
    pressure = measured(memory.reading.pressure)
    if memory.reading.limit_source != "maxmemory" or pressure >= PRESSURE_LOW:
        return None
    return Finding(
        f"Memory that counts against the limit ({memory.reading.limit_source}) is only "
        "{counted} of {limit}: {pressure}.",
        _pressure_facts(memory),
    )


def _pressure_facts(memory: Look[MemoryInfo]) -> list[FactDraft]:
    return [
        memory.fact("counted", "counted_memory", unit="bytes"),
        memory.fact("limit", "limit", unit="bytes"),
        memory.fact("pressure", "pressure", unit="ratio"),
    ]


@signal("trait")
def raw_memory_above_counted(seen: Seen) -> Finding | None:
    """Raw memory is high, but much of it does not count against the limit."""
    memory = seen.look(MemoryInfo)
    used, limit = measured(memory.reading.used_memory), measured(memory.reading.limit)
    spared = measured(memory.reading.mem_not_counted_for_evict)
    pressure = measured(memory.reading.pressure)
    if limit <= 0 or used / limit < RAW_HIGH or pressure >= PRESSURE_ALERT:
        return None
    if spared < max(NOT_COUNTED_FLOOR, NOT_COUNTED_SHARE * used):
        return None
    return Finding(
        "used_memory is {raw} of the limit, but {spared} of it does not count against the limit: "
        "what counts is {pressure}.",
        [
            memory.fact("raw", "used_memory", "limit", unit="ratio"),
            memory.fact("spared", "mem_not_counted_for_evict", unit="bytes"),
            memory.fact("pressure", "pressure", unit="ratio"),
        ],
    )


@signal("trait")
def maxmemory_is_unset(seen: Seen) -> Finding | None:
    """No maxmemory is set."""
    memory = seen.look(MemoryInfo)
    if measured(memory.reading.maxmemory) != 0:
        return None
    return Finding(
        "No limit is set: maxmemory is {maxmemory}.",
        [memory.fact("maxmemory", "maxmemory", unit="bytes")],
    )


@signal("symptom")
def rss_near_memory_limit(seen: Seen) -> Finding | None:
    """Without maxmemory, resident memory nears what the container or host has."""
    memory = seen.look(MemoryInfo)
    if memory.reading.limit_source == "maxmemory":
        return None
    if (host := container_with_limit(seen)) is not None:
        return _near_container_limit(host, memory)
    if memory.reading.limit_source == "none known":
        return None
    rss, limit = measured(memory.reading.used_memory_rss), measured(memory.reading.limit)
    if limit <= 0 or rss / limit < RSS_NEAR_LIMIT:
        return None
    return Finding(
        "Resident memory is {rss}, {share} of the {limit} there are ({source}), and no maxmemory "
        "stops it.",
        [
            memory.fact("rss", "used_memory_rss", unit="bytes"),
            memory.fact("share", "used_memory_rss", "limit", unit="ratio"),
            memory.fact("limit", "limit", unit="bytes"),
            memory.fact("source", "limit_source", unit="text"),
        ],
        scaled(rss / limit, RSS_NEAR_LIMIT, 0.9),
    )


def container_with_limit(seen: Seen) -> Look[Host] | None:
    """What the container tells, where it is known and has a limit below what else is known."""
    host, memory = seen.optional(Host), seen.optional(MemoryInfo)
    if host is None or (limit := number(host.reading.container_limit_bytes)) is None:
        return None
    other = number(memory.reading.limit) if memory else None
    return host if other is None or limit <= other else None


def _near_container_limit(host: Look[Host], memory: Look[MemoryInfo]) -> Finding | None:
    """The same by the container itself: the kernel kills by its working set, not by RSS."""
    limit = measured(host.reading.container_limit_bytes)
    held = measured(host.reading.container_working_set_bytes)
    if held / limit < RSS_NEAR_LIMIT:
        return None
    return Finding(
        "The container holds {held}, {share} of its limit of {limit}, and no maxmemory stops the "
        "server ({maxmemory}).",
        [
            host.fact("held", "container_working_set_bytes", unit="bytes"),
            host.fact(
                "share", "container_working_set_bytes", "container_limit_bytes", unit="ratio"
            ),
            host.fact("limit", "container_limit_bytes", unit="bytes"),
            memory.fact("maxmemory", "maxmemory", unit="bytes"),
        ],
        scaled(held / limit, RSS_NEAR_LIMIT, 0.9),
    )


@signal("trend")
def memory_grows(seen: Seen) -> Finding | None:
    """Memory grows fast enough to fill what is left within a day."""
    over_days = _grew_over_days(seen)
    try:
        return _grows_now(seen) or over_days
    except Unmeasured:
        if over_days is None:
            raise
        return over_days


def _grew_over_days(seen: Seen) -> Finding | None:
    """The same by what is kept of days, where it is: no cycle and no restart passes for growth."""
    history = seen.optional(MetricHistory)
    if history is None or isinstance(history.reading.growth, NotMeasured):
        return None
    growth = history.reading.growth
    full, limit = number(history.reading.seconds_to_full), number(_limit(seen))
    if not growth.grows or growth.bytes_per_day * growth.days < growth_noise(limit):
        return None
    if full is None or full > HORIZON_SECONDS:
        return None
    return Finding(
        "Memory has grown by {rate} over {days} days ({low} to {high}): the limit is met in "
        "{full}.",
        [
            history.fact("rate", "growth.bytes_per_day", unit="bytes_per_day"),
            history.fact("days", "growth.days", unit="count"),
            history.fact("low", "growth.low_bytes_per_day", unit="bytes_per_day"),
            history.fact("high", "growth.high_bytes_per_day", unit="bytes_per_day"),
            history.fact("full", "seconds_to_full", unit="seconds"),
        ],
    )


def _limit(seen: Seen) -> object:
    memory = seen.optional(MemoryInfo)
    return memory.reading.limit if memory else None


def _grows_now(seen: Seen) -> Finding | None:
    """By two samples, seconds apart."""
    stats, memory = seen.look(Stats), seen.look(MemoryInfo)
    first = measured(stats.reading.used_memory_first)
    last = measured(stats.reading.used_memory_last)
    rate = measured(stats.reading.used_memory_per_second)
    limit = measured(memory.reading.limit)
    if last - first < LEAST_GROWTH or rate < GROWTH_PER_SECOND:
        return None
    if rate * HORIZON_SECONDS < limit - last:
        return None
    return Finding(
        "Memory grew by {grown} in {seconds}: {rate}.",
        [
            stats.fact(
                "grown", "used_memory_last", "used_memory_first", op="difference", unit="bytes"
            ),
            stats.fact("seconds", "seconds", unit="seconds"),
            stats.fact("rate", "used_memory_per_second", unit="bytes_per_second"),
        ],
    )


@signal("symptom")
def heap_fragmented(seen: Seen) -> Finding | None:
    """The allocator holds much memory in fragments."""
    memory = seen.look(MemoryInfo)
    _refuse_libc(memory)
    ratio = measured(memory.reading.allocator_frag_ratio)
    wasted = measured(memory.reading.allocator_frag_bytes)
    rss = measured(memory.reading.used_memory_rss)
    enough = wasted > FRAGMENTED_BYTES or wasted > max(FRAGMENTED_FLOOR, FRAGMENTED_RSS_SHARE * rss)
    if ratio <= FRAGMENTED_RATIO or not enough:
        return None
    return Finding(
        "The heap is fragmented: the allocator's ratio is {ratio}, and {wasted} of {rss} resident "
        "memory are holes.",
        [
            memory.fact("ratio", "allocator_frag_ratio"),
            memory.fact("wasted", "allocator_frag_bytes", unit="bytes"),
            memory.fact("rss", "used_memory_rss", unit="bytes"),
        ],
        scaled(ratio, FRAGMENTED_RATIO, 2.0),
    )


@signal("trend")
def freed_pages_kept(seen: Seen) -> Finding | None:
    """The allocator keeps freed pages instead of returning them."""
    memory = seen.look(MemoryInfo)
    _refuse_libc(memory)
    ratio = measured(memory.reading.allocator_rss_ratio)
    kept = measured(memory.reading.allocator_rss_bytes)
    peak, used = measured(memory.reading.used_memory_peak), measured(memory.reading.used_memory)
    if ratio <= RSS_KEPT_RATIO or kept < RSS_KEPT_BYTES or peak < PEAK_RATIO * used:
        return None
    return Finding(
        "The allocator keeps {kept} of freed pages (its RSS ratio is {ratio}) since a peak of "
        "{peak}.",
        [
            memory.fact("kept", "allocator_rss_bytes", unit="bytes"),
            memory.fact("ratio", "allocator_rss_ratio"),
            memory.fact("peak", "used_memory_peak", unit="bytes"),
        ],
        scaled(ratio, RSS_KEPT_RATIO, 2.0),
    )


def _refuse_libc(memory: Look[MemoryInfo]) -> None:
    """Under libc the allocator's ratios read 1.00 whatever the heap is like."""
    if str(memory.reading.mem_allocator).startswith("libc"):
        raise Unmeasured(
            NotMeasured(
                not_measured="INFO memory allocator_frag_ratio",
                because="this build uses libc's malloc, whose ratios always read one",
                failure="disabled",
                remedy="compare RSS with used_memory over time, or run a jemalloc build",
            )
        )


@signal("trait")
def peak_far_above_use(seen: Seen) -> Finding | None:
    """Memory was much higher than it is now."""
    memory = seen.look(MemoryInfo)
    peak, used = measured(memory.reading.used_memory_peak), measured(memory.reading.used_memory)
    if peak < PEAK_RATIO * used or peak - used < PEAK_FLOOR:
        return None
    return Finding(
        "Memory peaked at {peak} and is at {used} now.",
        [
            memory.fact("peak", "used_memory_peak", unit="bytes"),
            memory.fact("used", "used_memory", unit="bytes"),
        ],
    )


@signal("trait")
def tiny_heap_looks_fragmented(seen: Seen) -> Finding | None:
    """The fragmentation ratio is high only because the heap is tiny."""
    memory = seen.look(MemoryInfo)
    ratio = measured(memory.reading.mem_fragmentation_ratio)
    used = measured(memory.reading.used_memory)
    if ratio <= FRAGMENTED_RATIO or used >= TINY_HEAP:
        return None
    return Finding(
        "The fragmentation ratio reads {ratio}, but only {used} are in use: the ratio compares "
        "the program itself with a nearly empty heap.",
        [
            memory.fact("ratio", "mem_fragmentation_ratio"),
            memory.fact("used", "used_memory", unit="bytes"),
        ],
    )


@signal("symptom")
def clients_hold_memory(seen: Seen) -> Finding | None:
    """Buffers of clients hold a large part of the memory."""
    memory = seen.look(MemoryInfo)
    clients = measured(memory.reading.mem_clients_normal)
    used = measured(memory.reading.used_memory)
    beyond = clients - ORDINARY_CLIENT * _connected(seen)
    if beyond < CLIENTS_FLOOR or beyond < CLIENTS_SHARE * used:
        return None
    # On Valkey large replies are sent by reference: their total may exceed used_memory.
    return Finding(
        "Buffers of clients hold {clients} while {used} are used in all.",
        [
            memory.fact("clients", "mem_clients_normal", unit="bytes"),
            memory.fact("used", "used_memory", unit="bytes"),
        ],
        scaled(clients / max(used, 1), CLIENTS_SHARE, 0.6),
    )


def _connected(seen: Seen) -> int:
    clients = seen.optional(Clients)
    return clients.reading.connected if clients else 1


@signal("trait")
def overhead_exceeds_data(seen: Seen) -> Finding | None:
    """Bookkeeping takes a large part of the memory, data the smaller."""
    stats = seen.look(MemoryStats)
    share = measured(stats.reading.dataset_percentage) / 100
    overhead = measured(stats.reading.overhead_total)
    if share >= OVERHEAD_DATASET_SHARE or overhead < OVERHEAD_FLOOR:
        return None
    return Finding(
        "Of {total} allocated, {overhead} are bookkeeping and {data} are data.",
        [
            stats.fact("total", "total_allocated", unit="bytes"),
            stats.fact("overhead", "overhead_total", unit="bytes"),
            stats.fact("data", "dataset_bytes", unit="bytes"),
        ],
    )
