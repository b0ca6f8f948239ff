"""Sentences over readings that the chat can say without a model, by topic. A table, no code.

`{used_memory:bytes}` is a path and the unit it is printed in; `{a-b:bytes}` a difference.
"""

from dataclasses import dataclass

from tools.access import AclLog
from tools.clients import Clients
from tools.cluster import Cluster
from tools.hotkeys import HotKeys
from tools.keyspace import BigKeys, Keyspace
from tools.latency import LatencyEvents
from tools.memory import MemoryInfo
from tools.modules import Modules
from tools.persistence import Persistence
from tools.reading import Reading
from tools.replication import Replication
from tools.scripts import Scripts
from tools.slowlog import Slowlog
from tools.stats import CommandStats, ErrorStats, ServerInfo, Stats
from tools.streams import Streams


@dataclass(frozen=True)
class Sentence:
    """A sentence over one kind of reading; `rows`: once for each of the first rows of a list."""

    kind: type[Reading]
    text: str
    rows: str = ""
    first: int = 0
    """The first row it is said for."""


_FRAGMENTATION = Sentence(
    MemoryInfo,
    "The process holds {mem_fragmentation_ratio:} times what is used ({used_memory_rss:bytes} "
    "resident, {used_memory:bytes} used); fragmentation proper, in the allocator, is "
    "{allocator_frag_bytes:bytes} ({mem_allocator:text}).",
)
_BIGGEST_KEY = Sentence(
    BigKeys,
    "The biggest key seen is {top_by_bytes.0.key:text} ({top_by_bytes.0.type:text}): it holds "
    "{top_by_bytes.0.bytes:bytes} in {top_by_bytes.0.elements:count} elements.",
)
_BIGGEST_PREFIX = Sentence(
    BigKeys,
    "The biggest prefix is {prefixes.0.prefix:text}: {prefixes.0.keys:count} keys under it hold "
    "{prefixes.0.bytes:bytes}, {prefixes.0.without_ttl_share:ratio} of them never expire.",
)
_KEY = Sentence(
    BigKeys,
    "The key {key:text} ({type:text}) holds {bytes:bytes} in {elements:count} elements.",
    rows="top_by_bytes",
    first=1,
)
_PREFIX = Sentence(
    BigKeys,
    "{keys:count} keys under {prefix:text} hold {bytes:bytes}; {without_ttl_share:ratio} of them "
    "never expire.",
    rows="prefixes",
    first=1,
)
_SCANNED = Sentence(
    BigKeys,
    "{keys_seen:count} of {keys_total:count} keys were scanned, {bytes_seen:bytes} in all.",
)
_KEYS = Sentence(Keyspace, "There are {keys:count} keys, {expires:count} of them expire.")
_CHANGE = Sentence(
    Stats,
    "Between two samples {seconds:seconds} apart memory changed by "
    "{used_memory_last-used_memory_first:bytes}.",
)
_EVICTIONS = Sentence(
    Stats,
    "{evicted_keys_per_second:per_second} keys are evicted now, {evicted_keys:count} since start.",
)

TOPICS: dict[str, tuple[Sentence, ...]] = {
    "memory": (
        Sentence(
            MemoryInfo,
            "{used_memory:bytes} are used; {counted_memory:bytes} of it counts against the limit "
            "of {limit:bytes} ({limit_source:text}).",
        ),
        Sentence(MemoryInfo, "Pressure is {pressure:ratio}."),
        Sentence(
            MemoryInfo,
            "Resident memory is {used_memory_rss:bytes}, the peak was {used_memory_peak:bytes}.",
        ),
        Sentence(
            MemoryInfo,
            "The dataset holds {used_memory_dataset:bytes}, buffers of clients "
            "{mem_clients_normal:bytes}.",
        ),
        _CHANGE,
    ),
    "fragmentation": (_FRAGMENTATION,),
    "evictions": (
        Sentence(MemoryInfo, "The policy is {maxmemory_policy:text}, pressure {pressure:ratio}."),
        _EVICTIONS,
    ),
    "expiry": (
        _KEYS,
        Sentence(
            Keyspace,
            "Of {keys:count} sampled keys under {prefix:text}, {without_ttl:count} never expire.",
            rows="prefixes",
        ),
        Sentence(Stats, "{expired_keys_per_second:per_second} keys expire now."),
    ),
    "keys": (_BIGGEST_KEY, _BIGGEST_PREFIX, _KEY, _SCANNED),
    "prefixes": (_BIGGEST_PREFIX, _PREFIX, _SCANNED),
    "key_count": (_KEYS,),
    "hot_keys": (
        Sentence(
            HotKeys,
            "{key:text} is used most, by its counter {frequency:count} of those that were seen.",
            rows="hottest",
        ),
    ),
    "clients": (
        Sentence(
            Clients,
            "{connected:count} clients are connected, {blocked:count} blocked, {pubsub:count} "
            "subscribed; their buffers hold {output_bytes:bytes} of output and {input_bytes:bytes} "
            "of input.",
        ),
        Sentence(
            Clients,
            "The client {label:text} ({address:text}, {type:text}) holds {memory:bytes}, "
            "{output_bytes:bytes} of it output it has not read.",
            rows="largest",
        ),
    ),
    "latency": (
        Sentence(
            Slowlog,
            "The slow log holds {total:count} commands above "
            "{threshold_microseconds:microseconds}.",
        ),
        Sentence(
            Slowlog,
            "{command:text} is in it {count:count} times, the longest took "
            "{longest_microseconds:microseconds}.",
            rows="groups",
        ),
        Sentence(
            LatencyEvents,
            "The latency event {event:text} took {latest_milliseconds:milliseconds} last, "
            "{longest_milliseconds:milliseconds} at most, {age_seconds:seconds} ago.",
            rows="events",
        ),
    ),
    "commands": (
        Sentence(
            CommandStats,
            "{command:text} runs {calls_per_second:per_second} at {usec_per_call:microseconds} "
            "each and takes {cpu_share:ratio} of all command time.",
            rows="commands",
        ),
    ),
    "errors": (
        Sentence(
            ErrorStats,
            "{code:text} was answered {count:count} times since the counters were reset, "
            "{per_second:per_second} now.",
            rows="errors",
        ),
    ),
    "access": (
        Sentence(AclLog, "The ACL log holds {total_denials:count} denials."),
        Sentence(
            AclLog,
            "{username:text} was denied {count:count} times for its {reason:text} ({object:text}), "
            "{age_seconds:seconds} ago last.",
            rows="entries",
        ),
    ),
    "streams": (
        Sentence(
            Streams,
            "The stream {key:text} holds {length:count} entries ({bytes:bytes}); {pending:count} "
            "are pending.",
            rows="streams",
        ),
    ),
    "scripts": (
        Sentence(
            Scripts,
            "{number_of_cached_scripts:count} scripts are cached; they hold "
            "{used_memory_scripts_eval:bytes}, the interpreter {used_memory_vm_eval:bytes}.",
        ),
    ),
    "cluster": (
        Sentence(
            Cluster,
            "The cluster is {state:text}; {slots_assigned:count} slots are assigned to "
            "{size:count} primaries, {slots_owned:count} of them here.",
        ),
        Sentence(Cluster, "Cluster mode is on: {enabled:}."),
    ),
    "replication": (
        Sentence(
            Replication,
            "The role is {role:text}, {connected_slaves:count} replicas are connected.",
        ),
        Sentence(
            Replication,
            "It follows {primary:text}; the link is {master_link_status:text}.",
        ),
        Sentence(
            Replication,
            "The replica {address:text} is {lag_seconds:seconds} behind ({lag_bytes:bytes}).",
            rows="replicas",
        ),
    ),
    "persistence": (
        Sentence(
            Persistence,
            "The last background save ended {rdb_last_bgsave_status:text}, "
            "{seconds_since_last_save:seconds} ago; {rdb_changes_since_last_save:count} changes "
            "are unsaved.",
        ),
        Sentence(
            Persistence,
            "The last write of the append-only file ended {aof_last_write_status:text}.",
        ),
    ),
    "traffic": (
        Sentence(
            Stats,
            "{commands_per_second:per_second} commands run; {input_bytes_per_second:"
            "bytes_per_second} come in, {output_bytes_per_second:bytes_per_second} go out.",
        ),
        Sentence(Stats, "{hit_ratio:ratio} of the lookups find their key."),
        Sentence(Stats, "{connections_per_second:per_second} connections are accepted."),
    ),
    "growth": (
        _CHANGE,
        Sentence(Stats, "The number of keys changes by {keys_per_second:per_second}."),
        _EVICTIONS,
    ),
    "server": (
        Sentence(
            ServerInfo,
            "It is {flavour:text}, {redis_mode:text}, and has run for {uptime_in_seconds:seconds}.",
        ),
    ),
    "modules": (
        Sentence(
            Modules, "The module {name:text} is loaded, version {version:count}.", rows="modules"
        ),
    ),
}
ON_DEMAND: frozenset[str] = frozenset(
    {"evictions", "expiry", "traffic", "commands", "growth", "errors"}
)
"""Topics for which looks that take seconds are taken; others tell of them if they are there."""
