"""Checks of what else holds memory: keys, clients, replicas, the heap, scripts. Pure."""

from typing import Any

from agent.checks import Check, Verdict, judged, setting
from agent.facts import print_bytes, print_share
from agent.figures import MIB, Look, Unmeasured
from tools.reading import number, printable

LARGEST_KEY_SHARE = 0.2
LARGEST_BUFFER_SHARE = 0.1
"""Of the limit: what clients, or the backlog, may hold without crowding out data."""
FRAGMENTATION, FRAGMENTATION_FLOOR = 1.5, 100 * MIB
MOST_SCRIPTS = 500
MOST_STALE = 10.0
"""Per cent of keys already expired but not removed."""
BUILT_IN = frozenset({"vectorset", "lua"})
"""Modules that come with the server: Redis 8, Valkey 9."""
DEFAULT_HASH_ENTRIES, SLOW_HASH_ENTRIES = 128, 1_024


def keys_expire(look: Look) -> Verdict:
    """No large prefix is written without an expiry."""
    rows = look.rows("bigkeys.prefixes")
    if not rows:
        raise Unmeasured("no keys were scanned")
    top = max(rows, key=_may_never_expire)
    share, without = float(top["share_of_bytes"]), number(top["without_ttl_share"])
    if without is None:
        because = printable(str(top["without_ttl_share"]["because"]), 160)
        raise Unmeasured(f'TTLs under "{top["prefix"]}" were not measured: {because}')
    said = (
        f'"{top["prefix"]}" holds {print_share(share)} of the bytes scanned, '
        f"{print_share(without)} of its keys never expire"
    )
    return judged(share < 0.5 or without < 0.8, said)


def _may_never_expire(row: dict[str, Any]) -> float:
    """Share of the bytes scanned; without its TTLs, a prefix may be all of it."""
    without = number(row["without_ttl_share"])
    return float(row["share_of_bytes"]) * (1.0 if without is None else without)


def no_dominant_key(look: Look) -> Verdict:
    """No single key holds a large part of the dataset."""
    share = look.number("bigkeys.top_by_bytes.0.share_of_dataset")
    size = look.number("bigkeys.top_by_bytes.0.bytes")
    name = look.text("bigkeys.top_by_bytes.0.key")
    said = f'largest key "{name}": {print_bytes(size)}, {print_share(share)} of the dataset'
    return judged(share < LARGEST_KEY_SHARE, said)


def compact_limits(look: Look) -> Verdict:
    """The listpack limit of hashes is neither below the default nor slow."""
    values = [
        look.number_or_none(f"config_get.parameters.hash-max-{name}-entries")
        for name in ("listpack", "ziplist")
    ]
    value = next((v for v in values if v is not None), None)
    if value is None:
        raise Unmeasured("hash-max-listpack-entries could not be read")
    good = DEFAULT_HASH_ENTRIES <= value <= SLOW_HASH_ENTRIES
    said = f"hash-max-listpack-entries is {value:,.0f}"
    return judged(good, f"{said} (sensible: {DEFAULT_HASH_ENTRIES} to {SLOW_HASH_ENTRIES:,})")


def streams_acknowledged(look: Look) -> Verdict:
    """Entries delivered are acknowledged."""
    rows = look.rows("stream_info.streams")
    if not rows:
        return "pass", "no streams were found"
    worst = max(rows, key=lambda row: int(row["pending"]))
    pending, length = int(worst["pending"]), int(worst["length"])
    said = f'"{worst["key"]}" has {pending:,} pending of {length:,} entries'
    return judged(pending < max(10_000, length // 2), said)


def streams_bounded(look: Look) -> Verdict:
    """No stream dominates the dataset."""
    rows = look.rows("stream_info.streams")
    if not rows:
        return "pass", "no streams were found"
    shares = [(row["share_of_dataset"], row) for row in rows]
    known = [(s, row) for s, row in shares if isinstance(s, int | float)]
    if not known:
        raise Unmeasured("the size of no stream was measured")
    share, row = max(known, key=lambda pair: pair[0])
    said = f'"{row["key"]}" has {row["length"]:,} entries, {print_share(share)} of the dataset'
    return judged(share < LARGEST_KEY_SHARE, said)


def _buffer_limits(look: Look) -> dict[str, tuple[int, int, int]]:
    words = setting(look, "client-output-buffer-limit").split()
    limits = {}
    for kind, *sizes in zip(*[iter(words)] * 4, strict=False):
        if all(size.isdecimal() for size in sizes):
            hard, soft, seconds = map(int, sizes)
            limits["replica" if kind == "slave" else kind] = (hard, soft, seconds)
    return limits


def _bounded(look: Look, kind: str) -> Verdict:
    limits = _buffer_limits(look)
    if kind not in limits:
        raise Unmeasured(f"client-output-buffer-limit has no part for {kind}")
    hard, soft, seconds = limits[kind]
    if not hard and not soft:
        return "fail", f"output buffers of {kind} clients have no limit"
    said = f"{print_bytes(hard)} at once" if hard else "no hard limit"
    said += f", {print_bytes(soft)} for {seconds} s" if soft else ""
    # Buffers of replicas do not count against maxmemory; all others do.
    limit = None if kind == "replica" else look.number_or_none("memory_info.maxmemory")
    good = not limit or (hard or soft) < limit
    return judged(good, f"{kind} clients are cut at {said}" + ("" if good else ", above maxmemory"))


def pubsub_buffers_bounded(look: Look) -> Verdict:
    """A subscriber that does not read is cut off."""
    return _bounded(look, "pubsub")


def replica_buffers_bounded(look: Look) -> Verdict:
    """A replica that does not read is cut off."""
    return _bounded(look, "replica")


def normal_buffers_bounded(look: Look) -> Verdict:
    """Replies that nobody reads are bounded: per client, or all together."""
    total = look.text_or_none("config_get.parameters.maxmemory-clients")
    if total not in (None, "0"):
        return "pass", f"maxmemory-clients is {total}"
    verdict, said = _bounded(look, "normal")
    absent = "maxmemory-clients is " + ("not offered by this build" if total is None else "0")
    return verdict, f"{said}; {absent}"


def query_buffers_bounded(look: Look) -> Verdict:
    """One request cannot fill the memory."""
    size = float(_number(setting(look, "client-query-buffer-limit")))
    limit = look.number_or_none("memory_info.maxmemory")
    said = f"client-query-buffer-limit is {print_bytes(size)}"
    if not limit:
        return judged(size <= 1024 * MIB, f"{said}; maxmemory is not set")
    return judged(size < limit, f"{said} against maxmemory {print_bytes(limit)}")


def _number(text: str) -> int:
    if not text.isdecimal():
        raise Unmeasured(f"'{text}' is not a size in bytes")
    return int(text)


def client_memory_small(look: Look) -> Verdict:
    """Connections hold little."""
    held, limit = look.number("clients.memory"), look.number("memory_info.limit")
    if limit <= 0:
        raise Unmeasured("no memory limit is known")
    count = look.number("clients.connected")
    said = (
        f"{count:,.0f} clients hold {print_bytes(held)}, {print_share(held / limit)} of the limit"
    )
    return judged(held < LARGEST_BUFFER_SHARE * limit, said)


def no_monitor(look: Look) -> Verdict:
    """Nobody runs MONITOR."""
    monitors = look.number("clients.monitors")
    return judged(monitors == 0, f"{monitors:,.0f} clients run MONITOR")


def backlog_sized(look: Look) -> Verdict:
    """The replication backlog is a small part of maxmemory."""
    size = look.number("replication.repl_backlog_size")
    limit = look.number("memory_info.maxmemory")
    if limit == 0:
        raise Unmeasured(f"repl-backlog-size is {print_bytes(size)}, but maxmemory is 0")
    said = f"repl-backlog-size {print_bytes(size)} is {print_share(size / limit)} of maxmemory"
    return judged(size < LARGEST_BUFFER_SHARE * limit, said)


def replicas_keep_up(look: Look) -> Verdict:
    """Replicas are connected and close behind."""
    rows = look.rows("replication.replicas")
    if not rows:
        return "pass", "no replicas are connected"
    lag = max(int(row["lag_bytes"]) for row in rows)
    return judged(lag < 64 * MIB, f"{len(rows)} replicas, the last {print_bytes(lag)} behind")


def fragmentation_low(look: Look) -> Verdict:
    """The heap is not fragmented: a ratio and a floor in bytes."""
    if "libc" in look.text("memory_info.mem_allocator"):
        raise Unmeasured("this build uses libc malloc, which does not report its fragmentation")
    ratio = look.number("memory_info.allocator_frag_ratio")
    lost = look.number("memory_info.allocator_frag_bytes")
    good = ratio <= FRAGMENTATION or lost <= FRAGMENTATION_FLOOR
    return judged(good, f"allocator_frag_ratio {ratio:.2f}, {print_bytes(lost)} lost to it")


def resident_near_used(look: Look) -> Verdict:
    """Freed pages went back to the system."""
    rss, used = look.number("memory_info.used_memory_rss"), look.number("memory_info.used_memory")
    over = rss - used
    good = over <= FRAGMENTATION_FLOOR or over <= 0.3 * used
    return judged(good, f"resident {print_bytes(rss)}, used {print_bytes(used)}")


def defrag_settings(look: Look) -> Verdict:
    """Active defragmentation is off, or starts late and stays below a quarter of a core."""
    if setting(look, "activedefrag") != "yes":
        return "pass", "activedefrag is off"
    ignore = _number(setting(look, "active-defrag-ignore-bytes"))
    most = _number(setting(look, "active-defrag-cycle-max"))
    said = f"activedefrag begins at {print_bytes(ignore)} and takes up to {most} % of a core"
    return judged(ignore >= FRAGMENTATION_FLOOR and most <= 25, said)


def fork_headroom(look: Look) -> Verdict:
    """The host has room for maxmemory and the pages copied during the last save."""
    copied = max(
        look.number_or_none("persistence.rdb_last_cow_size") or 0.0,
        look.number_or_none("persistence.aof_last_cow_size") or 0.0,
        look.number("persistence.current_cow_size"),
    )
    container = look.number_or_none("host.container_limit_bytes")
    host = container or look.number("memory_info.total_system_memory")
    whose = "the container's limit" if container else "host memory"
    limit = look.number("memory_info.maxmemory") or look.number("memory_info.used_memory_peak")
    said = f"up to {print_bytes(limit)} used and {print_bytes(copied)} copied by the last child"
    return judged(limit + copied < host, f"{said}, {whose} {print_bytes(host)}")


def saves_work(look: Look) -> Verdict:
    """The last snapshot succeeded."""
    state = look.text("persistence.rdb_last_bgsave_status")
    return judged(state == "ok", f"the last BGSAVE: {state}")


def scripts_few(look: Look) -> Verdict:
    """Script texts repeat instead of piling up."""
    count = look.number("scripts.number_of_cached_scripts")
    return judged(count < MOST_SCRIPTS, f"{count:,.0f} scripts are cached")


def modules_known(look: Look) -> Verdict:
    """No module holds memory that keys do not show."""
    loaded = [str(row["name"]) for row in look.rows("modules.modules")]
    added = [name for name in loaded if name not in BUILT_IN]
    if not added:
        return "pass", f"no modules are loaded{' but built-in ones' if loaded else ''}"
    names = ", ".join(added[:8])
    raise Unmeasured(f"loaded: {names}; what their indexes hold, only their own commands tell")


def expiry_keeps_up(look: Look) -> Verdict:
    """Expired keys are removed as fast as they expire."""
    stale, hz = look.number("stats.expired_stale_perc"), look.number("server_info.hz")
    said = f"{stale:.1f} % of keys are expired but not removed, hz {hz:.0f}"
    return judged(stale <= MOST_STALE and hz >= 10, said)


MEMORY_CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (
        keys_expire, no_dominant_key, compact_limits, streams_acknowledged, streams_bounded,
        pubsub_buffers_bounded, replica_buffers_bounded, normal_buffers_bounded,
        query_buffers_bounded, client_memory_small, no_monitor, backlog_sized, replicas_keep_up,
        fragmentation_low, resident_near_used, defrag_settings, fork_headroom, saves_work,
        scripts_few, modules_known, expiry_keeps_up,
    )
}  # fmt: skip
