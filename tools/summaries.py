"""One line for each reading: what a person, or a model, sees of it first."""

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from tools.access import AclLog
from tools.clients import Clients
from tools.cluster import Cluster
from tools.configuration import Configuration
from tools.differences import KeyChanges, ServerChanges
from tools.encodings import Encodings
from tools.host import Host
from tools.hotkeys import HotKeys, KeysInUse
from tools.keyspace import BigKeys, Keyspace, SampledShares
from tools.latency import LatencyDoctor, LatencyEvents, LatencyHistogram
from tools.memory import MemoryDoctor, MemoryInfo, MemoryStats
from tools.metric_history import MetricHistory
from tools.modules import Modules
from tools.nodes import Nodes
from tools.persistence import Persistence
from tools.reading import NotMeasured, Reading, number
from tools.replication import Replication
from tools.resize import InstanceResize
from tools.scripts import Scripts
from tools.slowlog import Slowlog
from tools.stats import CommandStats, ErrorStats, ServerInfo, Stats
from tools.streams import Streams

LONGEST = 200
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")


def summarize(reading: Reading | NotMeasured) -> str:
    """The reading in one printable line of at most 200 characters."""
    if isinstance(reading, NotMeasured):
        line = f"not measured: {reading.because}"
    else:
        line = _SUMMARIES.get(type(reading), _fields)(reading)
    line = "".join(c if c.isprintable() else " " for c in line)
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def size(value: object) -> str:
    """Bytes for people: `512 bytes`, `96.1 MiB`; `?` if they were not measured."""
    amount = number(value)
    if amount is None:
        return "?"
    unit = 0
    while unit + 1 < len(_UNITS) and abs(round(amount, 1)) >= 1024:
        amount, unit = amount / 1024, unit + 1
    return f"{amount:.0f} bytes" if unit == 0 else f"{amount:.1f} {_UNITS[unit]}"


def count(value: object) -> str:
    """A number for people: `1,234`, `0.3`; `?` if it was not measured."""
    amount = number(value)
    if amount is None:
        return "?"
    return f"{amount:,.0f}" if amount == int(amount) or abs(amount) >= 100 else f"{amount:,.1f}"


def percent(value: object) -> str:
    """A fraction for people: `87.5 %`; `?` if it was not measured."""
    amount = number(value)
    return "?" if amount is None else f"{amount * 100:.1f} %"


def milliseconds(microseconds: object) -> str:
    """Microseconds for people, in ms: `12.5 ms`; `?` if they were not measured."""
    amount = number(microseconds)
    return "?" if amount is None else f"{amount / 1000:,.1f} ms"


def word(value: object) -> str:
    """A measured word, or `?`."""
    return "?" if isinstance(value, NotMeasured) or value is None else str(value)


def _fields(reading: Reading) -> str:
    """Whatever the reading holds, for readings without a summary of their own."""
    values = ((name, getattr(reading, name)) for name in type(reading).model_fields)
    return ", ".join(f"{name} {_shown(value)}" for name, value in values)


def _shown(value: object) -> str:
    if isinstance(value, list | dict):
        return f"({len(value)})"
    if isinstance(value, BaseModel):
        return "?" if isinstance(value, NotMeasured) else "(…)"
    return count(value) if number(value) is not None else str(value)


def _server_info(r: ServerInfo) -> str:
    trip = number(r.round_trip_seconds)
    return (
        f"{r.flavour}{f' at {r.provider}' if r.provider else ''}, {word(r.redis_mode)}, "
        f"up {count(r.uptime_in_seconds)} s, "
        f"round trip {milliseconds(None if trip is None else trip * 1e6)}"
    )


def _memory_info(r: MemoryInfo) -> str:
    return (
        f"{size(r.used_memory)} used, {percent(r.pressure)} of {size(r.limit)} ({r.limit_source}), "
        f"{word(r.maxmemory_policy)}, RSS {size(r.used_memory_rss)}, "
        f"fragmentation {word(r.mem_fragmentation_ratio)}"
    )


def _memory_stats(r: MemoryStats) -> str:
    return (
        f"dataset {size(r.dataset_bytes)} in {count(r.keys_count)} keys, overhead "
        f"{size(r.overhead_total)}, clients {size(r.clients_normal)}, replicas "
        f"{size(r.clients_slaves)}, backlog {size(r.replication_backlog)}"
    )


def _opinion(r: MemoryDoctor | LatencyDoctor) -> str:
    return r.text


def _configuration(r: Configuration) -> str:
    first = ("maxmemory", "maxmemory-policy")
    shown = [f"{name} {r.parameters[name]}" for name in first if name in r.parameters]
    shown += [f"{name} {value}" for name, value in r.parameters.items() if name not in first]
    return f"{len(r.parameters)} parameters: " + ", ".join(shown)


def _stats(r: Stats) -> str:
    return (
        f"{count(r.commands_per_second)} commands/s, memory {size(r.used_memory_per_second)}/s, "
        f"{count(r.keys_per_second)} keys/s, {count(r.evicted_keys_per_second)} evictions/s, hit "
        f"ratio {percent(r.hit_ratio)}, {count(r.total_error_replies_per_second)} errors/s"
    )


def _command_stats(r: CommandStats) -> str:
    top = [
        f"{row.command} {count(row.calls_per_second)}/s at {row.usec_per_call:.0f} µs"
        for row in r.commands[:3]
    ]
    return (
        f"{count(r.writes_per_second)} writes/s, {count(r.reads_per_second)} reads/s, "
        f"{count(r.rejected_per_second)} rejected/s; " + ", ".join(top)
    )


def _error_stats(r: ErrorStats) -> str:
    rows = [f"{row.code} {count(row.count)} ({count(row.per_second)}/s)" for row in r.errors[:5]]
    return "errors: " + (", ".join(rows) or "none")


def _persistence(r: Persistence) -> str:
    aof = f"AOF on, last write {word(r.aof_last_write_status)}" if r.aof_enabled == 1 else "AOF off"
    return (
        f"{'LOADING, ' if r.loading == 1 else ''}last snapshot {word(r.rdb_last_bgsave_status)}, "
        f"{count(r.seconds_since_last_save)} s ago, {count(r.rdb_changes_since_last_save)} changes "
        f"since, last copy-on-write {size(r.rdb_last_cow_size)}, {aof}"
    )


def _nodes(r: Nodes) -> str:
    here = r.rows[0]
    numbers = here.numbers
    if r.kind == "single" or isinstance(numbers, NotMeasured):
        return f"{here.node} stands alone" if r.kind == "single" else f"{len(r.rows)} nodes"
    marked = f", {r.failing} marked as failed" if r.failing else ""
    missed = f", {r.not_reached} not reached" if r.not_reached else ""
    return (
        f"{r.primaries} primaries, {r.replicas} replicas{marked}{missed}; {here.node} "
        f"({here.role}) uses {size(numbers.used_bytes)} at {count(numbers.ops_per_second)}/s, the "
        f"other primaries' median {size(r.others_median_used_bytes)} at "
        f"{count(r.others_median_ops_per_second)}/s"
    )


def _replication(r: Replication) -> str:
    if r.master_link_status is not None:
        return f"{word(r.role)} of {r.master_host}:{r.master_port}, link {r.master_link_status}"
    lag = max((row.lag_bytes for row in r.replicas), default=0)
    behind = f", furthest {size(lag)} behind" if r.replicas else ""
    return (
        f"{word(r.role)}, {count(r.connected_slaves)} replicas{behind}, "
        f"backlog {size(r.repl_backlog_size)}"
    )


def _slowlog(r: Slowlog) -> str:
    top = [
        f"{group.count} {group.command}, longest {milliseconds(group.longest_microseconds)}"
        for group in r.groups[:3]
    ]
    return f"{len(r.entries)} slow commands" + (": " + "; ".join(top) if top else "")


def _latency_events(r: LatencyEvents) -> str:
    top = [
        f"{event.event} {event.longest_milliseconds} ms at most, {event.age_seconds} s ago"
        for event in r.events[:3]
    ]
    return f"{len(r.events)} latency events" + (": " + "; ".join(top) if top else "")


def _latency_histogram(r: LatencyHistogram) -> str:
    top = [f"{row.command} {milliseconds(row.p99_microseconds)}" for row in r.commands[:4]]
    return "p99: " + (", ".join(top) or "no commands yet")


def _scripts(r: Scripts) -> str:
    if r.blocked_by:
        return f"everything is answered {r.blocked_by}: a script runs ({word(r.running_script)})"
    running = f", running: {r.running_script}" if isinstance(r.running_script, str) else ""
    return (
        f"{count(r.number_of_cached_scripts)} cached scripts, VM {size(r.used_memory_vm_eval)}, "
        f"{count(r.number_of_libraries)} libraries{running if r.running_script else ''}"
    )


def _acl_log(r: AclLog) -> str:
    top = [f"{e.count} {e.reason} {e.object} by {e.username}" for e in r.entries[:3]]
    return f"{r.total_denials} denials" + (": " + ", ".join(top) if top else "")


def _modules(r: Modules) -> str:
    return "modules: " + (", ".join(row.name for row in r.modules) or "none")


def _keyspace(r: Keyspace) -> str:
    top = [
        f"{row.prefix} {row.keys} ({percent(row.without_ttl_share)} without TTL)"
        for row in r.prefixes[:2]
    ]
    return (
        f"{count(r.keys)} keys, {percent(r.expires_share)} expire; of {count(r.sampled)} sampled: "
        + (", ".join(top) or "none")
    )


def _bigkeys(r: BigKeys) -> str:
    if isinstance(r.sampled, SampledShares):
        return _sample(r, r.sampled)
    key = next((f"{row.key} ({row.type}, {size(row.bytes)})" for row in r.top_by_bytes), "none")
    prefix = next((f"{p.prefix} {percent(p.share_of_bytes)}" for p in r.prefixes), "none")
    return (
        f"{count(r.keys_seen)} of {count(r.keys_total)} keys, {size(r.bytes_seen)}; "
        f"top prefix {prefix} of bytes; biggest key {key}"
    )


def _sample(r: BigKeys, shares: SampledShares) -> str:
    top = [
        f"{row.prefix} {percent(row.least_share)} to {percent(row.most_share)}"
        for row in shares.prefixes[:2]
    ]
    hidden = "large keys were missed for sure, " if shares.hides_large_keys else ""
    rows = shares.not_met if isinstance(shares.not_met, list) else []
    largest = max(rows, key=lambda row: row.elements, default=None)
    if largest is not None:
        of = f"{count(largest.keys)} {largest.type} of {count(largest.elements)} elements or more"
        hidden = f"not met: {of}, " if largest.type != "string" else hidden
    unseen = f"{hidden}{size(shares.unseen_bytes)} unseen"
    return (
        f"a sample of {count(shares.keys)} of {count(r.keys_total)} keys: {', '.join(top)} of what "
        f"keys up to {size(shares.threshold_bytes)} hold; {unseen}"
    )


def _encodings(r: Encodings) -> str:
    top = [
        f"{row.prefix} {row.type} {size(row.saved_bytes)} less: {row.change}"
        for row in r.advice
        if number(row.saved_bytes) is not None
    ]
    seen = f"{count(r.keys_seen)} of {count(r.keys_total)} keys sampled; "
    return seen + ("; ".join(top[:2]) or "no other shape of data is known to save memory")


def _clients(r: Clients) -> str:
    top = next((f"; largest {row.label} ({row.type}, {size(row.memory)})" for row in r.largest), "")
    return (
        f"{count(r.connected)} clients of {count(r.maxclients)}, {count(r.blocked)} blocked, "
        f"{count(r.pubsub)} pub/sub, output buffers {size(r.output_bytes)}{top}"
    )


def _streams(r: Streams) -> str:
    top = [
        f"{row.key} {count(row.length)} entries, {size(row.bytes)}, {count(row.pending)} pending"
        for row in r.streams[:2]
    ]
    return f"{count(r.found)} streams" + (": " + "; ".join(top) if top else "")


def _cluster(r: Cluster) -> str:
    if not r.enabled:
        return "cluster mode is off"
    top = next((f"; slot {s.slot} holds {percent(s.share_of_keys)} of them" for s in r.fullest), "")
    return (
        f"cluster {word(r.state)}, {count(r.size)} primaries, {count(r.slots_owned)} slots here "
        f"with {count(r.keys)} keys{top}"
    )


def _instance_resize(r: InstanceResize) -> str:
    fits = ", ".join(f"{fit.provider} {fit.name}" for fit in r.fits[:3]) or "none: shard"
    return (
        f"needs {size(r.needed_bytes)} (limit now {size(r.current_limit)}), "
        f"maxmemory {size(r.recommended_maxmemory)}; growth from {r.growth_from}; fits: {fits}"
    )


def _hot_keys(r: HotKeys) -> str:
    seen = f"{count(r.keys_seen)} keys asked for their frequency"
    if isinstance(r.hottest, list):
        return seen + "".join(f"; {row.key} leads with {row.frequency}" for row in r.hottest[:1])
    seen = f"{count(r.keys_seen)} keys seen"
    if isinstance(r.counted, list):
        seen += f"; the server counts {r.counted[0].key if r.counted else 'nothing'} most"
    if isinstance(r.in_use, KeysInUse):
        seen += f"; {count(r.in_use.each_time)} in use at each of {r.in_use.looks} looks: "
        seen += ", ".join(r.in_use.keys[:3])
    return seen


def _host(r: Host) -> str:
    return (
        f"memory {size(r.memory_available_bytes)} available of {size(r.memory_total_bytes)}, swap "
        f"{size(r.swap_used_bytes)} used, {count(r.swapped_in_pages_per_second)} pages/s in, data "
        f"disk {size(r.data_disk_available_bytes)} free, container "
        f"{size(r.container_working_set_bytes)} of {size(r.container_limit_bytes)}, throttled "
        f"{percent(r.cpu_throttled_share)}"
    )


def _metric_history(r: MetricHistory) -> str:
    days = (r.until - r.since).total_seconds() / 86_400
    steps = [
        (step.at, f"{name} {_level(name, step.before)} to {_level(name, step.after)}")
        for name, track in r.metrics.items()
        for step in track.changes
    ]
    newest = [f"{text} at {at:%d %b %H:%M}" for at, text in sorted(steps, reverse=True)[:3]]
    grown = r.growth
    growth = "" if isinstance(grown, NotMeasured) else f", memory {size(grown.bytes_per_day)}/day"
    return (
        f"{len(r.metrics)} metrics over {days:.1f} days until {r.until:%d %b %H:%M}{growth}; "
        f"{len(steps)} changes" + (": " if newest else "") + ", ".join(newest)
    )


def _changes(r: ServerChanges | KeyChanges) -> str:
    found = r.told()
    more = f": {', '.join(found)}" if found else ""
    changes = "1 change" if len(found) == 1 else f"{len(found)} changes"
    return f"{changes} since {r.since:%d %b %H:%M}, by {r.looks} looks{more}"


def _level(metric: str, value: float) -> str:
    return size(value) if "bytes" in metric else count(value)


_SUMMARIES: dict[type[Reading], Callable[[Any], str]] = {
    ServerInfo: _server_info,
    MemoryInfo: _memory_info,
    MemoryStats: _memory_stats,
    MemoryDoctor: _opinion,
    Configuration: _configuration,
    Stats: _stats,
    CommandStats: _command_stats,
    ErrorStats: _error_stats,
    Persistence: _persistence,
    Nodes: _nodes,
    Replication: _replication,
    Slowlog: _slowlog,
    LatencyEvents: _latency_events,
    LatencyHistogram: _latency_histogram,
    LatencyDoctor: _opinion,
    Scripts: _scripts,
    Encodings: _encodings,
    HotKeys: _hot_keys,
    AclLog: _acl_log,
    Modules: _modules,
    Keyspace: _keyspace,
    BigKeys: _bigkeys,
    Clients: _clients,
    Streams: _streams,
    Cluster: _cluster,
    InstanceResize: _instance_resize,
    MetricHistory: _metric_history,
    Host: _host,
    ServerChanges: _changes,
    KeyChanges: _changes,
}
