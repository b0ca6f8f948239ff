"""What a number in a reading is measured in, told by the name of its field. Pure.

A right number in a wrong unit is wrong, so the unit is not the model's to choose. A test holds
every numeric field of every tool to this table.
"""

import re
from collections.abc import Sequence

from agent.incident import FactOperation

UNITS: tuple[str, ...] = (
    "bytes", "ratio", "percentage", "seconds", "milliseconds", "microseconds", "bytes_per_second",
    "bytes_per_day", "per_second", "count", "text", "",
)  # fmt: skip
"""How a value may be printed. A ratio of one prints as 100 %, a percentage of 100 does as well."""

_BYTES = (
    "bytes maxmemory total_system_memory counted_memory mem_not_counted_for_evict "
    "mem_replication_backlog mem_clients_normal mem_clients_slaves mem_aof_buffer limit "
    "current_limit repl_backlog_histlen peak_allocated total_allocated startup_allocated "
    "overhead_total aof_buffer clients_normal clients_slaves functions_caches lua_caches "
    "hashtable_main hashtable_expires replication_backlog memory offset master_repl_offset "
    "bytes_seen keys_bytes_per_key mean_value_bytes_at_most recommended_maxmemory "
    "maxmemory-clients client-query-buffer-limit proto-max-bulk-len auto-aof-rewrite-min-size"
)
_COUNTS = (
    "keys keys_seen keys_total count elements length expires acl_access_denied_auth "
    "acl_access_denied_cmd aof_delayed_fsync aof_pending_bio_fsync aof_rewrites argument_count "
    "blocked calls client_output_buffer_limit_disconnections connected connected_slaves consumers "
    "current_save_keys_processed current_save_keys_total evicted_clients evicted_keys "
    "evicted_scripts expired_time_cap_reached_count failed_calls found in_multi keys_count "
    "known_nodes lag lazyfree_pending_objects looked_up lookups maxclients monitors "
    "number_of_cached_scripts number_of_functions number_of_libraries oom output_list_length "
    "pending pubsub rdb_changes_since_last_save rdb_saves rejected_calls rejected_connections "
    "replicas sampled sampled_keys slots_assigned slots_fail slots_ok slots_owned slots_pfail "
    "subscriptions sync_full sync_partial_err total total_denials total_forks without_ttl size "
    "databases maxmemory-samples samples breaks days looks watched each_time "
    "connected_clients blocked_clients oom_kills container_oom_kills cpu_periods "
    "clients_before clients_after keys_before keys_after "
    "more_nodes primaries not_reached failing slots moving_slots"
)
_PLAIN = (
    "aof_enabled aof_rewrite_in_progress async_loading cpu_cores db "
    "frequency hz id keys_per_slot last_at loading master_port master_sync_in_progress multi "
    "primary_link_up process_id rdb_bgsave_in_progress rdb_last_save_time repl_backlog_active "
    "slave_read_only slot started_at version"
)
"""Identifiers, switches, moments and numbers of their own scale: printed as they are."""
_BY_NAME = {
    **dict.fromkeys(_BYTES.split(), "bytes"),
    **dict.fromkeys(_COUNTS.split(), "count"),
    **dict.fromkeys(_PLAIN.split(), "plain"),
    **dict.fromkeys(["pressure", "coverage", "hit_ratio", "target_utilization"], "ratio"),
    **dict.fromkeys(["seconds_since_last_save", "timeout", "repl-timeout"], "seconds"),
    **dict.fromkeys(["tcp-keepalive", "repl-backlog-ttl"], "seconds"),
    **dict.fromkeys(["lua-time-limit", "busy-reply-threshold"], "milliseconds"),
    **dict.fromkeys(["usec_per_call", "latest_fork_usec"], "microseconds"),
    "latency-monitor-threshold": "milliseconds",
    "total_eviction_exceeded_time": "milliseconds",
    "per_second": "per_second",
    "active_defrag_running": "percentage",
}
_BY_FORM: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("bytes_per_second", re.compile(r".*(bytes|memory)_per_second")),
    ("bytes_per_day", re.compile(r"(.*_)?bytes_per_day")),
    ("per_second", re.compile(r".*_per_second|.*_per_sec")),
    ("microseconds", re.compile(r".*microseconds|.*-slower-than")),
    ("milliseconds", re.compile(r".*milliseconds")),
    ("seconds", re.compile(r"(.*_)?seconds(_ago|_to_full.*)?|.*_time_sec")),
    ("ratio", re.compile(r"(.*_)?share(_of_.*)?")),
    ("percentage", re.compile(r".*_perc(entage)?|.*-percentage|active-defrag-(cycle|thresh).*")),
    ("factor", re.compile(r".*_ratio")),
    ("bytes", re.compile(r"used_memory.*|.*[_-]bytes|.*_(cow|base|current)_size|.*_cow_peak")),
    ("bytes", re.compile(r"repl[_-]backlog[_-]size")),
    ("count", re.compile(r".*-(entries|max-len)|keys_db\d+")),
)
MOMENTS = frozenset({"at", "since", "until", "last_before", "first_after", "restarted_at"})
"""Texts that are a moment, as ISO 8601 has it."""
_OF_METRIC = frozenset({"first", "last", "least", "most", "before", "after"})
_SLOPES = frozenset({"per_day", "low_per_day", "high_per_day"})
"""Of a metric: in the unit of the name above them."""
_UNKNOWN = {"", "plain"}


def dimension(path: str) -> str:
    """The unit a path is to be printed in, as far as its name tells; empty if it does not."""
    measure = _measure(path)
    return measure if measure in UNITS else ""


def is_classified(field: str) -> bool:
    """Whether this table knows what the field is measured in."""
    return field in _OF_METRIC | _SLOPES or _measure(field) != ""


def fitting(op: FactOperation, of: Sequence[str]) -> tuple[str, ...]:
    """The units a fact over these paths may be printed in; the first is what it is."""
    measures = [_measure(path) for path in of]
    first = measures[0]
    if op == "ratio":
        return _quotient(first, measures[1])
    if op == "rate":
        return {"bytes": ("bytes_per_second",)}.get(first, ("per_second",))
    known = next((one for one in measures if one not in _UNKNOWN), "")
    if known == "factor":
        return ("", "ratio")
    if known == "percentage":
        return ("", "count", "percentage")
    return (known,) if known else ("", "count")


def mixture(of: Sequence[str]) -> tuple[str, str] | None:
    """Two measures among these paths that cannot be added or subtracted, if there are."""
    known = sorted({one for path in of if (one := _measure(path)) not in _UNKNOWN})
    return (known[0], known[1]) if len(known) > 1 else None


def _measure(path: str) -> str:
    *above, leaf = path.rpartition(":")[2].split(".")
    if leaf in _OF_METRIC | _SLOPES:
        metric = next((_measure(name) for name in reversed(above) if _measure(name)), "")
        return "bytes_per_day" if leaf in _SLOPES and metric == "bytes" else metric
    leaf = leaf.removesuffix("_first").removesuffix("_last")
    if (by_name := _BY_NAME.get(leaf)) is not None:
        return by_name
    return next((name for name, form in _BY_FORM if form.fullmatch(leaf)), "")


def _quotient(above: str, below: str) -> tuple[str, ...]:
    if above == below or {above, below} & _UNKNOWN:
        return ("ratio", "")
    if below == "seconds" and above in ("bytes", "count"):
        return ("bytes_per_second",) if above == "bytes" else ("per_second",)
    if below == "count" and above in ("bytes", "seconds", "milliseconds", "microseconds"):
        return (above,)  # of each
    return ("",)
