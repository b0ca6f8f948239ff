"""Incidents in typed readings, and what the rules should make of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from agent.incident import Culprit
from tests.agent.readings import (
    MIB,
    bigkeys,
    blank,
    client,
    clients,
    commands,
    config,
    errors,
    evidence,
    key,
    keyspace,
    memory,
    memory_stats,
    persistence,
    prefix,
    replication,
    stats,
    stream,
    streams,
)
from tools.latency import LatencyEvent, LatencyEvents
from tools.modules import ModuleRow, Modules
from tools.reading import Evidence, Reading
from tools.replication import ReplicaRow
from tools.scripts import Scripts
from tools.streams import Streams, UnreadStream


def quiet(*instead: Reading) -> list[Evidence]:
    """A healthy server of 50 of 200 MiB, with some readings replaced."""
    healthy: tuple[Reading, ...] = (
        memory(50 * MIB, 200 * MIB),
        memory_stats(),
        stats(),
        keyspace(50_000, 40_000),
        bigkeys(
            [key("cart:17", "hash", 40_000)],
            [
                prefix("page:", 40_000, 30 * MIB, 0.75, 0.0),
                prefix("user:", 9_000, 10 * MIB, 0.25, 1),
            ],
        ),
        clients(),
        errors(),
        commands(10.0, 100.0),
        replication(),
        persistence(),
        config(),
        streams(),
    )
    kinds = {type(reading) for reading in instead}
    return evidence(*instead, *(r for r in healthy if type(r) not in kinds))


TINY = memory(MIB, mem_fragmentation_ratio=13.4)
NO_KEYS = bigkeys([], keys=0)
FULL = memory(99 * MIB, 100 * MIB)
OOM = errors(("OOM", 400, 12.0))
SESSIONS = bigkeys(
    [key("session:1", "string", 400)],
    [prefix("session:", 200_000, 85 * MIB, 0.95, 1.0), prefix("cart:", 500, 2 * MIB, 0.02, 0.0)],
    200_000,
)
GIANT = bigkeys([key("feed:all", "hash", 80 * MIB, 600_000), key("x", "string", 90)], keys=5)
EVENTS = bigkeys([key("events", "stream", 80 * MIB, 400_000)], keys=3)


@dataclass(frozen=True)
class Story:
    name: str
    seen: Sequence[Reading]
    cause: str
    culprit: Culprit = field(default_factory=Culprit)
    contributing: tuple[str, ...] = ()
    text: str = ""
    sure: float = 0.6


def who(kind: Any, name: str) -> Culprit:
    return Culprit(kind=kind, name=name)


STORIES = (
    Story("nothing is wrong", [], "no-incident", sure=0.8),
    Story("nothing is wrong, and somebody asks", [], "no-incident", text="memory high?", sure=0.8),
    Story(
        "a server without keys",
        [memory(MIB), keyspace(0, 0), bigkeys([], keys=0)],
        "no-incident",
        sure=0.8,
    ),
    Story(
        "a datastore: no key expires, and there is room",
        [keyspace(50_000, 0), bigkeys([], [prefix("user:", 50_000, 40 * MIB, 1, 1)])],
        "no-incident",
        sure=0.5,
    ),
    Story("a harmless big key", [memory(50 * MIB, 1024 * MIB), GIANT], "no-incident", sure=0.5),
    Story(
        "sessions without expiry, writes refused",
        [FULL, OOM, SESSIONS, keyspace(200_000, 500)],
        "missing-ttl-prefix-leak",
        who("prefix", "session:"),
        ("noeviction-oom",),
        sure=0.85,
    ),
    Story(
        "sessions without expiry, no limit at all",
        [memory(99 * MIB), SESSIONS, keyspace(200_000, 500)],
        "missing-ttl-prefix-leak",
        who("prefix", "session:"),
        sure=0.7,
    ),
    Story(
        "sessions without expiry, and only keys with one may go",
        [memory(99 * MIB, 100 * MIB, maxmemory_policy="volatile-lru"), OOM, SESSIONS,
         keyspace(200_000, 500)],
        "missing-ttl-prefix-leak",
        who("prefix", "session:"),
        ("volatile-policy-no-ttl",),
        sure=0.85,
    ),
    Story(
        "one hash takes it all", [FULL, GIANT], "single-bigkey", who("key", "feed:all"),
        ("noeviction-oom",), sure=0.85,
    ),
    Story(
        "one hash takes it all, no limit", [memory(99 * MIB), GIANT], "single-bigkey",
        who("key", "feed:all"), sure=0.7,
    ),
    Story(
        "a hundred million tiny strings",
        [
            FULL,
            memory_stats(dataset_percentage=44.0, overhead_total=50 * MIB),
            bigkeys([], [prefix("f:", 900_000, 80 * MIB, 0.9, 1.0)], 900_000, mean_value_bytes=9.0,
                    mean_key_bytes=90.0),
            keyspace(900_000, 0),
        ],
        "small-string-overhead",
        contributing=("noeviction-oom",),
    ),
    Story(
        "a limit of the compact encodings was lowered",
        [
            memory(80 * MIB, 100 * MIB),
            config(hash_max_listpack_entries="10"),
            bigkeys([key(f"u:{n}", "hash", 3_000, 50, encoding="hashtable") for n in range(60)],
                    keys=20_000, types=[{"type": "hash", "keys": 20_000, "bytes": 60 * MIB,
                                         "share_of_bytes": 1.0}]),
        ],
        "encoding-conversion",
        who("config", "hash-max-listpack-entries"),
        sure=0.8,
    ),
    Story(
        "a stream without limit", [FULL, EVENTS, streams(stream("events", 80 * MIB, 400_000))],
        "stream-unbounded", who("stream", "events"), ("noeviction-oom",), sure=0.85,
    ),
    Story(
        "a stream nobody may look into, whose consumers never acknowledge",
        [FULL, EVENTS, commands(xadd=30.0, xreadgroup=30.0),
         blank(Streams, unread=[UnreadStream(key="events", bytes=80 * MIB, because="idle time")])],
        "stream-pel-growth", who("stream", "events"), ("noeviction-oom",), sure=0.5,
    ),
    Story(
        "a stream nobody may look into, whose consumers do",
        [FULL, EVENTS, commands(xadd=30.0, xreadgroup=30.0, xack=29.0),
         blank(Streams, unread=[UnreadStream(key="events", bytes=80 * MIB, because="idle time")])],
        "stream-unbounded", who("stream", "events"), ("noeviction-oom",), sure=0.6,
    ),
    Story(
        "a stream without limit, no maxmemory",
        [memory(99 * MIB), EVENTS, streams(stream("events", 80 * MIB, 400_000))],
        "stream-unbounded", who("stream", "events"), sure=0.7,
    ),
    Story(
        "a stream whose consumer never acknowledges",
        [FULL, EVENTS, streams(stream("events", 80 * MIB, 400_000, 390_000, 900.0))],
        "stream-pel-growth", who("stream", "events"), ("noeviction-oom",), sure=0.85,
    ),
    Story(
        "a trimmed stream that keeps what nobody acknowledged",
        [FULL, EVENTS, streams(stream("events", 80 * MIB, 1_000, 390_000, 900.0))],
        "stream-pel-growth", who("stream", "events"), ("noeviction-oom",), sure=0.85,
    ),
    Story(
        "a subscriber does not read, the keys are gone",
        [memory(60 * MIB, 64 * MIB, mem_clients_normal=55 * MIB, maxmemory_policy="allkeys-lru"),
         clients(client("ticker", "pubsub", output_bytes=55 * MIB, memory=55 * MIB)),
         bigkeys([], keys=0), keyspace(0, 0)],
        "slow-pubsub-cob", who("client", "ticker"), sure=0.85,
    ),
    Story(
        "a subscriber's buffer exceeds used_memory, as on Valkey",
        [bigkeys([], keys=0), memory(5 * MIB, mem_clients_normal=17 * MIB),
         clients(client("ticker", "pubsub", output_bytes=17 * MIB))],
        "slow-pubsub-cob", who("client", "ticker"), sure=0.8,
    ),
    Story(
        "MONITOR runs since yesterday",
        [clients(client("10.0.0.9:4711", "monitor", age_seconds=90_000))],
        "monitor-left-on", who("client", "10.0.0.9:4711"), sure=0.8,
    ),
    Story(
        "replies nobody reads", [memory(90 * MIB, 100 * MIB, mem_clients_normal=58 * MIB),
                                 clients(client("export", output_bytes=58 * MIB))],
        "unread-reply-cob", who("client", "export"), sure=0.85,
    ),
    Story(
        "half a request", [memory(90 * MIB, 100 * MIB, mem_clients_normal=67 * MIB),
                           clients(client("loader", input_bytes=67 * MIB))],
        "query-buffer-bloat", who("client", "loader"), sure=0.85,
    ),
    Story(
        "a replica stands still: raw memory is high, what counts is not",
        [memory(90 * MIB, 100 * MIB, mem_not_counted_for_evict=79 * MIB,
                mem_clients_slaves=79 * MIB),
         replication(blank(ReplicaRow, address="10.0.0.7:6379", lag_bytes=79 * MIB))],
        "replica-output-buffer", who("replica", "10.0.0.7:6379"), text="RedisMemoryHigh",
        sure=0.85,
    ),
    Story(
        "a huge backlog", [memory(90 * MIB, 100 * MIB, mem_replication_backlog=60 * MIB)],
        "oversized-backlog", who("config", "repl-backlog-size"), sure=0.8,
    ),
    Story(
        "holes after a purge",
        [memory(23 * MIB, used_memory_rss=107 * MIB, used_memory_peak=100 * MIB,
                allocator_frag_ratio=4.1, allocator_frag_bytes=75 * MIB)],
        "fragmentation-after-deletes", sure=0.8,
    ),
    Story(
        "pages not returned",
        [memory(30 * MIB, used_memory_peak=400 * MIB, allocator_rss_ratio=6.0,
                allocator_rss_bytes=160 * MIB, used_memory_rss=190 * MIB)],
        "rss-not-returned-after-peak", text="RedisRssHigh", sure=0.8,
    ),
    Story(
        "pages of a peak are on their way back, and nobody asked about memory",
        [memory(30 * MIB, used_memory_peak=400 * MIB, allocator_rss_ratio=6.0,
                allocator_rss_bytes=160 * MIB, used_memory_rss=190 * MIB)],
        "no-incident", text="RedisLatencyHigh", sure=0.8,
    ),
    Story(
        "defragmentation burns CPU",
        [memory(60 * MIB, active_defrag_running=40), config(active_defrag_ignore_bytes="1048576"),
         LatencyEvents(threshold_milliseconds=1, events=[
             LatencyEvent(event="active-defrag-cycle", last_at=1, age_seconds=3,
                          latest_milliseconds=80, longest_milliseconds=90)])],
        "defrag-cpu-burn", who("config", "activedefrag"), sure=0.8,
    ),
    Story(
        "a snapshot copies everything",
        [memory(60 * MIB, 200 * MIB),
         persistence(rdb_bgsave_in_progress=1, current_cow_size=58 * MIB)],
        "fork-cow-memory",
    ),
    Story(
        "a new script for every call",
        [blank(Scripts, number_of_cached_scripts=30_000, used_memory_vm_eval=11 * MIB)],
        "lua-script-cache", sure=0.85,
    ),
    Story(
        "a module's index",
        [memory(90 * MIB, 100 * MIB), Modules(modules=[ModuleRow(name="search", version=1)]),
         bigkeys([key("doc:1", "hash", 900)], [prefix("doc:", 20_000, 9 * MIB, 1.0, 1.0)],
                 dataset_bytes=80 * MIB)],
        "module-memory", sure=0.7,
    ),
    Story(
        "expired keys pile up",
        [config(hz="1"), stats(expired_stale_perc=24.0, expired_keys_per_second=900.0,
                               expired_time_cap_reached_count=9)],
        "expired-backlog", who("config", "hz"), sure=0.85,
    ),
    Story(
        "more of everything",
        [memory(90 * MIB, 100 * MIB), stats(used_memory_last=52 * MIB,
                                            used_memory_per_second=400_000.0)],
        "organic-growth", sure=0.7,
    ),
    Story(
        "full, evicts nothing, nothing stands out",
        [FULL, OOM, keyspace(50_000, 0),
         bigkeys([key("a", "hash", 4_000)],
                 [prefix(f"p{n}:", 9_000, 9 * MIB, 0.1, 1.0) for n in range(10)])],
        "noeviction-oom", sure=0.8,
    ),
    Story(
        "may evict only what expires, and nothing does",
        [memory(99 * MIB, 100 * MIB, maxmemory_policy="volatile-ttl"), OOM, keyspace(50_000, 0),
         bigkeys([key("a", "hash", 4_000)],
                 [prefix(f"p{n}:", 9_000, 9 * MIB, 0.1, 1.0) for n in range(10)])],
        "volatile-policy-no-ttl", sure=0.8,
    ),
    Story(
        "a cache much too small",
        [memory(99 * MIB, 100 * MIB, maxmemory_policy="allkeys-lru"), commands(4_000.0, 4_000.0),
         stats(evicted_keys_per_second=3_900.0, hit_ratio=0.1, keyspace_hits_per_second=400.0,
               keyspace_misses_per_second=3_600.0)],
        "eviction-thrash", sure=0.8,
    ),
    Story(
        "no maxmemory, and the container is nearly full",
        [memory(80 * MIB, host=100 * MIB, limit_source="configured memory limit"),
         bigkeys([key("a", "hash", 4_000)],
                 [prefix(f"p{n}:", 9_000, 8 * MIB, 0.1, 0.7) for n in range(10)]),
         keyspace(90_000, 27_000)],
        "maxmemory-unset", sure=0.8,
    ),
    Story(
        "a full cache that hits",
        [memory(99 * MIB, 100 * MIB, maxmemory_policy="allkeys-lfu"), commands(40.0, 4_000.0),
         stats(evicted_keys_per_second=9.0, hit_ratio=0.97, keyspace_hits_per_second=3_900.0,
               keyspace_misses_per_second=100.0)],
        "cache-full-by-design", text="RedisMemoryHigh", sure=0.8,
    ),
    Story(
        "a full cache at rest, all keys of one prefix",
        [memory(99 * MIB, 100 * MIB, maxmemory_policy="allkeys-lru"), SESSIONS,
         keyspace(200_000, 0)],
        "cache-full-by-design", sure=0.5,
    ),
    Story(
        "fragmentation of nothing", [TINY, NO_KEYS],
        "wrong-threshold-false-alarm", text="RedisMemoryFragmentationHigh", sure=0.5,
    ),
    Story(
        "the same ratio, and nobody asked", [TINY, NO_KEYS],
        "no-incident",
    ),
    Story(
        "raw memory alarms, what counts is low, no replica lags",
        [memory(90 * MIB, 100 * MIB, mem_not_counted_for_evict=60 * MIB)],
        "wrong-threshold-false-alarm", text="memory above 85 %", sure=0.5,
    ),
    Story(
        "a snapshot is over",
        [memory(60 * MIB, 200 * MIB), persistence(rdb_last_cow_size=40 * MIB)],
        "transient-fork-spike", text="container memory spike", sure=0.5,
    ),
    Story(
        "snapshots fail, and writes are refused",
        [persistence(rdb_last_bgsave_status="err"), errors(("MISCONF", 90, 8.0))],
        "misconf-bgsave-fail", sure=0.5,
    ),
    Story(
        "pressure without any explanation",
        [memory(90 * MIB, 100 * MIB, maxmemory_policy="volatile-lru"),
         keyspace(50_000, 5_000),
         bigkeys([key("a", "hash", 4_000)],
                 [prefix(f"p{n}:", 9_000, 9 * MIB, 0.1, 0.9) for n in range(10)])],
        "unknown", sure=0.2,
    ),
)  # fmt: skip
