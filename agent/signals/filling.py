"""Trends of the keyspace: composition that fills the memory, or grows towards filling it."""

from agent.signals.keys import (
    KEY_SHARE,
    KEYS_PER_SECOND,
    largest_key,
    leaking_prefix,
    tiny_values,
    used_memory,
)
from agent.signals.memory import memory_grows
from agent.signals.seen import MIB, Finding, Seen, measured, scaled, signal
from tools.keyspace import BigKeys
from tools.memory import MemoryInfo
from tools.reading import number
from tools.stats import CommandStats, Stats

ONE_THING_SHARE = 0.7
ONE_THING_FLOOR = 3 * MIB
PREFIX_ALONE_FLOOR = 6 * MIB
"""A prefix without expiry may be a datastore: it takes more to call it a leak."""
PRESSURE_HALF = 0.5
IN_USE_SECONDS = 2
"""The idle clock ticks once a second."""
GROWN_BY: dict[str, frozenset[str]] = {
    "hash": frozenset({"hset", "hmset", "hsetnx", "hincrby", "hincrbyfloat"}),
    "list": frozenset({"lpush", "rpush", "lpushx", "rpushx", "linsert", "lmove", "rpoplpush"}),
    "set": frozenset({"sadd", "smove", "sunionstore"}),
    "zset": frozenset({"zadd", "zincrby", "zunionstore", "geoadd"}),
    "string": frozenset({"append", "set", "setrange", "setbit", "setex"}),
}
TINY_SHARE = 0.4
"""Of used memory, without the table of keys: 200,000 tiny strings hold 44 % (FAILURE_MODES 3)."""


@signal("trend")
def keys_without_expiry_accumulate(seen: Seen) -> Finding | None:
    """Memory grows, and so does the number of keys that never expire."""
    stats = seen.look(Stats)
    rate = measured(stats.reading.keys_without_expiry_per_second)
    growth = memory_grows.function(seen)
    if rate < KEYS_PER_SECOND or growth is None:
        return None
    keys = stats.fact("rate", "keys_without_expiry_per_second", unit="per_second")
    if growth.facts[0].evidence != stats.evidence:  # over days, and not in these seconds
        facts = [fact.model_copy(update={"name": f"grown_{fact.name}"}) for fact in growth.facts]
        text = growth.text.replace("{", "{grown_")
        return Finding(f"Keys that never expire grow by {{rate}}. {text}", [keys, *facts])
    return Finding(
        "Keys that never expire grow by {rate}, memory by {memory}.",
        [keys, stats.fact("memory", "used_memory_per_second", unit="bytes_per_second")],
    )


@signal("trend")
def largest_key_grows(seen: Seen) -> Finding | None:
    """Memory grows while a key that holds much of it is written to."""
    keys, commands = seen.look(BigKeys), seen.look(CommandStats)
    _, used = used_memory(seen)
    found = largest_key(keys.reading)
    if found is None or found[2] < KEY_SHARE * used or memory_grows.function(seen) is None:
        return None
    index, row, _ = found
    if measured(row.idle_seconds) > IN_USE_SECONDS:
        return None
    grows = GROWN_BY.get(row.type, frozenset())
    for at, command in enumerate(commands.reading.commands):
        if command.command in grows and command.calls_per_second > 0:
            return Finding(
                "{key} is in use, {command} is called at {rate}, and memory grows.",
                [
                    keys.fact("key", f"top_by_bytes.{index}.key", unit="text"),
                    commands.fact("command", f"commands.{at}.command", unit="text"),
                    commands.fact("rate", f"commands.{at}.calls_per_second", unit="per_second"),
                ],
            )
    return None


def _one_thing(seen: Seen) -> Finding | None:
    keys = seen.look(BigKeys)
    memory, used = used_memory(seen)
    best: tuple[float, str, str] | None = None
    for index, row in enumerate(keys.reading.top_by_bytes):
        size = number(row.bytes) or 0
        if size >= ONE_THING_FLOOR and size / used >= ONE_THING_SHARE:
            best = (size / used, f"top_by_bytes.{index}.key", f"top_by_bytes.{index}.bytes")
            break
    if best is None and (leak := leaking_prefix(keys.reading, used, ONE_THING_SHARE)) is not None:
        index, leaking, share = leak
        if leaking.bytes >= PREFIX_ALONE_FLOOR:
            best = (share, f"prefixes.{index}.prefix", f"prefixes.{index}.bytes")
    if best is None:
        return None
    text = "Of {used} in use, {name} alone holds {bytes}."
    if best[0] > 1:  # as MEMORY USAGE has it of streams
        text = "{name} alone holds most of {used} in use; the server's estimate of it is {bytes}."
    return Finding(
        text,
        [
            memory.fact("used", "used_memory", unit="bytes"),
            keys.fact("name", best[1], unit="text"),
            keys.fact("bytes", best[2], unit="bytes"),
        ],
        scaled(best[0], ONE_THING_SHARE, 0.9),
    )


@signal("trait")
def one_thing_dominates(seen: Seen) -> Finding | None:
    """One key, or one prefix without expiry, holds nearly all memory."""
    return _one_thing(seen)


@signal("trend")
def one_thing_fills_memory(seen: Seen) -> Finding | None:
    """One key or prefix holds nearly all memory, and no limit is far away or there is none."""
    finding, memory = _one_thing(seen), seen.look(MemoryInfo)
    return finding if finding is not None and _no_limit_is_far(memory.reading) else None


def _no_limit_is_far(memory: MemoryInfo) -> bool:
    unlimited = memory.limit_source in ("host memory", "none known")
    return unlimited or measured(memory.pressure) >= PRESSURE_HALF


@signal("trend")
def tiny_strings_fill_memory(seen: Seen) -> Finding | None:
    """Tiny strings hold most of the memory, and no limit is far away or it grows."""
    finding, keys = tiny_values.function(seen), seen.look(BigKeys)
    memory, used = used_memory(seen)
    held = measured(keys.reading.mean_key_bytes) * measured(keys.reading.keys_total)
    if finding is None or held < max(PREFIX_ALONE_FLOOR, TINY_SHARE * used):
        return None
    near = _no_limit_is_far(memory.reading) or memory_grows.function(seen) is not None
    return finding if near else None
