"""From evidence to named signals: pure functions, an explicit catalogue."""

from collections.abc import Sequence

from agent.signals import (
    access,
    clients,
    cluster,
    disk,
    encodings,
    filling,
    host,
    keys,
    latency,
    limits,
    links,
    memory,
    persistence,
    replication,
    streams,
    symptoms,
    upkeep,
)
from agent.signals.seen import Outcome, Role, Seen, Signal, Signals, SignalSpec
from tools.reading import Evidence, NotMeasured

__all__ = ["SIGNALS", "Outcome", "Role", "Seen", "Signal", "SignalSpec", "Signals", "detect"]

_ALL: tuple[SignalSpec, ...] = (
    memory.memory_pressure,
    memory.memory_full,
    memory.low_pressure,
    memory.raw_memory_above_counted,
    memory.maxmemory_is_unset,
    memory.rss_near_memory_limit,
    memory.memory_grows,
    memory.heap_fragmented,
    memory.freed_pages_kept,
    memory.peak_far_above_use,
    memory.tiny_heap_looks_fragmented,
    memory.clients_hold_memory,
    memory.overhead_exceeds_data,
    keys.key_dominates,
    keys.prefix_never_expires,
    keys.prefix_is_idle,
    keys.few_keys_expire,
    keys.keys_expire_normally,
    keys.keys_accumulate,
    filling.keys_without_expiry_accumulate,
    filling.largest_key_grows,
    keys.tiny_values,
    filling.tiny_strings_fill_memory,
    keys.no_outlier,
    keys.keys_do_not_explain_dataset,
    filling.one_thing_dominates,
    filling.one_thing_fills_memory,
    encodings.small_collections_use_tables,
    encodings.compact_limit_lowered,
    streams.stream_dominates,
    streams.stream_grows,
    streams.stream_fills_memory,
    streams.stream_is_consumed,
    streams.pending_dominates,
    streams.pending_is_old,
    streams.deliveries_not_acknowledged,
    clients.subscriber_unread,
    clients.replies_unread,
    clients.input_buffer_large,
    clients.monitor_attached,
    clients.connections_rejected,
    replication.replica_buffers_large,
    replication.replica_lags,
    replication.backlog_takes_limit,
    links.replication_link_down,
    links.writes_meet_a_replica,
    links.full_syncs_repeat,
    links.partial_syncs_fail,
    links.backlog_is_short,
    links.replica_limit_is_short,
    links.replica_mid_sync,
    links.replica_online,
    links.clients_cut_off,
    access.slots_held_idle,
    access.workers_wait,
    access.producers_silent,
    access.access_refused,
    access.refusals_counted,
    cluster.slots_skewed,
    cluster.node_stands_out,
    limits.oom_errors,
    limits.noeviction_policy,
    limits.allkeys_policy,
    limits.volatile_policy_without_ttl,
    limits.evicts_keys,
    limits.evicts_as_fast_as_it_writes,
    limits.evicts_little,
    limits.hit_ratio_low,
    limits.hit_ratio_healthy,
    limits.eviction_stalls,
    persistence.child_copies_memory,
    persistence.copy_finished,
    persistence.copies_threaten_limit,
    persistence.saves_often,
    persistence.last_save_ok,
    latency.whole_collections_read,
    latency.freeing_stalls,
    latency.lazy_freeing_off,
    latency.one_key_is_hot,
    latency.cpu_busy,
    latency.script_blocks_server,
    latency.memory_swapped,
    latency.fork_is_slow,
    latency.huge_pages_in_use,
    disk.snapshot_failed,
    disk.append_failed,
    disk.rewrite_failed,
    disk.writes_refused_for_persistence,
    disk.file_rewritten_repeatedly,
    disk.rewrite_is_eager,
    disk.fsync_stalls,
    disk.fsync_every_write,
    upkeep.expired_keys_pile_up,
    upkeep.hz_is_low,
    upkeep.expiry_hits_its_time_cap,
    upkeep.defrag_runs,
    upkeep.defrag_stalls,
    upkeep.defrag_is_eager,
    upkeep.no_defrag,
    upkeep.scripts_pile_up,
    upkeep.script_memory_large,
    upkeep.modules_loaded,
    host.host_swaps_in,
    host.huge_pages_given,
    host.data_disk_full,
    host.killed_for_memory,
    host.cpu_is_throttled,
    symptoms.errors_rising,
    symptoms.commands_fail,
    symptoms.connections_churn,
    symptoms.commands_are_paused,
    symptoms.commands_are_slow,
    symptoms.cpu_saturated,
    symptoms.forks_again_and_again,
)
SIGNALS: dict[str, SignalSpec] = {spec.name: spec for spec in _ALL}
"""Every signal by name; what is not listed here does not exist."""


def detect(evidence: Sequence[Evidence]) -> Signals:
    """Every signal of the catalogue: fired, absent, or not measured and why."""
    return detect_in(Seen(evidence))


def detect_in(seen: Seen) -> Signals:
    """The same, over evidence that was already typed."""
    signals = Signals()
    for name, spec in SIGNALS.items():
        outcome = spec(seen)
        if outcome is None:
            signals.absent.add(name)
        elif isinstance(outcome, NotMeasured):
            signals.not_measured[name] = outcome
        else:
            signals.fired[name] = outcome
    return signals
