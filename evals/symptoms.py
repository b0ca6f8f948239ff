"""Is the symptom gone? Judged by the harness's own look at the server, never by the agent's.

Each predicate says what is still wrong; an empty text: nothing. Pure, over two looks some seconds
apart and one from before the first remedy, so that rates are those of the running workload.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import redis

from evals.faults.workload import MIB

CALM = 0.85
"""Of the limit: the alerts `RedisMemoryHigh` fire above it."""
FEWER = 0.1
"""Of the rate before: what is left of an effect that has stopped, in the noise of a workload."""
FREE = 0.8
"""Of a limit, or of what there was: the rest is free again."""
LEFT = 0.6
"""Of what never expired, or of a key that grew: the writer goes on."""
DEAD = 0.75
"""Of the keys before: `expired_stale_perc` is a mean that takes minutes at hz 1 to be true."""
STALL = 10.0
"""Milliseconds: slowlog-log-slower-than, redis.conf."""
SAWTOOTH, SAWTOOTH_SECONDS = frozenset({"expired-backlog"}), 1.2
"""At hz 1, keys go once a second: what a single look sees depends on when it is taken."""
FEWEST_COMMANDS = 20
"""A second; the everyday workload of the fault lab sends 160."""


@dataclass(frozen=True)
class Look:
    """The server at one moment."""

    at: float
    """Seconds, of a clock that only goes on."""
    info: Mapping[str, Any]
    clients: list[dict[str, str]]
    config: Mapping[Any, Any]
    most_keys: int = 0
    """Highest DBSIZE in the `SAWTOOTH_SECONDS` before."""
    key_bytes: int = 0
    """Of the keys that did it."""
    busy: bool = False
    """It refused to say anything: a script runs."""


@dataclass(frozen=True)
class Watched:
    """Three looks, and who or what did it."""

    first: Look
    """Before the first remedy."""
    rate_before: Callable[[str], float]
    """Of a counter, a second, before the first remedy."""
    earlier: Look
    now: Look
    culprits: frozenset[str]
    memory_limit: int | None = None

    def rise(self, counter: Callable[[Look], int]) -> int:
        """How much a counter rose between the last two looks."""
        return counter(self.now) - counter(self.earlier)

    def rate(self, name: str) -> float:
        """Of an INFO counter, a second, between the last two looks."""
        seconds = max(0.1, self.now.at - self.earlier.at)
        return self.rise(lambda look: number(look, name)) / seconds


Symptom = Callable[[Watched], str]


def look(client: "redis.Redis", fault: str, keys: Iterable[str] = ()) -> Look:
    """INFO, CLIENT LIST, CONFIG GET, the size of these keys. Raises redis.RedisError."""
    most, end = 0, time.monotonic() + (SAWTOOTH_SECONDS if fault in SAWTOOTH else 0.0)
    while time.monotonic() < end:
        most = max(most, int(client.dbsize()))
        time.sleep(0.05)
    try:
        seen = client.info("everything"), client.client_list(), client.config_get("*")
        size = sum(int(client.memory_usage(key, samples=0) or 0) for key in keys)
    except redis.ResponseError as error:
        if "BUSY" not in str(error):
            raise
        return Look(time.monotonic(), {}, [], {}, busy=True)
    return Look(time.monotonic(), *seen, most, size)


def number(look: Look, name: str) -> int:
    """An INFO field; 0 where the build lacks it."""
    value = look.info.get(name, 0)
    return int(value) if isinstance(value, int | float) else 0


def errors(look: Look, name: str) -> int:
    """Errors of one kind the server answered with."""
    found = look.info.get(f"errorstat_{name}", {})
    return int(found.get("count", 0)) if isinstance(found, dict) else 0


def pressure(look: Look) -> float:
    """What counts against maxmemory, over maxmemory; 0 without a limit."""
    counted = number(look, "used_memory") - number(look, "mem_not_counted_for_evict")
    limit = number(look, "maxmemory")
    return counted / limit if limit else 0.0


def held(look: Look, culprits: frozenset[str]) -> int:
    """Bytes the server holds for clients of these names."""
    return sum(
        max(int(client.get(name, 0)) for name in ("omem", "qbuf", "tot-mem"))
        for client in look.clients
        if client.get("name") in culprits or client.get("addr") in culprits
    )


# -- predicates -----------------------------------------------------------------------------


def _calm(w: Watched) -> str:
    share = pressure(w.now)
    return "" if share < CALM else f"memory is at {share:.0%} of its limit"


def _writes_succeed(w: Watched) -> str:
    refused = w.rise(lambda one: errors(one, "OOM"))
    return f"{refused} writes were refused" if refused else ""


def _few_evictions(w: Watched) -> str:
    rate, before = w.rate("evicted_keys"), w.rate_before("evicted_keys")
    return "" if rate <= max(1.0, FEWER * before) else f"{rate:.0f} evictions a second"


def _let_go(w: Watched) -> str:
    still = held(w.now, w.culprits)
    return "" if still < MIB else f"{still / MIB:.1f} MiB are held for the client"


def _lives_on(w: Watched) -> str:
    rate = w.rate("total_commands_processed")
    return "" if rate >= FEWEST_COMMANDS else f"the workload sends only {rate:.0f} commands/s"


def _less(field: str, share: float, what: str) -> Symptom:
    def symptom(w: Watched) -> str:
        before, now = number(w.first, field), number(w.now, field)
        return "" if now <= share * before else f"{what}: {now:,}, before {before:,}"

    return symptom


def _limit_set(w: Watched) -> str:
    limit, used = number(w.now, "maxmemory"), number(w.now, "used_memory")
    allowed = w.memory_limit or number(w.now, "total_system_memory")
    if not limit:
        return "maxmemory is not set"
    return "" if used < limit < allowed else f"maxmemory {limit:,} of {allowed:,} bytes"


def _everlasting(look: Look) -> int:
    """Keys that never expire, over all databases."""
    bases = [found for name, found in look.info.items() if name.startswith("db")]
    return sum(int(base["keys"]) - int(base["expires"]) for base in bases if "expires" in base)


def _leak_expires(w: Watched) -> str:
    before, now = _everlasting(w.first), _everlasting(w.now)
    return "" if now <= LEFT * before else f"{now:,} keys never expire, {before:,} before"


def _replicas_up(w: Watched) -> str:
    was, now = number(w.first, "connected_slaves"), number(w.now, "connected_slaves")
    return "" if now >= was else f"{now} of {was} replicas are connected"


def _still(field: str, what: str) -> Symptom:
    """A counter that does not move any more."""

    def symptom(w: Watched) -> str:
        rose = w.rise(lambda look: number(look, field))
        return f"{rose} {what}" if rose else ""

    return symptom


def _resumes(w: Watched) -> str:
    """An interruption came and went, and ended in a partial synchronisation."""
    resumed = w.rise(lambda look: number(look, "sync_partial_ok"))
    return "" if resumed else "no interruption has ended in a partial synchronisation yet"


def _replica_online(w: Watched) -> str:
    found = w.now.info.get("slave0", {})
    state = found.get("state") if isinstance(found, dict) else None
    return "" if state == "online" else f"the replica is {state or 'not connected'}"


def _connections_free(w: Watched) -> str:
    limit = int(w.now.config["maxclients"])
    used = number(w.now, "connected_clients")
    return "" if used < FREE * limit else f"{used} of {limit} connections are in use"


def _below(field: str, limit: float, what: str) -> Symptom:
    def symptom(w: Watched) -> str:
        now = float(w.now.info.get(field, limit))
        return "" if now < limit else f"{what}: {now:g}"

    return symptom


def _replica_let_go(w: Watched) -> str:
    still = number(w.now, "mem_clients_slaves")
    return "" if still < MIB else f"{still / MIB:.1f} MiB wait for replicas"


def _few_scripts(w: Watched) -> str:
    found = (number(w.now, "number_of_cached_scripts"), number(w.first, "number_of_cached_scripts"))
    return "" if found[0] < FREE * found[1] else f"{found[0]} of {found[1]} scripts are cached"


def _key_let_go(w: Watched) -> str:
    was, now = w.first.key_bytes / MIB, w.now.key_bytes / MIB
    return "" if was and now <= LEFT * was else f"the key holds {now:.1f} MiB, {was:.1f} before"


def _answers(w: Watched) -> str:
    return "it still answers BUSY" if w.now.busy or w.earlier.busy else ""


def _saves_again(w: Watched) -> str:
    refused = w.rise(lambda one: errors(one, "MISCONF"))
    if w.now.info.get("rdb_last_bgsave_status") != "ok":
        return "the last snapshot failed"
    return f"{refused} writes met MISCONF" if refused else ""


def _freed_aside(w: Watched) -> str:
    """Large values still go, and their memory is freed beside the commands."""
    freed = w.rise(lambda look: number(look, "lazyfreed_objects"))
    return "" if freed else "nothing was freed in the background"


def _no_stalls(w: Watched) -> str:
    """Neither DEL nor the expiry of a key takes as long as makes the slow log."""
    found = [one.info.get("cmdstat_del", {}) for one in (w.earlier, w.now)]
    calls, spent = (int(found[1].get(n, 0)) - int(found[0].get(n, 0)) for n in ("calls", "usec"))
    each = spent / calls / 1_000 if calls else 0.0
    return "" if each < STALL else f"a DEL takes {each:.0f} ms"


def _dead_keys_go(w: Watched) -> str:
    """Most of what was kept was dead; what dies in a moment is never all gone, at any hz."""
    was, now = w.first.most_keys, w.now.most_keys
    return "" if now <= DEAD * was else f"{now:,} keys are held, dead ones too, {was:,} before"


def _scripts_found(w: Watched) -> str:
    missed = w.rise(lambda look: errors(look, "NOSCRIPT"))
    return f"{missed} calls met NOSCRIPT" if missed else ""


_MEMORY: tuple[Symptom, ...] = (_calm, _writes_succeed, _few_evictions)
_BUFFER: tuple[Symptom, ...] = (*_MEMORY, _let_go)

SYMPTOMS: dict[str, tuple[Symptom, ...]] = {
    "missing-ttl-prefix-leak": (*_MEMORY, _leak_expires),
    "slow-pubsub-cob": _BUFFER,
    "unread-reply-cob": _BUFFER,
    "query-buffer-bloat": _BUFFER,
    "monitor-left-on": _BUFFER,
    "oversized-backlog": (*_MEMORY, _replicas_up),
    "fragmentation-after-deletes": (
        _less("allocator_frag_bytes", 0.5, "bytes of fragmentation"),
        _less("used_memory_rss", 0.9, "resident bytes"),
    ),
    "single-bigkey": (*_MEMORY, _key_let_go),
    "stream-unbounded": (*_MEMORY, _key_let_go),
    "stream-pel-growth": (*_MEMORY, _key_let_go),
    "busy-script": (_answers,),
    "misconf-bgsave-fail": (_saves_again,),
    "noeviction-oom": _MEMORY,
    "volatile-policy-no-ttl": _MEMORY,
    "eviction-thrash": (_few_evictions, _writes_succeed),
    "maxmemory-unset": (_limit_set, _writes_succeed),
    "aof-rewrite-loop": (_still("total_forks", "forks"),),
    "bigkey-delete-stall": (_freed_aside, _no_stalls),
    "maxclients-leak": (_connections_free, _still("rejected_connections", "refused connections")),
    "full-sync-loop": (_still("sync_full", "full synchronisations"), _replica_online),
    "backlog-too-small": (_still("sync_full", "full synchronisations"), _resumes),
    "lua-script-cache": (_few_scripts, _scripts_found),
    "expired-backlog": (*_MEMORY, _dead_keys_go),
    "defrag-cpu-burn": (_below("active_defrag_running", 1.0, "defragmentation runs, per cent"),),
    "replica-output-buffer": (_replica_let_go, _writes_succeed),
}
"""By fault: all of these have to be silent. A fault that is not here cannot be mitigated by a
typed remedy, and is not run."""
BUILDS: dict[str, tuple[str, ...]] = {
    # Only this build can move allocations: 6.2 and 7.0 of this lab were built without, and say so.
    "fragmentation-after-deletes": ("redis-8.2",),
}
"""Where a mode can be mitigated, if not on every build that can have it."""


PATIENCE: dict[str, float] = {
    # Its job takes up to 25 s for the next large set that it lets go.
    "bigkey-delete-stall": 30.0,
}
"""Seconds an applied remedy may take to show, if not `SETTLE_SECONDS`."""


def remaining(fault: str, watched: Watched) -> list[str]:
    """What is still wrong, in words; empty: mitigated."""
    said = (symptom(watched) for symptom in (*SYMPTOMS[fault], _lives_on))
    return [words for words in said if words]
