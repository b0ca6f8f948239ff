"""Checks of production-checklist lines: each judges evidence and says why, with numbers. Pure.

A check returns pass or fail, or raises Unmeasured with the reason. It never guesses.
"""

from collections.abc import Callable
from typing import Literal

from agent.facts import print_bytes, print_share
from agent.figures import MIB, Look, Unmeasured, printed

Verdict = tuple[Literal["pass", "fail"], str]
Check = Callable[[Look], Verdict]

WARNING_PRESSURE = 0.75
"""The seed runbook's alert threshold: beyond it there is no headroom."""
CRITICAL_PRESSURE = 0.85
LARGEST_SHARE_OF_HOST = 0.9
"""maxmemory above this leaves no room for fork, fragmentation and buffers."""
SOON = 30 * 86_400.0
SWAPPED_OUT = 64 * MIB
"""used_memory above RSS by more than this is no accounting noise."""


def judged(good: bool, because: str) -> Verdict:
    """Pass if good, else fail."""
    return ("pass" if good else "fail"), because


def per_day(rate: float) -> str:
    """A rate in bytes per second as bytes a day."""
    return f"{print_bytes(rate * 86_400)} a day"


def setting(look: Look, parameter: str) -> str:
    """A configuration parameter as the server prints it, without the quotes of printed()."""
    return look.text(f"config_get.parameters.{parameter}")


def maxmemory_set(look: Look) -> Verdict:
    """A limit, below the host's memory with room to spare, and headroom below the limit."""
    limit = look.number("memory_info.maxmemory")
    host = look.number_or_none("memory_info.total_system_memory")
    if limit == 0:
        used = print_bytes(look.number("memory_info.used_memory"))
        beyond = f" and the host has {print_bytes(host)}" if host else ""
        return "fail", f"maxmemory is 0: nothing limits the server; {used} used{beyond}"
    policy = look.text_or_none("memory_info.maxmemory_policy")
    said = f"maxmemory {print_bytes(limit)}" + (f", policy {policy}" if policy else "")
    if host and limit > LARGEST_SHARE_OF_HOST * host:
        return "fail", (
            f"{said}: {print_share(limit / host)} of the host's {print_bytes(host)} leaves no room "
            "for fork, fragmentation and buffers"
        )
    pressure = look.number("memory_info.pressure")
    good = pressure <= CRITICAL_PRESSURE
    room = "headroom is left" if good else f"above {print_share(CRITICAL_PRESSURE)}, no headroom"
    of_host = f"; {print_share(limit / host)} of the host's memory" if host else ""
    return judged(good, f"{said}: {print_share(pressure)} of it is used, {room}{of_host}")


def swap(look: Look) -> Verdict:
    """Told by the host, where it is known, and by the server only once it lives in swap."""
    used = look.number_or_none("memory_info.used_memory")
    rss = look.number_or_none("memory_info.used_memory_rss")
    if used is not None and rss is not None and used - rss > SWAPPED_OUT:
        return "fail", (
            f"resident {print_bytes(rss)} is {print_bytes(used - rss)} below what is used: "
            "part of the data may be swapped out, which makes every access to it slow"
        )
    if (swapped := look.number_or_none("host.swap_used_bytes")) is not None:
        pages = look.number_or_none("host.swapped_in_pages_per_second") or 0.0
        said = f"the host has {print_bytes(swapped)} in swap and reads {pages:,.0f} pages/s back"
        return judged(swapped < SWAPPED_OUT or pages < 1, said)
    raise Unmeasured(
        "a Redis server does not report the host's swap; on the host look at `swapon --show`, "
        "`sysctl vm.swappiness vm.overcommit_memory` and Swap in /proc/<pid>/smaps. Redis advises "
        "swap as large as memory, so that a spike slows the server instead of killing it"
    )


def persistence_settings(look: Look) -> Verdict:
    """What is configured, and whether the last save and append worked."""
    states = {
        "RDB save": look.text_or_none("persistence.rdb_last_bgsave_status"),
        "AOF write": look.text_or_none("persistence.aof_last_write_status"),
        "AOF rewrite": look.text_or_none("persistence.aof_last_bgrewrite_status"),
    }
    aof = look.number("persistence.aof_enabled") == 1
    save = look.text_or_none("config_get.parameters.save")
    fsync = look.text_or_none("config_get.parameters.appendfsync")
    said = _persistence_said(aof, save, fsync)
    broken = [name for name, state in states.items() if state not in (None, "ok")]
    if broken:
        return "fail", f"{said}; the last {' and '.join(broken)} failed"
    if not aof and save == "":
        policy = look.text_or_none("memory_info.maxmemory_policy") or ""
        if policy.startswith("allkeys"):
            return "pass", f"{said}: a cache (policy {policy}) may do without"
        return "fail", f"{said}: a restart loses everything, and the policy is no cache's"
    known = ", ".join(f"{name} ok" for name, state in states.items() if state == "ok")
    return "pass", f"{said}; last: {known or 'no status reported'}"


def _persistence_said(aof: bool, save: str | None, fsync: str | None) -> str:
    rdb = "RDB schedule not readable" if save is None else f"RDB save '{save}'" if save else ""
    log = f"AOF on (appendfsync {fsync or 'not readable'})" if aof else ""
    return ", ".join(part for part in (rdb, log) if part) or "neither RDB nor AOF"


def capacity_plan(look: Look) -> Verdict:
    """Peak against the limit, growth, and when it is full at this pace."""
    limit = look.number("memory_info.limit")
    if limit <= 0:
        raise Unmeasured("no memory limit is known")
    peak = look.number("memory_info.used_memory_peak")
    pressure = look.number("memory_info.pressure")
    said = f"peak {print_bytes(peak)} is {print_share(peak / limit)} of {print_bytes(limit)}"
    said += f", now {print_share(pressure)}"
    until: float | None = None
    try:
        until = look.number("capacity.seconds_to_full")
        growth = look.number("stats.used_memory_per_second")
        said += f"; growing {per_day(growth)}, full in {printed(until, 'seconds')} at this pace"
    except Unmeasured as why:
        said += f"; growth: {why}"
    good = pressure <= WARNING_PRESSURE and peak / limit <= CRITICAL_PRESSURE
    return judged(good and (until is None or until > SOON), said)


def eviction_policy(look: Look) -> Verdict:
    """The policy can free what a full server needs, or the server is not full."""
    policy = look.text("memory_info.maxmemory_policy")
    oom = look.number_or_none("error_stats.oom_per_second")
    if oom:
        return "fail", f"policy {policy}: {printed(oom, 'per_second')} writes are refused with OOM"
    if policy.startswith("volatile"):
        share = look.number("keyspace.expires_share")
        said = f"policy {policy} may evict the {print_share(share)} of keys that expire"
        return judged(share >= 0.05, said)
    pressure = look.number("memory_info.pressure")
    good = policy.startswith("allkeys") or pressure <= CRITICAL_PRESSURE
    return judged(good, f"policy {policy} at {print_share(pressure)} of the limit")


def hit_ratio(look: Look) -> Verdict:
    """Reads find their keys, and evictions stay below writes."""
    ratio = look.number("stats.hit_ratio")
    evicted = look.number("stats.evicted_keys_per_second")
    good = ratio >= 0.5 or evicted == 0
    said = f"{print_share(ratio)} of lookups hit, {printed(evicted, 'per_second')} keys evicted"
    return judged(good, said)


def no_oom_errors(look: Look) -> Verdict:
    """No write is refused for memory now."""
    now, total = look.number("error_stats.oom_per_second"), look.number("error_stats.oom")
    said = f"{printed(now, 'per_second')} OOM errors now, {total:,.0f} since the counters began"
    return judged(now == 0, said)


SEED_CHECKS: dict[str, Check] = {
    "maxmemory_set": maxmemory_set,
    "swap": swap,
    "persistence_settings": persistence_settings,
    "capacity_plan": capacity_plan,
    "eviction_policy": eviction_policy,
    "hit_ratio": hit_ratio,
    "no_oom_errors": no_oom_errors,
}
