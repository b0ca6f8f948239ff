"""What the chat can say about a server without a model: sentences over readings, by topic. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from agent.claims import check_claim, literal_names
from agent.facts import index
from agent.incident import Claim, ClaimDraft, FactDraft, FactOperation
from tools.clients import Clients
from tools.configuration import Configuration
from tools.keyspace import BigKeys, Keyspace
from tools.latency import LatencyEvents
from tools.memory import MemoryInfo
from tools.permissions import CONFIG_PARAMETERS
from tools.persistence import Persistence
from tools.reading import Evidence, NotMeasured, Reading, printable
from tools.reads import READS
from tools.replication import Replication
from tools.slowlog import Slowlog
from tools.stats import ErrorStats, Stats
from tools.streams import Streams

SLOW: frozenset[type[Reading]] = frozenset({Stats})
"""Looks that take seconds: told about if somebody has looked, not taken for a question."""
ROWS = 5
"""Rows of a table that an answer names."""
_IN_BYTES = frozenset(
    {
        "maxmemory", "repl-backlog-size", "client-query-buffer-limit", "proto-max-bulk-len",
        "auto-aof-rewrite-min-size", "active-defrag-ignore-bytes", "stream-node-max-bytes",
    }
)  # fmt: skip

FactSpec = tuple[str, FactOperation, tuple[str, ...], str]


@dataclass(frozen=True)
class Sentence:
    """A sentence over one kind of reading; `rows`: once for each of the first rows of a list."""

    kind: type[Reading]
    text: str
    facts: tuple[FactSpec, ...]
    rows: str = ""


def _value(name: str, path: str, unit: str = "") -> FactSpec:
    return (name, "value", (path,), unit)


TOPICS: dict[str, tuple[Sentence, ...]] = {
    "memory": (
        Sentence(
            MemoryInfo,
            "{used} are used; {counted} of it counts against the limit of {limit} ({source}).",
            (
                _value("used", "used_memory", "bytes"),
                _value("counted", "counted_memory", "bytes"),
                _value("limit", "limit", "bytes"),
                _value("source", "limit_source", "text"),
            ),
        ),
        Sentence(MemoryInfo, "Pressure is {pressure}.", (_value("pressure", "pressure", "ratio"),)),
        Sentence(
            MemoryInfo,
            "Resident memory is {rss}, the peak was {peak}.",
            (
                _value("rss", "used_memory_rss", "bytes"),
                _value("peak", "used_memory_peak", "bytes"),
            ),
        ),
        Sentence(
            MemoryInfo,
            "The dataset holds {dataset}, buffers of clients {clients}.",
            (
                _value("dataset", "used_memory_dataset", "bytes"),
                _value("clients", "mem_clients_normal", "bytes"),
            ),
        ),
        Sentence(
            Stats,
            "Between two samples {seconds} apart memory changed by {change}.",
            (
                _value("seconds", "seconds", "seconds"),
                ("change", "difference", ("used_memory_last", "used_memory_first"), "bytes"),
            ),
        ),
    ),
    "keys": (
        Sentence(
            BigKeys,
            "{seen} keys were scanned, {bytes} in all.",
            (_value("seen", "keys_seen", "count"), _value("bytes", "bytes_seen", "bytes")),
        ),
        Sentence(
            BigKeys,
            "The key {key} ({type}) holds {bytes} in {elements} elements.",
            (
                _value("key", "key", "text"),
                _value("type", "type", "text"),
                _value("bytes", "bytes", "bytes"),
                _value("elements", "elements", "count"),
            ),
            rows="top_by_bytes",
        ),
        Sentence(
            BigKeys,
            "{keys} keys under {prefix} hold {bytes}; {without} of them never expire.",
            (
                _value("keys", "keys", "count"),
                _value("prefix", "prefix", "text"),
                _value("bytes", "bytes", "bytes"),
                _value("without", "without_ttl_share", "ratio"),
            ),
            rows="prefixes",
        ),
        Sentence(
            Keyspace,
            "There are {keys} keys, {expires} of them expire.",
            (_value("keys", "keys", "count"), _value("expires", "expires", "count")),
        ),
    ),
    "clients": (
        Sentence(
            Clients,
            "{connected} clients are connected, {blocked} blocked, {pubsub} subscribed; their "
            "buffers hold {output} of output and {input} of input.",
            (
                _value("connected", "connected", "count"),
                _value("blocked", "blocked", "count"),
                _value("pubsub", "pubsub", "count"),
                _value("output", "output_bytes", "bytes"),
                _value("input", "input_bytes", "bytes"),
            ),
        ),
        Sentence(
            Clients,
            "The client {client} ({address}, {type}) holds {memory}, {output} of it output it has "
            "not read.",
            (
                _value("client", "label", "text"),
                _value("address", "address", "text"),
                _value("type", "type", "text"),
                _value("memory", "memory", "bytes"),
                _value("output", "output_bytes", "bytes"),
            ),
            rows="largest",
        ),
    ),
    "latency": (
        Sentence(
            Slowlog,
            "The slow log holds {total} commands above {threshold}.",
            (
                _value("total", "total", "count"),
                _value("threshold", "threshold_microseconds", "microseconds"),
            ),
        ),
        Sentence(
            Slowlog,
            "{command} is in it {count} times, the longest took {longest}.",
            (
                _value("command", "command", "text"),
                _value("count", "count", "count"),
                _value("longest", "longest_microseconds", "microseconds"),
            ),
            rows="groups",
        ),
        Sentence(
            LatencyEvents,
            "The latency event {event} took {latest} last, {longest} at most, {age} ago.",
            (
                _value("event", "event", "text"),
                _value("latest", "latest_milliseconds", "milliseconds"),
                _value("longest", "longest_milliseconds", "milliseconds"),
                _value("age", "age_seconds", "seconds"),
            ),
            rows="events",
        ),
    ),
    "errors": (
        Sentence(
            ErrorStats,
            "{code} was answered {count} times since the counters were reset, {rate} now.",
            (
                _value("code", "code", "text"),
                _value("count", "count", "count"),
                _value("rate", "per_second", "per_second"),
            ),
            rows="errors",
        ),
    ),
    "streams": (
        Sentence(
            Streams,
            "The stream {stream} holds {length} entries ({bytes}); {pending} are pending.",
            (
                _value("stream", "key", "text"),
                _value("length", "length", "count"),
                _value("bytes", "bytes", "bytes"),
                _value("pending", "pending", "count"),
            ),
            rows="streams",
        ),
    ),
    "replication": (
        Sentence(
            Replication,
            "The role is {role}, {replicas} replicas are connected.",
            (_value("role", "role", "text"), _value("replicas", "connected_slaves", "count")),
        ),
        Sentence(
            Replication,
            "The replica {address} is {lag} behind ({bytes}).",
            (
                _value("address", "address", "text"),
                _value("lag", "lag_seconds", "seconds"),
                _value("bytes", "lag_bytes", "bytes"),
            ),
            rows="replicas",
        ),
    ),
    "persistence": (
        Sentence(
            Persistence,
            "The last background save ended {status}; {changes} changes are unsaved.",
            (
                _value("status", "rdb_last_bgsave_status", "text"),
                _value("changes", "rdb_changes_since_last_save", "count"),
            ),
        ),
        Sentence(
            Persistence,
            "The last write of the append-only file ended {status}.",
            (_value("status", "aof_last_write_status", "text"),),
        ),
    ),
}


def kinds_of(topic: str) -> list[type[Reading]]:
    """The readings a topic rests on."""
    return list(dict.fromkeys(sentence.kind for sentence in TOPICS[topic]))


def tool_of(kind: type[Reading]) -> str:
    """The read-only tool that yields this reading."""
    return next(name for name, tool in READS.items() if tool.reading is kind)


def latest(evidence: Sequence[Evidence], kind: type[Reading]) -> Evidence | None:
    """The newest measured evidence of this kind; without one, the newest that was not measured."""
    tool = tool_of(kind)
    pieces = [piece for piece in evidence if piece.tool == tool]
    measured = [piece for piece in pieces if piece.measured]
    return next(reversed(measured or pieces), None)


def say(topic: str, evidence: Sequence[Evidence]) -> tuple[list[Claim], list[str]]:
    """What can be said about a topic, and what was not measured for it."""
    claims: list[Claim] = []
    gaps: list[str] = []
    names = literal_names(evidence)
    known = index(evidence)
    for kind in kinds_of(topic):
        piece = latest(evidence, kind)
        if piece is None:
            gaps += [] if kind in SLOW else [f"{tool_of(kind)} was not run"]
        elif not piece.measured:
            gaps.append(_reason(piece))
        else:
            for sentence in (each for each in TOPICS[topic] if each.kind is kind):
                for draft in _drafts(sentence, piece):
                    result = check_claim(draft, known, names)
                    if isinstance(result, Claim):
                        claims.append(result)
                    else:
                        gaps += [reason for reason in result if "was not measured" in reason]
    return claims, list(dict.fromkeys(gaps))


def _drafts(sentence: Sentence, piece: Evidence) -> Iterator[ClaimDraft]:
    if not sentence.rows:
        yield _draft(sentence, piece.id, "")
        return
    rows = piece.reading.get(sentence.rows)
    for at in range(min(ROWS, len(rows) if isinstance(rows, list) else 0)):
        yield _draft(sentence, piece.id, f"{sentence.rows}.{at}.")


def _draft(sentence: Sentence, evidence: str, prefix: str) -> ClaimDraft:
    facts = [
        FactDraft(
            name=name, evidence=evidence, op=op, of=[f"{prefix}{path}" for path in of], unit=unit
        )
        for name, op, of, unit in sentence.facts
    ]
    return ClaimDraft(text=sentence.text, facts=facts)


def _reason(piece: Evidence) -> str:
    because = NotMeasured.model_validate(piece.reading).because
    return f"{piece.tool} was not measured: {printable(because, 200)}"


def asked_parameter(message: str) -> str:
    """The configuration parameter a question names, or empty."""
    words = message.lower().replace("_", "-")
    spellings = {"eviction policy": "maxmemory-policy", "memory limit": "maxmemory"}
    for spoken, name in spellings.items():
        words = words.replace(spoken, name)
    named = [name for name in CONFIG_PARAMETERS if name in words]
    return max(named, key=len, default="")


def say_parameter(name: str, evidence: Sequence[Evidence]) -> Claim | list[str]:
    """The value of one parameter, or why it cannot be said."""
    for piece in reversed(evidence):
        values: Any = piece.reading.get("parameters") if piece.measured else None
        if piece.tool == tool_of(Configuration) and isinstance(values, dict) and name in values:
            number = str(values[name]).lstrip("-").isdigit()
            unit = "bytes" if number and name in _IN_BYTES else ""
            fact = FactDraft(name="value", evidence=piece.id, of=[f"parameters.{name}"], unit=unit)
            draft = ClaimDraft(text=f"{name} is {{value}}.", facts=[fact])
            return check_claim(draft, index([piece]), {name})
    failed = [_reason(p) for p in evidence if p.tool == tool_of(Configuration) and not p.measured]
    return failed[-1:] or [f"the configuration parameter {name} was not read"]
