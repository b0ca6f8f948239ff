"""Signals of the server's own work: expiry, defragmentation, scripts, modules."""

from math import inf

from agent.incident import Culprit
from agent.signals.limits import stalled
from agent.signals.seen import MIB, Finding, Look, Seen, Unmeasured, measured, scaled, signal
from tools.configuration import Configuration
from tools.keyspace import BigKeys, Keyspace
from tools.latency import LatencyEvents
from tools.memory import MemoryInfo
from tools.modules import Modules
from tools.reading import NotMeasured, number
from tools.scripts import Scripts
from tools.stats import Stats

STALE_PERCENT = 10.0
"""FAILURE_MODES 19; the server's own goal is 10 % (expire.c)."""
STALE_KEYS_PER_SECOND = 10.0
STALE_BYTES = 4 * MIB
STALE_SHARE = 0.1
"""Of used memory. Where keys live for seconds the server's estimate passes 10 % at any hz (16-21 %
measured on healthy servers of all four builds): only what holds memory is a backlog."""
HZ_DEFAULT = 10
"""redis.conf"""
SCRIPTS_MANY = 1_000
"""FAILURE_MODES 17: far above 500, where newer builds cap EVAL scripts."""
SCRIPT_BYTES = 4 * MIB
SCRIPTS_CLEARLY = 5_000
BUILT_IN = frozenset({"lua", "vectorset"})
"""What MODULE LIST names on a server that loaded none: Valkey 9's script engine, Redis 8's
vector sets. Script memory has fields of its own."""
EAGER: tuple[tuple[str, str, tuple[int, float]], ...] = (
    ("active-defrag-ignore-bytes", "bytes", (16 * MIB, inf)),
    ("active-defrag-cycle-max", "count", (0, 50)),
)
"""Parameter, unit, and what is still moderate; redis.conf's defaults are 100mb and 25 % of CPU."""


@signal("symptom")
def expired_keys_pile_up(seen: Seen) -> Finding | None:
    """Many keys have expired and are still there."""
    stats = seen.look(Stats)
    stale = measured(stats.reading.expired_stale_perc)
    if stale <= STALE_PERCENT:
        return _unswept(seen, stats)
    if (number(stats.reading.expired_keys_per_second) or 0.0) < STALE_KEYS_PER_SECOND:
        return None
    config = seen.optional(Configuration)
    slow = config is not None and _hz(config.reading) < HZ_DEFAULT
    if not slow and not _holds_memory(seen, seen.look(Keyspace).reading.expires * stale / 100):
        return None
    return Finding(
        "An estimated {stale} percent of the keys with an expiry have expired and are still "
        "there; the server removes {rate}.",
        [
            stats.fact("stale", "expired_stale_perc"),
            stats.fact("rate", "expired_keys_per_second", unit="per_second"),
        ],
        scaled(stale, STALE_PERCENT, 25.0),
        Culprit(kind="config", name="hz") if slow else None,
    )


def _holds_memory(seen: Seen, count: float) -> bool:
    """Whether so many ordinary keys hold a relevant part of the memory."""
    keys = seen.look(BigKeys).reading
    largest = [number(row.bytes) or 0 for row in keys.top_by_bytes]  # one would spoil the mean
    body = max(keys.bytes_seen - sum(largest), 0)
    each = body / max(keys.keys_seen - len(largest), 1)
    used = measured(seen.look(MemoryInfo).reading.used_memory)
    return count * each >= max(STALE_BYTES, STALE_SHARE * used)


def _unswept(seen: Seen, stats: Look[Stats]) -> Finding | None:
    """Keys that DBSIZE counts and a walk over all keys does not meet: SCAN drops the expired."""
    keys = seen.optional(BigKeys)
    if keys is None or not keys.reading.complete:
        return None
    gone = (number(keys.reading.keys_total) or 0) - keys.reading.keys_seen
    removed = (number(stats.reading.expired_keys_per_second) or 0.0) * stats.reading.seconds
    evicted = number(stats.reading.evicted_keys_per_second) or 0.0
    if gone <= 0 or removed < gone / 2 or evicted > 0 or not _holds_memory(seen, gone):
        return None
    return Finding(
        "The server counts {total} keys and a walk met {met}: the others had expired, and nobody "
        "had removed them.",
        [
            keys.fact("total", "keys_total", unit="count"),
            keys.fact("met", "keys_seen", unit="count"),
        ],
        0.8,
    )


def _hz(config: Configuration) -> int:
    value = config.parameters.get("hz", "")
    return int(value) if value.isdigit() else HZ_DEFAULT


@signal("trait")
def hz_is_low(seen: Seen) -> Finding | None:
    """The server looks for expired keys less often than by default."""
    config = seen.look(Configuration)
    if "hz" not in config.reading.parameters:
        raise Unmeasured(NotMeasured(not_measured="CONFIG GET hz", because="it was not answered"))
    if _hz(config.reading) >= HZ_DEFAULT:
        return None
    return Finding(
        "hz is set to {hz}.",
        [config.fact("hz", "parameters.hz", unit="count")],
        1.0,
        Culprit(kind="config", name="hz"),
    )


@signal("trait")
def expiry_hits_its_time_cap(seen: Seen) -> Finding | None:
    """The search for expired keys runs into its time limit."""
    stats = seen.look(Stats)
    if not measured(stats.reading.expired_time_cap_reached_count):
        return None
    return Finding(
        "The search for expired keys ran into its time limit {count} times since the start.",
        [stats.fact("count", "expired_time_cap_reached_count", unit="count")],
    )


@signal("trend")
def defrag_runs(seen: Seen) -> Finding | None:
    """Active defragmentation is running."""
    memory = seen.look(MemoryInfo)
    percent = measured(memory.reading.active_defrag_running)
    if percent <= 0:
        return None
    return Finding(
        "Active defragmentation is running and may use {percent} percent of the CPU.",
        [memory.fact("percent", "active_defrag_running", unit="count")],
        1.0,
        Culprit(kind="config", name="activedefrag"),
    )


@signal("symptom")
def defrag_stalls(seen: Seen) -> Finding | None:
    """Active defragmentation has stalled the server."""
    latency = seen.look(LatencyEvents)
    return stalled(
        latency, ("active-defrag-cycle",), "Defragmentation stalled the server for {longest}."
    )


@signal("trait")
def defrag_is_eager(seen: Seen) -> Finding | None:
    """Active defragmentation is set to start early or to take much CPU."""
    config = seen.look(Configuration)
    for name, unit, (low, high) in EAGER:
        value = config.reading.parameters.get(name, "")
        if value.isdigit() and not low <= int(value) <= high:
            return Finding(
                "Defragmentation is set to be eager: a threshold of it is {value}.",
                [config.fact("value", f"parameters.{name}", unit=unit)],
                1.0,
                Culprit(kind="config", name="activedefrag"),
            )
    return None


@signal("trait")
def no_defrag(seen: Seen) -> Finding | None:
    """Active defragmentation is off."""
    config = seen.look(Configuration)
    if "activedefrag" not in config.reading.parameters:
        raise Unmeasured(
            NotMeasured(
                not_measured="CONFIG GET activedefrag", because="this build does not offer it"
            )
        )
    if config.reading.parameters["activedefrag"] != "no":
        return None
    memory = seen.look(MemoryInfo)
    return Finding(
        "Active defragmentation is set to {value}, with {wasted} lost between values.",
        [
            config.fact("value", "parameters.activedefrag", unit="text"),
            memory.fact("wasted", "allocator_frag_bytes", unit="bytes"),
        ],
    )


@signal("symptom")
def scripts_pile_up(seen: Seen) -> Finding | None:
    """The server keeps very many scripts."""
    scripts = seen.look(Scripts)
    count = measured(scripts.reading.number_of_cached_scripts)
    held = _script_bytes(scripts.reading)
    if count < SCRIPTS_MANY or held < SCRIPT_BYTES:
        return None
    return Finding(
        "{count} scripts are cached.",
        [scripts.fact("count", "number_of_cached_scripts", unit="count")],
        scaled(count, SCRIPTS_MANY, SCRIPTS_CLEARLY),
    )


def _script_bytes(scripts: Scripts) -> float:
    vm = number(scripts.used_memory_vm_eval)
    cached = number(scripts.used_memory_scripts_eval)
    if vm is None and cached is None:
        measured(scripts.used_memory_vm_eval)
    return (vm or 0.0) + (cached or 0.0)


@signal("trait")
def script_memory_large(seen: Seen) -> Finding | None:
    """The interpreter of scripts holds much memory outside used_memory."""
    scripts = seen.look(Scripts)
    if measured(scripts.reading.used_memory_vm_eval) < SCRIPT_BYTES:
        return None
    return Finding(
        "The interpreter of scripts holds {bytes} outside used_memory.",
        [scripts.fact("bytes", "used_memory_vm_eval", unit="bytes")],
    )


@signal("trait")
def modules_loaded(seen: Seen) -> Finding | None:
    """A module is loaded."""
    modules = seen.look(Modules)
    for index, row in enumerate(modules.reading.modules):
        if row.name not in BUILT_IN:
            name = modules.fact("module", f"modules.{index}.name", unit="text")
            return Finding("The module {module} is loaded.", [name])
    return None
