"""The configuration parameters a remedy may set, and what must hold for each."""

from collections.abc import Callable

from tools.remedies.remedy import Check
from tools.remedies.situation import Rule, Situation, between, buffer_limit, one_of, share_or_size
from tools.remedies.vitals import MIB, Vitals, sized

HEADROOM = 0.10
"""A limit stays this share above what is in use: below it, a server evicts or refuses at once."""
COPY_ON_WRITE = 0.25
"""Of the dataset's limit, kept free for a forked child where the server forks (snapshots, AOF
rewrites, full syncs); the last child's real use, if it was more."""
LONGEST_LISTPACK, LONGEST_VALUE = 4096, 1024
"""Elements, and bytes of each: commands on a listpack are O(N), so a higher limit trades memory
for latency."""

POLICIES = (
    "noeviction", "allkeys-lru", "allkeys-lfu", "allkeys-random",
    "volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl",
)  # fmt: skip
# --- maxmemory ------------------------------------------------------------------------------


def _maxmemory_checks(s: Situation) -> list[Check]:
    new, used, counted = int(s.new), s.vitals.used, s.vitals.counted
    raised = s.old not in ("", "0") and new > int(s.old)
    # Raised, it need only be above what the server counts: buffers of replicas are not.
    held = counted if raised else used
    shown = "memory in use was not reported" if held is None else f"{sized(held)} in use"
    return [
        Check(
            text=f"maxmemory stays {HEADROOM:.0%} above what is in use",
            holds=None if held is None else new >= int(held * (1 + HEADROOM)),
            because=f"{shown}; from {_limit(s.old)} to {_limit(s.new)}",
        ),
        _fits_the_machine(s),
    ]


def _fits_the_machine(s: Situation) -> Check:
    text = "The new limit fits the machine, with room for a forked child and fragmentation"
    used, rss = s.vitals.used, s.vitals.count("used_memory_rss")
    if s.ceiling is None or used is None or rss is None:
        because = "the machine's memory is not known: configure the target's memory_limit"
        return Check(text=text, holds=None, because=because)
    limit, source = s.ceiling
    needed = int(s.new) + reserve(s.vitals, int(s.new)) + max(0, rss - used)
    return Check(
        text=text,
        holds=needed <= limit,
        because=f"{sized(int(s.new))} + {sized(needed - int(s.new))} of reserve against "
        f"{sized(limit)} ({source})",
    )


def reserve(vitals: Vitals, maxmemory: int) -> int:
    """Bytes to keep free beside maxmemory for a forked child's copied pages."""
    last = vitals.count("rdb_last_cow_size") or 0
    return max(int(maxmemory * COPY_ON_WRITE), last)


def largest_maxmemory(vitals: Vitals, memory_limit: int | None) -> int | None:
    """The highest maxmemory that passes the check above; None if the machine is not known."""
    s = Situation("maxmemory", "", "0", vitals, memory_limit=memory_limit)
    used, rss = vitals.used, vitals.count("used_memory_rss")
    if s.ceiling is None or used is None or rss is None:
        return None
    room = s.ceiling[0] - max(0, rss - used)
    last = vitals.count("rdb_last_cow_size") or 0
    return max(0, min(int(room / (1 + COPY_ON_WRITE)), room - last))


def _limit(value: str) -> str:
    return "unlimited" if value in ("", "0") else sized(int(value))


def _maxmemory_effect(s: Situation) -> str:
    counted = s.vitals.counted
    if counted is None:
        return f"maxmemory goes from {_limit(s.old)} to {_limit(s.new)}."
    before = f"{counted / int(s.old):.0%}" if s.old not in ("", "0") else "no limit"
    return (
        f"Pressure goes from {before} to {counted / int(s.new):.0%} "
        f"({sized(counted)} of {_limit(s.new)}); {sized(int(s.new) - counted)} can be written "
        "before the limit is met again. It buys time and does not stop what grows."
    )


# --- maxmemory-policy -----------------------------------------------------------------------


def _evictable(s: Situation) -> int:
    if s.new == "noeviction":
        return 0
    return s.vitals.keys if s.new.startswith("allkeys") else s.vitals.expires


def _policy_checks(s: Situation) -> list[Check]:
    widens = s.new.startswith("allkeys") and not s.old.startswith("allkeys")
    checks = [
        Check(
            text="Keys without an expiry are made evictable only if the owner says it is a cache",
            holds=not widens or s.owner_confirmed_cache,
            because=f"{s.old} -> {s.new}; "
            + ("confirmed" if s.owner_confirmed_cache else "not confirmed by the owner"),
        )
    ]
    if s.new != "noeviction":
        count = _evictable(s)
        checks.append(
            Check(
                text="There is something the policy may evict",
                holds=count > 0,
                because=f"{count:,} of {s.vitals.keys:,} keys would be evictable",
            )
        )
    return checks


def _policy_effect(s: Situation) -> str:
    return (
        f"{_evictable(s):,} of {s.vitals.keys:,} keys become evictable when maxmemory is met; "
        "an evicted key is gone."
    )


# --- client-output-buffer-limit --------------------------------------------------------------


def _buffer_checks(s: Situation) -> list[Check]:
    kind, hard, soft, _seconds = s.new.split()
    smallest = min((int(limit) for limit in (hard, soft) if int(limit)), default=0)
    others = [c for c in s.clients if c.type == kind and c.label != s.culprit]
    biggest = max((c.output_bytes for c in others), default=0)
    return [
        Check(
            text="The hard limit is not unlimited",
            holds=int(hard) > 0,
            because="0 means unlimited" if int(hard) == 0 else sized(int(hard)),
        ),
        Check(
            text=f"No other {kind} client holds more than the new limit right now",
            holds=biggest < smallest,
            because=f"largest of {len(others)} others: {sized(biggest)}, limit {sized(smallest)}",
        ),
        *([_longer_than_the_backlog(s, smallest)] if kind == "replica" else []),
        *_room_for_more(s, int(hard)),
    ]


def _longer_than_the_backlog(s: Situation, smallest: int) -> Check:
    """Below it, a replica is cut off while it catches up, and begins from the start: a loop."""
    backlog = s.vitals.count("repl_backlog_size")
    return Check(
        text="A replica may be behind by a whole backlog",
        holds=None if backlog is None else not smallest or smallest >= backlog,
        because="repl_backlog_size was not reported" if backlog is None else sized(backlog),
    )


def _room_for_more(s: Situation, hard: int) -> list[Check]:
    old = s.old.split()
    if len(old) < 2 or not 0 < int(old[1]) < hard:
        return []  # not raised
    rss = s.vitals.count("used_memory_rss")
    known = s.ceiling is not None and rss is not None
    room = s.ceiling[0] - rss if s.ceiling is not None and rss is not None else 0
    return [
        Check(
            text="One client that fills the larger buffer still fits the machine",
            holds=hard <= room if known else None,
            because=f"{sized(hard)}, {sized(room)} free" if known else "memory is not known",
        )
    ]


def _buffer_effect(s: Situation) -> str:
    kind, hard, soft, seconds = s.new.split()
    return (
        f"A {kind} client that leaves {sized(int(hard))} unread, or {sized(int(soft))} for "
        f"{seconds} s, is disconnected; so one client can hold at most {sized(int(hard))}. "
        f"Before: {s.old or 'not reported'}."
    )


# --- the others -------------------------------------------------------------------------------


def _defrag_checks(s: Situation) -> list[Check]:
    allocator = s.vitals.fields.get("mem_allocator")
    on_jemalloc = None if allocator is None else allocator.startswith("jemalloc")
    return [
        Check(
            text="The allocator is jemalloc, without which nothing can be defragmented",
            holds=s.new == "no" or on_jemalloc,
            because=f"mem_allocator: {allocator or 'not reported'}",
        )
    ]


def _defrag_effect(s: Situation) -> str:
    lost = s.vitals.count("allocator_frag_bytes")
    if s.new == "no":
        return "Defragmentation stops; CPU time goes back to commands."
    return (
        f"Up to {sized(lost) if lost is not None else 'an unknown amount'} of fragmentation is "
        "given back over minutes, for up to active-defrag-cycle-max percent of one core. A build "
        "without defragmentation refuses, and nothing changes."
    )


def _backlog_checks(s: Situation) -> list[Check]:
    limit, counted = s.vitals.count("maxmemory"), s.vitals.counted
    if s.change <= 0:
        holds, because = True, "it shrinks"
    elif limit is None or counted is None:
        holds, because = None, "memory in use or its limit was not reported"
    else:
        room = limit - counted if limit else (s.ceiling or (0, ""))[0] - counted
        holds, because = s.change < room, f"{sized(s.change)} more, {sized(room)} free"
    text = "The larger backlog fits below maxmemory: it counts against it"
    return [Check(text=text, holds=holds, because=because)]


def _backlog_effect(s: Situation) -> str:
    return (
        f"The backlog goes from {sized(int(s.old or 0))} to {sized(int(s.new))}: "
        f"{'uses' if s.change > 0 else 'frees up to'} {sized(abs(s.change))} of counted memory."
    )


def _query_buffer_checks(s: Situation) -> list[Check]:
    others = [c for c in s.clients if c.label != s.culprit]
    biggest = max((c.input_bytes for c in others), default=0)
    return [
        Check(
            text="No other client's query buffer is above the new limit right now",
            holds=biggest < int(s.new),
            because=f"largest of {len(others)} others: {sized(biggest)}",
        )
    ]


def _clients_limit(s: Situation) -> int | None:
    """Bytes; a percentage is of maxmemory, and without that no limit at all."""
    if not s.new.endswith("%"):
        return int(s.new)
    limit = s.vitals.count("maxmemory")
    return None if limit is None else limit * int(s.new[:-1]) // 100


def _clients_checks(s: Situation) -> list[Check]:
    limit = _clients_limit(s)
    others = sum(c.memory for c in s.clients if c.label != s.culprit)
    return [
        Check(
            text="It is a limit: a percentage is one only beside maxmemory",
            holds=None if limit is None else limit > 0,
            because="maxmemory was not reported" if limit is None else sized(limit),
        ),
        Check(
            text="All other clients together hold less than half of it right now",
            holds=None if limit is None else 2 * others < limit,
            because=f"{sized(others)} in {len(s.clients)} clients",
        ),
    ]


def _clients_effect(s: Situation) -> str:
    limit = _clients_limit(s)
    shown = f"{s.new}, {sized(limit)}" if limit and s.new.endswith("%") else s.new
    return (
        f"When all clients together hold more than {shown}, the one that holds most is "
        f"disconnected, and then the next. Before: {s.old or 'not reported'}."
    )


def _fsync_checks(s: Situation) -> list[Check]:
    return [
        Check(
            text="The owner accepts that a crash loses up to a second of writes",
            holds=s.owner_accepts_loss,
            because="confirmed" if s.owner_accepts_loss else "not confirmed by the owner",
        )
    ]


def _timeout_effect(s: Situation) -> str:
    ordinary = [client for client in s.clients if client.type == "normal"]
    idle = sum(client.idle_seconds >= int(s.new) for client in ordinary)
    return (
        f"Ordinary connections idle for {s.new} s are closed, now {idle:,} of {len(ordinary):,}; "
        "replicas, subscribers and those that wait in a blocking command are left. "
        f"Before: {s.old or 'not reported'}."
    )


def _plain(what: str) -> Callable[[Situation], str]:
    return lambda s: f"{what} ({s.parameter}: {s.old or 'not reported'} -> {s.new})."


def _number(low: int, high: int, what: str, *, size: bool = False) -> Rule:
    return Rule(canonical=between(low, high, size=size), effect=_plain(what))


_YES_NO = one_of("yes", "no")
_LISTPACK = "Small values keep the compact encoding; existing keys convert only when rewritten"
_LAZY = "Large values are freed in the background instead of stalling commands"

RULES: dict[str, Rule] = {
    "maxmemory": Rule(
        between(MIB, 2**50, size=True),
        _maxmemory_effect,
        _maxmemory_checks,
        may_cause_evictions=True,
    ),
    "maxmemory-policy": Rule(one_of(*POLICIES), _policy_effect, _policy_checks),
    "client-output-buffer-limit": Rule(
        buffer_limit, _buffer_effect, _buffer_checks, needs_clients=True
    ),
    "activedefrag": Rule(_YES_NO, _defrag_effect, _defrag_checks),
    "repl-backlog-size": Rule(
        between(MIB, 2**36, size=True), _backlog_effect, _backlog_checks, may_cause_evictions=True
    ),
    "client-query-buffer-limit": Rule(
        between(MIB, 2**30, size=True),
        _plain("A client that sends one command larger than this is disconnected"),
        _query_buffer_checks,
        needs_clients=True,
    ),
    "maxmemory-clients": Rule(share_or_size, _clients_effect, _clients_checks, needs_clients=True),
    "appendfsync": Rule(
        one_of("everysec"),
        _plain(
            "Writes no longer wait for the disk; a crash loses up to a second of them, for ever"
        ),
        _fsync_checks,
    ),
    "hz": _number(10, 100, "Expired keys are looked for more often, for some CPU"),
    "active-expire-effort": _number(1, 10, "More CPU time goes into removing expired keys"),
    "active-defrag-cycle-max": _number(5, 50, "Defragmentation may use this percentage of a core"),
    "active-defrag-threshold-lower": _number(
        5, 100, "Defragmentation starts at this percentage of waste"
    ),
    "active-defrag-ignore-bytes": _number(
        10 * MIB, 2**36, "Less waste than this is left alone", size=True
    ),
    "auto-aof-rewrite-percentage": _number(50, 500, "The AOF is rewritten after this growth"),
    "auto-aof-rewrite-min-size": _number(
        16 * MIB, 2**36, "A smaller AOF is not rewritten", size=True
    ),
    "timeout": Rule(between(60, 86_400), _timeout_effect, needs_clients=True),
    "hash-max-listpack-entries": _number(64, LONGEST_LISTPACK, _LISTPACK),
    "hash-max-ziplist-entries": _number(64, LONGEST_LISTPACK, _LISTPACK),
    "zset-max-listpack-entries": _number(64, LONGEST_LISTPACK, _LISTPACK),
    "zset-max-ziplist-entries": _number(64, LONGEST_LISTPACK, _LISTPACK),
    "hash-max-listpack-value": _number(16, LONGEST_VALUE, _LISTPACK),
    "hash-max-ziplist-value": _number(16, LONGEST_VALUE, _LISTPACK),
    "zset-max-listpack-value": _number(16, LONGEST_VALUE, _LISTPACK),
    "zset-max-ziplist-value": _number(16, LONGEST_VALUE, _LISTPACK),
    "set-max-listpack-entries": _number(64, LONGEST_LISTPACK, _LISTPACK),
    "set-max-intset-entries": _number(128, LONGEST_LISTPACK, _LISTPACK),
    "lazyfree-lazy-expire": Rule(_YES_NO, _plain(_LAZY)),
    "lazyfree-lazy-eviction": Rule(_YES_NO, _plain(_LAZY)),
    "lazyfree-lazy-server-del": Rule(_YES_NO, _plain(_LAZY)),
    "lazyfree-lazy-user-del": Rule(_YES_NO, _plain(_LAZY)),
}
