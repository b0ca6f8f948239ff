"""Signals of the limit: refusals, policies, evictions and what they cost."""

from dataclasses import dataclass

from agent.incident import FactDraft
from agent.signals.memory import PRESSURE_FULL
from agent.signals.seen import Finding, Look, Seen, Unmeasured, clamp, measured, scaled, signal
from tools.commands import READS as READING
from tools.keyspace import Keyspace
from tools.latency import LatencyEvents
from tools.memory import MemoryInfo
from tools.permissions import READ_COMMANDS
from tools.reading import NotMeasured
from tools.stats import CommandRow, CommandStats, ErrorStats, Stats

OOM_PER_SECOND = 0.0
THRASH_SHARE = 0.5
"""FAILURE_MODES 23: evictions about equal to writes."""
THRASH_PER_SECOND = 50.0
HIT_RATIO_LOW = 0.5
"""FAILURE_MODES 23: the hit ratio falls (10 % measured)."""
HIT_RATIO_HEALTHY = 0.8
LOOKUPS_PER_SECOND = 10.0
"""A ratio of fewer lookups means nothing."""
MANY_KEYS = frozenset({"mget", "exists", "sunion", "sinter", "sdiff", "touch"})
"""Commands that look up several keys: their calls do not count lookups."""
MANY_KEYS_SHARE = 0.1
MOST_SUMMED = 12
EVICTIONS_LITTLE = 50.0
FEW_EXPIRING = 0.01
STALL_MILLISECONDS = 50
RECENT_SECONDS = 600


@signal("symptom")
def oom_errors(seen: Seen) -> Finding | None:
    """Writes are refused for want of memory."""
    errors = seen.look(ErrorStats)
    reading = errors.reading
    if reading.oom_per_second > OOM_PER_SECOND:
        return Finding(
            "Writes are refused with OOM at {rate}, {count} since the start.",
            [
                errors.fact("rate", "oom_per_second", unit="per_second"),
                errors.fact("count", "oom", unit="count"),
            ],
        )
    # Nobody wrote between the samples: counts since the start tell only while still full.
    if not reading.oom:
        return None
    memory = seen.look(MemoryInfo)
    if measured(memory.reading.pressure) < PRESSURE_FULL:
        return None
    return Finding(
        "{count} writes were refused with OOM since the start, and memory is still at {pressure}.",
        [
            errors.fact("count", "oom", unit="count"),
            memory.fact("pressure", "pressure", unit="ratio"),
        ],
        0.8,
    )


def _policy(seen: Seen) -> tuple[Look[MemoryInfo], str, list[FactDraft]]:
    memory = seen.look(MemoryInfo)
    policy = measured(memory.reading.maxmemory_policy)
    return memory, policy, [memory.fact("policy", "maxmemory_policy", unit="text")]


def _in_use(memory: Look[MemoryInfo]) -> tuple[str, list[FactDraft]]:
    """How full it is: without that, a policy says nothing about this server."""
    if isinstance(memory.reading.pressure, NotMeasured):
        return "", []
    return "; {pressure} of it is in use", [memory.fact("pressure", "pressure", unit="ratio")]


@signal("trait")
def noeviction_policy(seen: Seen) -> Finding | None:
    """The policy evicts nothing."""
    memory, policy, facts = _policy(seen)
    if policy != "noeviction":
        return None
    said, more = _in_use(memory)
    text = "The policy is {policy}: at the limit, writes are refused" + said + "."
    return Finding(text, [*facts, *more])


@signal("trait")
def allkeys_policy(seen: Seen) -> Finding | None:
    """The policy may evict every key: this is a cache."""
    memory, policy, facts = _policy(seen)
    if not policy.startswith("allkeys-") or measured(memory.reading.maxmemory) == 0:
        return None
    return Finding("The policy is {policy}: every key may be evicted.", facts)


@signal("trait")
def volatile_policy_without_ttl(seen: Seen) -> Finding | None:
    """The policy may evict only keys with an expiry, and there are hardly any."""
    keys = seen.look(Keyspace)
    memory, policy, facts = _policy(seen)
    share = keys.reading.expires_share
    if not policy.startswith("volatile-") or share is None or share >= FEW_EXPIRING:
        return None
    said, more = _in_use(memory)
    return Finding(
        "The policy {policy} evicts only keys with an expiry, and {share} of the keys have one: at "
        "the limit, writes are refused" + said + ".",
        [*facts, keys.fact("share", "expires_share", unit="ratio"), *more],
    )


@signal("trait")
def evicts_keys(seen: Seen) -> Finding | None:
    """Keys are evicted."""
    stats = seen.look(Stats)
    if measured(stats.reading.evicted_keys_per_second) <= 0:
        return None
    return Finding("Keys are evicted at {rate}.", [_evictions(stats)])


@signal("symptom")
def evicts_as_fast_as_it_writes(seen: Seen) -> Finding | None:
    """About as many keys are evicted as are written."""
    stats, commands = seen.look(Stats), seen.look(CommandStats)
    evicted = measured(stats.reading.evicted_keys_per_second)
    writes = commands.reading.writes_per_second
    if evicted < THRASH_PER_SECOND or evicted < THRASH_SHARE * writes:
        return None
    # A cache that turns over slowly and still hits is doing its work.
    if _healthy_hits(seen) is not None:
        return None
    return Finding(
        "Keys are evicted at {rate} while {writes} are written.",
        [_evictions(stats), commands.fact("writes", "writes_per_second", unit="per_second")],
        scaled(evicted / max(writes, 1.0), THRASH_SHARE, 0.9),
    )


@signal("trait")
def evicts_little(seen: Seen) -> Finding | None:
    """Few keys are evicted or none."""
    stats = seen.look(Stats)
    if measured(stats.reading.evicted_keys_per_second) >= EVICTIONS_LITTLE:
        return None
    return Finding("Keys are evicted at {rate} only.", [_evictions(stats)])


def _evictions(stats: Look[Stats]) -> FactDraft:
    return stats.fact("rate", "evicted_keys_per_second", unit="per_second")


@dataclass(frozen=True)
class Lookups:
    """The application's reads per second and the share of them that hit."""

    per_second: float
    hit_ratio: float
    text: str
    facts: list[FactDraft]


def _lookups(seen: Seen) -> Lookups:
    """Reads of the application, as far as they can be told from our own.

    A scan of ours counts as thousands of hits (TYPE and PTTL of keys that exist), never as a
    miss. So misses are the server's, and reads those of commands that we never send.
    """
    stats = seen.look(Stats)
    commands = seen.optional(CommandStats)
    rows = _reads(commands.reading) if commands else []
    reads = sum(row.calls_per_second for _, row in rows)
    many = sum(row.calls_per_second for _, row in rows if row.command in MANY_KEYS)
    if commands is None or many > MANY_KEYS_SHARE * reads:
        ratio = measured(stats.reading.hit_ratio)
        hits = measured(stats.reading.keyspace_hits_per_second)
        misses = measured(stats.reading.keyspace_misses_per_second)
        fact = stats.fact("ratio", "hit_ratio", unit="ratio")
        return Lookups(hits + misses, ratio, "Of all lookups, {ratio} hit.", [fact])
    if not rows:
        raise Unmeasured(
            NotMeasured(not_measured="hit ratio", because="nothing was read between the samples")
        )
    misses = measured(stats.reading.keyspace_misses_per_second)
    paths = [f"commands.{index}.calls_per_second" for index, _ in rows]
    facts = [
        commands.fact("reads", *paths, op="sum", unit="per_second"),
        stats.fact("misses", "keyspace_misses_per_second", unit="per_second"),
    ]
    ratio = clamp(1 - misses / reads)
    return Lookups(reads, ratio, "Keys are read at {reads}; {misses} are not there.", facts)


def _reads(commands: CommandStats) -> list[tuple[int, CommandRow]]:
    """The busiest commands that read a key and that we do not send."""
    rows = [
        (index, row)
        for index, row in enumerate(commands.commands)
        if row.command in READING and row.command not in READ_COMMANDS and row.calls_per_second > 0
    ]
    return rows[:MOST_SUMMED]


@signal("trait")
def hit_ratio_low(seen: Seen) -> Finding | None:
    """Most lookups miss."""
    lookups = _lookups(seen)
    if lookups.hit_ratio >= HIT_RATIO_LOW or lookups.per_second < LOOKUPS_PER_SECOND:
        return None
    return Finding(lookups.text, lookups.facts)


@signal("trait")
def hit_ratio_healthy(seen: Seen) -> Finding | None:
    """Most lookups hit."""
    return _healthy_hits(seen)


def _healthy_hits(seen: Seen) -> Finding | None:
    lookups = _lookups(seen)
    if lookups.hit_ratio < HIT_RATIO_HEALTHY or lookups.per_second < LOOKUPS_PER_SECOND:
        return None
    return Finding(lookups.text, lookups.facts)


@signal("symptom")
def eviction_stalls(seen: Seen) -> Finding | None:
    """Evictions have stalled the server."""
    latency = seen.look(LatencyEvents)
    return stalled(
        latency, ("eviction-cycle", "eviction-del"), "Evictions stalled the server for {longest}."
    )


def stalled(
    latency: Look[LatencyEvents],
    names: tuple[str, ...],
    text: str,
    least: int = STALL_MILLISECONDS,
) -> Finding | None:
    """A recent latency event of one of these names, of so many milliseconds at least."""
    if not measured(latency.reading.threshold_milliseconds) and not latency.reading.events:
        return None
    for index, event in enumerate(latency.reading.events):
        recent = event.age_seconds <= RECENT_SECONDS
        if event.event in names and recent and event.longest_milliseconds >= least:
            at = f"events.{index}.longest_milliseconds"
            return Finding(text, [latency.fact("longest", at, unit="milliseconds")])
    return None
