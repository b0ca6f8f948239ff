"""Signals: thresholds with their floors, and silence that is never health."""

from collections.abc import Sequence

import pytest

from agent.signals import SIGNALS, Seen, Signal, detect
from tests.agent.readings import (
    MIB,
    UNSEEN,
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
    refused,
    replication,
    stats,
    stream,
    streams,
)
from tools.latency import LatencyEvent, LatencyEvents
from tools.modules import ModuleRow, Modules
from tools.reading import NotMeasured, Reading
from tools.replication import ReplicaRow
from tools.scripts import Scripts


def seen_of(*readings: Reading) -> Seen:
    return Seen(evidence(*readings))


def fires(name: str, *readings: Reading) -> bool:
    return isinstance(SIGNALS[name](seen_of(*readings)), Signal)


def leak(share: float, without_ttl: float, keys: int, size: int) -> Reading:
    return bigkeys([], [prefix("s:", keys, size, share, without_ttl)], keys)


def dirty(ratio: float, wasted: int) -> Reading:
    return memory(
        100 * MIB,
        allocator_frag_ratio=ratio,
        allocator_frag_bytes=wasted,
        used_memory_rss=120 * MIB,
    )


def event(name: str, age: int, longest: int) -> LatencyEvents:
    row = LatencyEvent(
        event=name, last_at=1, age_seconds=age, latest_milliseconds=1, longest_milliseconds=longest
    )
    return LatencyEvents(threshold_milliseconds=1, events=[row])


Case = tuple[str, Sequence[Reading], Sequence[Reading]]
FULL = memory(99 * MIB, 100 * MIB)
HALF = memory(50 * MIB, 100 * MIB)


def growing(**given: float) -> Reading:
    return stats(
        used_memory_first=50 * MIB,
        used_memory_last=55 * MIB,
        used_memory_per_second=1.0 * MIB,
        **given,
    )


def big_hash(idle: int) -> Reading:
    return bigkeys([key("h", "hash", 30 * MIB, idle_seconds=idle)])


# name, what fires it, what looks like it and does not
TABLE: tuple[Case, ...] = (
    ("memory_pressure", [memory(75 * MIB, 100 * MIB)], [memory(74 * MIB, 100 * MIB)]),
    # Raw memory is full; what counts is not.
    (
        "memory_pressure",
        [memory(80 * MIB, 100 * MIB)],
        [memory(99 * MIB, 100 * MIB, mem_not_counted_for_evict=40 * MIB)],
    ),
    ("memory_full", [FULL], [memory(99 * MIB, host=100 * MIB)]),
    ("low_pressure", [memory(9 * MIB, 100 * MIB)], [memory(9 * MIB)]),
    ("maxmemory_is_unset", [memory(MIB)], [HALF]),
    (
        "rss_near_memory_limit",
        [memory(80 * MIB, host=100 * MIB, limit_source="configured memory limit")],
        [FULL],
    ),
    (
        "memory_grows",
        [
            HALF,
            stats(
                used_memory_first=50 * MIB,
                used_memory_last=55 * MIB,
                used_memory_per_second=1.0 * MIB,
            ),
        ],
        # Our own looks move used_memory a little.
        [
            HALF,
            stats(
                used_memory_first=50 * MIB,
                used_memory_last=50 * MIB + 90_000,
                used_memory_per_second=90_000.0,
            ),
        ],
    ),
    ("heap_fragmented", [dirty(1.9, 60 * MIB)], [dirty(13.4, 5 * MIB)]),
    ("heap_fragmented", [dirty(1.6, 101 * MIB)], [dirty(1.4, 101 * MIB)]),
    (
        "tiny_heap_looks_fragmented",
        [memory(MIB, mem_fragmentation_ratio=13.4)],
        [memory(100 * MIB, mem_fragmentation_ratio=13.4)],
    ),
    (
        "clients_hold_memory",
        [memory(50 * MIB, mem_clients_normal=20 * MIB)],
        [memory(5 * MIB, mem_clients_normal=4 * MIB)],
    ),
    (
        "key_dominates",
        [memory(50 * MIB), bigkeys([key("k", "hash", 10 * MIB)])],
        [memory(2 * MIB), bigkeys([key("k", "hash", 900_000)])],
    ),
    ("key_dominates", [memory(4 * MIB), bigkeys([key("k", "zset", 2 * MIB)])],
     [memory(4 * MIB), bigkeys([key("k", "stream", 2 * MIB)])]),
    (
        "prefix_never_expires",
        [memory(50 * MIB), leak(1.0, 0.95, 90_000, 30 * MIB)],
        [memory(50 * MIB), leak(1.0, 0.4, 90_000, 30 * MIB)],
    ),
    # It fills the dataset, but the dataset is the smaller part: buffers pushed it out.
    (
        "prefix_never_expires",
        [memory(50 * MIB), leak(1.0, 1.0, 90_000, 30 * MIB)],
        [memory(90 * MIB), leak(1.0, 1.0, 90_000, 30 * MIB)],
    ),
    (
        "tiny_values",
        [bigkeys([], [prefix("f:", 900_000, 80 * MIB, 1.0, 1.0)], 900_000, mean_value_bytes=9.0,
                 mean_key_bytes=90.0)],
        [bigkeys([], [prefix("f:", 900_000, 80 * MIB, 1.0, 1.0)], 900_000, mean_value_bytes=200.0,
                 mean_key_bytes=280.0)],
    ),
    (
        "tiny_values",  # lengths could not be read: what bounds them is enough
        [bigkeys([], [prefix("f:", 900_000, 60 * MIB, 1.0, 1.0)], 900_000, mean_value_bytes=UNSEEN,
                 mean_value_bytes_at_most=52.0, mean_key_bytes=64.0)],
        [bigkeys([], [prefix("f:", 900_000, 60 * MIB, 1.0, 1.0)], 900_000, mean_value_bytes=UNSEEN,
                 mean_value_bytes_at_most=250.0, mean_key_bytes=262.0)],
    ),
    (
        "one_thing_fills_memory",
        [memory(50 * MIB), bigkeys([key("k", "hash", 40 * MIB)])],
        [memory(50 * MIB, 900 * MIB), bigkeys([key("k", "hash", 40 * MIB)])],
    ),
    (
        "one_thing_fills_memory",
        [memory(50 * MIB), leak(1.0, 1.0, 90_000, 40 * MIB)],
        [memory(4 * MIB), leak(1.0, 1.0, 9_000, 3 * MIB)],
    ),
    (
        "stream_dominates",
        [memory(50 * MIB), bigkeys([key("s", "stream", 30 * MIB)])],
        [memory(50 * MIB), bigkeys([key("s", "stream", 900_000)])],
    ),
    (
        "pending_dominates",
        [memory(50 * MIB), streams(stream("s", 30 * MIB, 10, 200_000))],
        [memory(50 * MIB), streams(stream("s", 30 * MIB, 200_000, 900))],
    ),
    (
        "deliveries_not_acknowledged",
        [commands(xadd=30.0, xreadgroup=30.0)],
        # An idle worker polls; nothing is produced, so nothing has to be acknowledged.
        [commands(xadd=0.0, xreadgroup=1.0)],
    ),
    (
        "deliveries_not_acknowledged",
        [commands(xadd=30.0, xreadgroup=30.0, xack=1.0)],
        [commands(xadd=30.0, xreadgroup=3.0, xack=3.0)],
    ),
    (
        "subscriber_unread",
        [memory(50 * MIB), clients(client("a", "pubsub", output_bytes=9 * MIB))],
        [memory(50 * MIB), clients(client("a", "normal", output_bytes=9 * MIB))],
    ),
    (
        "replies_unread",
        [memory(9 * MIB), clients(client("a", output_bytes=2 * MIB))],
        [memory(90 * MIB), clients(client("a", output_bytes=2 * MIB))],
    ),
    (
        "replica_buffers_large",
        [memory(99 * MIB, mem_clients_slaves=60 * MIB, mem_not_counted_for_evict=60 * MIB)],
        [memory(99 * MIB, mem_clients_slaves=60 * MIB)],
    ),
    (
        "replica_lags",
        [replication(blank(ReplicaRow, address="r", lag_bytes=80 * MIB))],
        [replication(blank(ReplicaRow, address="r", lag_bytes=9_000, lag_seconds=1))],
    ),
    (
        "backlog_takes_limit",
        [memory(90 * MIB, 100 * MIB, mem_replication_backlog=60 * MIB)],
        # Valkey's default backlog on a small server.
        [memory(20 * MIB, 30 * MIB, mem_replication_backlog=10 * MIB)],
    ),
    ("oom_errors", [HALF, errors(("OOM", 3, 0.6))], [HALF, errors(("OOM", 300, 0.0))]),
    ("oom_errors", [FULL, errors(("OOM", 300, 0.0))], [FULL, errors()]),
    (
        "volatile_policy_without_ttl",
        [memory(MIB, maxmemory_policy="volatile-lru"), keyspace(900, 0)],
        [memory(MIB, maxmemory_policy="volatile-lru"), keyspace(900, 200)],
    ),
    (
        "evicts_as_fast_as_it_writes",
        [stats(evicted_keys_per_second=900.0, keyspace_misses_per_second=800.0),
         commands(1_000.0, 900.0)],
        [stats(evicted_keys_per_second=900.0, keyspace_misses_per_second=8.0),
         commands(1_000.0, 900.0)],
    ),
    (
        # Our own scan counts as thousands of hits; the application's reads miss.
        "hit_ratio_low",
        [stats(keyspace_hits_per_second=9_000.0, keyspace_misses_per_second=90.0, hit_ratio=0.99),
         commands(0.0, 100.0, pttl=4_000.0, type=4_000.0)],
        [stats(keyspace_hits_per_second=9_000.0, keyspace_misses_per_second=2.0, hit_ratio=0.99),
         commands(0.0, 100.0, pttl=4_000.0, type=4_000.0)],
    ),
    ("eviction_stalls", [event("eviction-cycle", 9, 90)], [event("eviction-cycle", 9_000, 90)]),
    ("defrag_stalls", [event("active-defrag-cycle", 9, 90)], [event("command", 9, 90)]),
    (
        "child_copies_memory",
        [memory(60 * MIB), persistence(rdb_bgsave_in_progress=1, current_cow_size=40 * MIB)],
        [memory(60 * MIB), persistence(current_cow_size=40 * MIB)],
    ),
    (
        "copy_finished",
        [memory(60 * MIB), persistence(aof_last_cow_size=40 * MIB)],
        [memory(60 * MIB), persistence(rdb_last_cow_size=2 * MIB)],
    ),
    (
        "fsync_every_write",
        [persistence(aof_enabled=1), config(appendfsync="always")],
        [persistence(aof_enabled=0), config(appendfsync="always")],
    ),
    (
        "expired_keys_pile_up",
        [stats(expired_stale_perc=12.7, expired_keys_per_second=400.0), config(hz="1")],
        [stats(expired_stale_perc=12.7, expired_keys_per_second=0.1), config(hz="1")],
    ),
    (  # short-lived keys pass the server's estimate at any hz: they have to hold memory
        "expired_keys_pile_up",
        [stats(expired_stale_perc=40.0, expired_keys_per_second=400.0), config(hz="10"),
         memory(50 * MIB), keyspace(100_000, 90_000),
         bigkeys([], keys=100_000, bytes_seen=40 * MIB)],
        [stats(expired_stale_perc=20.0, expired_keys_per_second=700.0), config(hz="10"),
         memory(50 * MIB), keyspace(9_000, 8_000), bigkeys([], keys=9_000, bytes_seen=4 * MIB)],
    ),
    (  # one huge key does not make the others large
        "expired_keys_pile_up",
        [stats(expired_stale_perc=40.0, expired_keys_per_second=400.0), config(hz="10"),
         memory(50 * MIB), keyspace(100_000, 90_000),
         bigkeys([], keys=99_000, bytes_seen=40 * MIB)],
        [stats(expired_stale_perc=40.0, expired_keys_per_second=400.0), config(hz="10"),
         memory(50 * MIB), keyspace(3_000, 3_000),
         bigkeys([key("blob", "string", 40 * MIB)], keys=3_000, bytes_seen=41 * MIB)],
    ),
    (  # the walk met fewer keys than the server counts
        "expired_keys_pile_up",
        [stats(expired_stale_perc=0.0, expired_keys_per_second=18_000.0, seconds=5.0),
         memory(50 * MIB),
         bigkeys([], keys=10_000, keys_total=100_000, bytes_seen=3 * MIB)],
        [stats(expired_stale_perc=0.0, expired_keys_per_second=100.0, seconds=5.0),
         memory(50 * MIB),
         bigkeys([], keys=10_000, keys_total=100_000, bytes_seen=3 * MIB)],
    ),
    (  # three hundred idle clients are no fault
        "clients_hold_memory",
        [memory(14 * MIB, mem_clients_normal=9 * MIB), clients(connected=5)],
        [memory(14 * MIB, mem_clients_normal=9 * MIB), clients(connected=300)],
    ),
    ("cpu_saturated", [stats(cpu_cores=0.97)], [stats(cpu_cores=0.5)]),
    (
        "forks_again_and_again",
        [stats(total_forks=9, uptime_in_seconds=40, total_forks_per_second=0.4)],
        [stats(total_forks=9, uptime_in_seconds=540, total_forks_per_second=0.2)],
    ),
    (
        "keys_without_expiry_accumulate",
        [HALF, growing(keys_without_expiry_per_second=90.0)],
        [HALF, growing(keys_without_expiry_per_second=0.0)],
    ),
    (
        "largest_key_grows",
        [HALF, growing(), commands(hset=9.0), big_hash(0)],
        [HALF, growing(), commands(hset=9.0), big_hash(60)],
    ),
    (
        "largest_key_grows",
        [HALF, growing(), commands(hset=9.0), big_hash(0)],
        [HALF, growing(), commands(hset=0.0), big_hash(0)],
    ),
    ("hz_is_low", [config(hz="1")], [config(hz="10")]),
    (
        "scripts_pile_up",
        [blank(Scripts, number_of_cached_scripts=9_000, used_memory_vm_eval=9 * MIB)],
        [blank(Scripts, number_of_cached_scripts=9_000, used_memory_vm_eval=90_000)],
    ),
    ("modules_loaded", [Modules(modules=[ModuleRow(name="x", version=1)])], [Modules(modules=[])]),
    ("errors_rising", [errors(("MISCONF", 9, 3.0))], [errors(("MISCONF", 9, 0.0))]),
    ("errors_rising", [errors(("MISCONF", 9, 3.0))], [errors(("NOPERM", 900, 90.0))]),
    ("monitor_attached", [clients(client("m", "monitor"))], [clients(client("m"))]),
    ("overhead_exceeds_data", [memory_stats(dataset_percentage=44.0)], [memory_stats()]),
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "there", "not_there"), TABLE, ids=[f"{n}-{c[0]}" for n, c in enumerate(TABLE)]
)
def test_threshold(name: str, there: Sequence[Reading], not_there: Sequence[Reading]) -> None:
    assert fires(name, *there)
    assert not fires(name, *not_there)


def test_nothing_looked_at_is_not_measured_and_never_absent() -> None:
    signals = detect([])
    assert not signals.fired
    assert not signals.absent
    assert set(signals.not_measured) == set(SIGNALS)


def test_a_refused_tool_says_why() -> None:
    why = detect(refused("clients")).not_measured["monitor_attached"]
    assert (why.failure, why.because) == ("refused", "NOPERM")


def test_libc_hides_fragmentation() -> None:
    outcome = SIGNALS["heap_fragmented"](seen_of(memory(90 * MIB, mem_allocator="libc")))
    assert isinstance(outcome, NotMeasured)
    assert "libc" in outcome.because


def test_a_stream_that_could_not_be_read_is_not_measured() -> None:
    unread = [{"key": "s", "bytes": 80 * MIB, "because": "it would reset OBJECT IDLETIME"}]
    look = streams().model_copy(update={"unread": unread})
    for name in ("pending_dominates", "stream_is_consumed", "stream_grows"):
        outcome = SIGNALS[name](seen_of(memory(99 * MIB), type(look).model_validate(dict(look))))
        assert isinstance(outcome, NotMeasured), name


def test_a_narrow_second_look_does_not_hide_the_first() -> None:
    whole = bigkeys([key("k", "hash", 40 * MIB)], keys=90)
    narrow = bigkeys([], keys=2)
    assert fires("key_dominates", memory(50 * MIB), whole, narrow)


def test_a_later_failure_does_not_hide_what_was_measured() -> None:
    pieces = [*evidence(memory(99 * MIB, 100 * MIB)), *refused("memory_info")]
    assert "memory_full" in detect(pieces).fired


def test_keys_of_other_databases_are_not_absent() -> None:
    seen = seen_of(memory(50 * MIB), bigkeys([], keys=0), keyspace(90_000, 0))
    for name in ("key_dominates", "prefix_never_expires", "stream_dominates", "no_outlier"):
        assert isinstance(SIGNALS[name](seen), NotMeasured), name


def test_a_sample_tells_prefixes_and_not_the_largest_key() -> None:
    rows = [prefix("s:", 20_000, 6 * MIB, 1.0, 0.0)]
    part = bigkeys([key("s:1", "string", 300)], rows, 20_000, keys_total=90_000, complete=False)
    seen = seen_of(memory(50 * MIB), part)
    assert isinstance(SIGNALS["key_dominates"](seen), NotMeasured)
    assert SIGNALS["prefix_never_expires"](seen) is None


def test_evidence_of_an_unknown_shape_or_tool_is_not_measured() -> None:
    (piece,) = evidence(memory(MIB))
    strange = piece.model_copy(update={"reading": {"of": "another version"}})
    other = piece.model_copy(update={"tool": "of a later version"})
    assert "memory_pressure" in detect([strange, other]).not_measured
