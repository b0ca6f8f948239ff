"""Filling a remedy's arguments from evidence: what a runbook leaves to the server at hand."""

import math
import statistics
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError

from agent.collection_arguments import clear_pending, trim_collection, trim_stream
from agent.context import Context
from agent.incident import Culprit, Diagnosis
from agent.plain_arguments import PLAIN
from agent.proposed_values import propose_value
from agent.runbook import ProposedRemedy
from agent.true_names import MARK, same_pool, true_prefix
from tools.arithmetic import arithmetic
from tools.clients import ClientRow, Clients
from tools.connection import CommandFailure
from tools.keyspace import Keyspace
from tools.reading import Evidence, NotMeasured, Reading, number
from tools.reads import READS
from tools.remedies.advice_texts import ADVICE, ALIASES
from tools.remedies.idle_clients import MOST_IDS, SHORTEST_IDLE, pool_of
from tools.remedies.parameters import RULES
from tools.remedies.prefix_scan import survey
from tools.remedies.situation import current_value
from tools.remedies.vitals import MIB, Vitals, read_clients, read_parameter, sized
from tools.replication import Replication
from tools.resize import InstanceResize
from tools.stats import Stats
from tools.streams import Streams

R = TypeVar("R", bound=Reading)
USUAL_TTL = 86_400
SHORTEST_TTL = 3_600
LEAST_EXPIRED, GROWN = 1_000, 2
"""Keys that one action may give an expiry: twice those there are, and a few at least."""
MOST_CLIENTS = 5
LONGEST_IDLE = 300
"""Seconds: whoever sent nothing for that long does not wait to be asked for longer."""
LONGEST_FACTS = 8
_CLIENT_TYPES = {
    "slow-pubsub-cob": "pubsub",
    "monitor-left-on": "monitor",
    "unread-reply-cob": "normal",
    "query-buffer-bloat": "normal",
    "replica-output-buffer": "replica",
}
"""A name may be shared by innocent clients of another type."""


@dataclass(frozen=True)
class Filled:
    """Arguments, and the evidence they come from."""

    arguments: dict[str, Any]
    evidence: list[str]


@dataclass(frozen=True)
class Findings:
    """What the plan is made from."""

    context: Context
    diagnosis: Diagnosis
    evidence: list[Evidence]
    vitals: Vitals
    """As of now: the plan's numbers are those of the moment it is made."""

    @property
    def culprit(self) -> Culprit:
        """What did it."""
        return self.diagnosis.culprit

    def latest(self, cls: type[R]) -> tuple[R, str] | None:
        """The newest reading of this type that could be taken, and its id.

        A look as the rules take it first: a model may have looked at less, or further ahead, and
        its choice is not to size what is bought or how long keys live.
        """
        usual = [piece for piece in self.evidence if not piece.args.keys() - {"memory_limit"}]
        for piece in [*reversed(usual), *reversed(self.evidence)]:
            tool = READS.get(piece.tool)
            if not piece.measured or tool is None or tool.reading is not cls:
                continue
            try:
                return cls.model_validate(piece.reading), piece.id
            except ValidationError:
                continue
        return None


@dataclass(frozen=True)
class Gap:
    """What is to be filled: a remedy of a cause, and the arguments its runbook gives."""

    findings: Findings
    cause: str
    given: dict[str, Any]

    @property
    def culprit(self) -> Culprit:
        """What did it."""
        return self.findings.culprit


async def fill(findings: Findings, cause: str, proposed: ProposedRemedy) -> list[Filled]:
    """Complete arguments for a remedy, one set an action; empty if evidence gives none."""
    given = {
        name: findings.culprit.name if value == "{culprit}" else value
        for name, value in proposed.args.items()
    }
    gap = Gap(findings, cause, given)
    try:
        if proposed.kind in PLAIN:
            arguments = await PLAIN[proposed.kind](gap)
            return [] if arguments is None else [Filled(arguments, [])]
        filler = _FILLERS.get(proposed.kind)
        return [] if filler is None else await filler(gap)
    except CommandFailure:
        return []


async def _set_config(gap: Gap) -> list[Filled]:
    parameter = str(gap.given.get("parameter", ""))
    if parameter not in RULES:
        return []
    limit = gap.findings.context.target.memory_limit
    value = gap.given.get("value") or await propose_value(
        parameter,
        gap.findings.context.connection,
        gap.findings.vitals,
        memory_limit=limit,
        written_per_second=_written_per_second(gap.findings),
        evicted_per_second=_evicted_per_second(gap.findings),
        cause=gap.cause,
    )
    if value is None:
        return []
    now = await read_parameter(gap.findings.context.connection, parameter)
    expected = current_value(parameter, now or "", str(value))
    arguments: dict[str, Any] = {"parameter": parameter, "value": str(value), "expected": expected}
    if parameter == "maxmemory" and limit is not None:
        arguments["memory_limit"] = limit
    if parameter.startswith("client-") and gap.culprit.kind in ("client", "replica"):
        found = gap.findings.latest(Clients)
        suspects = _suspects(gap, found[0]) if found else []
        arguments["culprit"] = suspects[0].label if suspects else gap.culprit.name
    return [Filled(arguments, [])]


async def _rewrite_config(gap: Gap) -> list[Filled]:
    """To keep over a restart what a change beside it sets."""
    return [
        Filled(
            {
                "parameter": filled.arguments["parameter"],
                "value": RULES[filled.arguments["parameter"]].canonical(filled.arguments["value"]),
                "old": filled.arguments["expected"],
            },
            filled.evidence,
        )
        for filled in await _set_config(gap)
    ]


def _written_per_second(findings: Findings) -> float | None:
    found = findings.latest(Stats)
    if found is None:
        return None
    received = number(found[0].input_bytes_per_second)
    link = findings.latest(Replication)
    # Without a backlog the offset stands still, or counts commands (7.2 and later).
    if link is None or number(link[0].repl_backlog_active) != 1:
        return received
    replicated = number(found[0].replicated_bytes_per_second)
    if replicated is None or received is None:
        return received if replicated is None else replicated
    # Where writes are refused, nothing is replicated of what clients are about to write.
    refused = (findings.vitals.pressure or 0.0) >= 1
    return max(received, replicated) if refused else replicated


def _evicted_per_second(findings: Findings) -> float | None:
    found = findings.latest(Stats)
    return number(found[0].evicted_keys_per_second) if found else None


async def _kill_client(gap: Gap) -> list[Filled]:
    found = gap.findings.latest(Clients)
    if found is None or gap.culprit.kind not in ("client", "replica"):
        return []
    clients, evidence = found
    rows = _suspects(gap, clients)
    floor = _floor(rows)
    chosen = [row for row in rows if row.type == "monitor" or _held(row) >= floor]
    return [
        Filled(await _as_it_is_now(gap.findings, row, floor), [evidence])
        for row in chosen[:MOST_CLIENTS]
    ]


def _suspects(gap: Gap, clients: Clients) -> list[ClientRow]:
    """The clients that the culprit's name stands for."""
    kind = _CLIENT_TYPES.get(gap.cause)
    rows = [row for row in clients.largest if kind in (None, row.type) and row.type != "master"]
    named = [row for row in rows if row.label == gap.culprit.name]
    if named or gap.culprit.kind != "replica":
        return named
    # INFO names a replica by the port it listens on, CLIENT LIST by the one it calls from.
    replicas = [row for row in rows if row.type == "replica"]
    if len(replicas) > 1:
        replicas = [row for row in replicas if _host(row.address) == _host(gap.culprit.name)]
    floor = _floor(replicas)
    heavy = [row for row in replicas if _held(row) >= floor]
    return heavy if len(heavy) == 1 else []  # of two, nobody can say which it is


def _host(address: str) -> str:
    return address.rpartition(":")[0]


def _floor(rows: Sequence[ClientRow]) -> int:
    return max(MIB, max((_held(row) for row in rows), default=0) // 2)


async def _as_it_is_now(findings: Findings, row: ClientRow, floor: int) -> dict[str, Any]:
    # Evidence is redacted: the name to compare with at apply time is the server's own.
    now = await read_clients(findings.context.connection, only=row.id)
    same = now[0] if now and now[0].address == row.address else None
    return {
        "id": row.id,
        "name": same.name if same else row.name,
        "address": row.address,
        "type": row.type,
        "min_buffer_bytes": 0 if row.type == "monitor" else floor,
    }


def _held(row: ClientRow) -> int:
    return max(row.output_bytes, row.input_bytes, row.memory)


async def _kill_idle_clients(gap: Gap) -> list[Filled]:
    found = gap.findings.latest(Clients)
    if found is None or gap.culprit.kind != "client":
        return []
    now = await read_clients(gap.findings.context.connection)
    pool = [c for c in now if c.type == "normal" and same_pool(c, gap.culprit.name)]
    if len({pool_of(client) for client in pool}) != 1:
        return []
    usual = statistics.median(client.idle_seconds for client in pool)
    floor = int(min(max(SHORTEST_IDLE, usual / 2), LONGEST_IDLE))
    ids = [c.id for c in pool if c.quiet and c.idle_seconds >= floor][:MOST_IDS]
    arguments = {"name": pool_of(pool[0]), "ids": ids, "min_idle_seconds": floor}
    return [Filled(arguments, [found[1]])] if len(ids) > 1 else []


async def _script_flush(_: Gap) -> list[Filled]:
    return [Filled({}, [])]


async def _expire_prefix(gap: Gap) -> list[Filled]:
    prefix = gap.culprit.name
    if MARK.search(prefix):
        prefix = await true_prefix(gap.findings.context.connection, prefix)
    # An escape or an ellipsis means that the real bytes are not what is shown.
    if gap.culprit.kind != "prefix" or "\\" in prefix or "…" in prefix or prefix[:1] == "(":
        return []
    ttl, evidence = USUAL_TTL, []
    if (found := gap.findings.latest(Keyspace)) is not None:
        evidence = [found[1]]
        similar = [
            p.median_ttl_seconds for p in found[0].prefixes if p.prefix.startswith(gap.culprit.name)
        ]
        known = [median for median in similar if median]  # of the most frequent prefix first
        if known:
            ttl = max(SHORTEST_TTL, math.ceil(known[0]))
    ttl = int(gap.given.get("ttl_seconds", ttl))
    policy = gap.findings.vitals.fields.get("maxmemory_policy", "")
    evictable = policy.startswith("volatile")
    seen = await survey(gap.findings.context.connection, prefix)
    # What is approved is a job of about this size: one that grew far beyond it is another.
    most = max(LEAST_EXPIRED, GROWN * seen.keys_without_ttl)
    arguments = {"prefix": prefix, "ttl_seconds": ttl, "evictable": evictable, "max_keys": most}
    return [Filled(arguments, evidence)]


async def _memory_purge(_: Gap) -> list[Filled]:
    return [Filled({}, [])]


async def _instance_resize(gap: Gap) -> list[Filled]:
    found = gap.findings.latest(InstanceResize) or await _look_for_size(gap.findings)
    if found is None:
        return []
    size, evidence = found
    limit = number(size.current_limit)
    arguments = {
        "needed_bytes": size.needed_bytes,
        "recommended_maxmemory": size.recommended_maxmemory,
        "current_limit": None if limit is None else int(limit),
        "arithmetic": arithmetic(size),
        "sizes": [f"{fit.provider} {fit.name} ({sized(fit.memory_bytes)})" for fit in size.fits],
        "artefact": size.artefact,
    }
    return [Filled(arguments, [evidence])]


async def _resize_instance(gap: Gap) -> list[Filled]:
    """The same sizing as an order, where the user's own hook can carry it out."""
    hook = gap.findings.context.resize_hook
    found = gap.findings.latest(InstanceResize) or await _look_for_size(gap.findings)
    if hook is None or found is None or not found[0].grows:
        return []
    size, evidence = found
    maxmemory = gap.findings.vitals.count("maxmemory")
    if not maxmemory and gap.findings.context.target.memory_limit is not None:
        return []  # a container's limit is nothing that the server could show
    limit = maxmemory or gap.findings.vitals.count("total_system_memory")
    arguments = {
        "needed_bytes": size.needed_bytes,
        "recommended_maxmemory": size.recommended_maxmemory,
        "current_limit": limit,
        "limit_is": "maxmemory" if maxmemory else "machine",
        "sizes": [fit.model_dump(exclude={"source"}) for fit in size.fits],
        "arithmetic": arithmetic(size),
        "hook": hook.shown,
        "wait_seconds": hook.wait_seconds,
        "keeps_data": hook.keeps_data,
        "undoable": hook.undoes,
    }
    return [Filled(arguments, [evidence])]


async def _look_for_size(findings: Findings) -> tuple[InstanceResize, str] | None:
    """The sizing, taken now and kept as evidence, if the investigation did not."""
    tool = next((tool for tool in READS.values() if tool.reading is InstanceResize), None)
    if tool is None:
        return None
    limit, connection = findings.context.target.memory_limit, findings.context.connection
    known = "memory_limit" in tool.args.model_fields and limit is not None
    args = {"memory_limit": limit} if known else {}
    known_besides = findings.context.known
    ours = await known_besides(tool.name, connection.node) if known_besides else {}
    reading = await tool.call(connection, args | ours)
    if isinstance(reading, NotMeasured) or not isinstance(reading, InstanceResize):
        return None
    piece = await findings.context.journal.add_evidence(
        tool.name,
        args,
        reading.model_dump(mode="json"),
        measured=True,
        node=connection.node,
        summary=f"needs {sized(reading.needed_bytes)}",
    )
    findings.evidence.append(piece)
    return reading, piece.id


async def _advise(gap: Gap) -> list[Filled]:
    topic = str(gap.given.get("topic") or ALIASES.get(gap.cause, gap.cause))
    if topic not in ADVICE:
        return []
    named = gap.culprit.kind in ("key", "prefix", "stream", "client", "replica", "host")
    facts = [claim.text for claim in gap.findings.diagnosis.grounds[:LONGEST_FACTS]]
    subject = gap.culprit.name if named else ""
    return [Filled({"topic": topic, "subject": subject, "facts": facts}, [])]


def _of_a_key(
    arguments: Callable[[Gap], Awaitable[list[dict[str, Any]]]],
) -> Callable[[Gap], Awaitable[list[Filled]]]:
    async def filled(gap: Gap) -> list[Filled]:
        seen = gap.findings.latest(Streams) if gap.culprit.kind == "stream" else None
        return [Filled(one, [seen[1]] if seen else []) for one in await arguments(gap)]

    return filled


_Filler = Callable[[Gap], Awaitable[list[Filled]]]
_FILLERS: dict[str, _Filler] = {
    "set_config": _set_config,
    "rewrite_config": _rewrite_config,
    "kill_client": _kill_client,
    "kill_idle_clients": _kill_idle_clients,
    "script_flush": _script_flush,
    "expire_prefix": _expire_prefix,
    "trim_stream": _of_a_key(trim_stream),
    "clear_pending": _of_a_key(clear_pending),
    "trim_collection": _of_a_key(trim_collection),
    "memory_purge": _memory_purge,
    "instance_resize": _instance_resize,
    "resize_instance": _resize_instance,
    "advise_application": _advise,
}
