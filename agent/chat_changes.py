"""What changed between two looks at a server: numbers, words and configuration. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from agent.claims import check_claim
from agent.facts import FactRefused, Index, index, resolve
from agent.incident import Claim, ClaimDraft, FactDraft
from tools.reading import Evidence, printable

QUICK = ("server_info", "memory_info", "keyspace", "clients", "config_get", "replication")
"""Looks that take no sampling, for a comparison with now."""
LEAST_CHANGE = 0.05
"""Share of the larger of two numbers by which they have to differ to be told."""
MOST_CHANGES = 10


@dataclass(frozen=True)
class Watched:
    """One value that is compared."""

    tool: str
    path: str
    label: str
    unit: str


WATCHED: tuple[Watched, ...] = (
    Watched("server_info", "run_id", "The server was restarted: its run", "text"),
    Watched("server_info", "flavour", "The version", "text"),
    Watched("replication", "role", "The role", "text"),
    Watched("replication", "master_link_status", "The link to the primary", "text"),
    Watched("replication", "connected_slaves", "The number of connected replicas", "count"),
    Watched("memory_info", "used_memory", "Used memory", "bytes"),
    Watched("memory_info", "pressure", "Pressure", "ratio"),
    Watched("memory_info", "used_memory_rss", "Resident memory", "bytes"),
    Watched("memory_info", "mem_clients_normal", "Memory of clients' buffers", "bytes"),
    Watched("memory_info", "allocator_frag_bytes", "Fragmentation in the allocator", "bytes"),
    Watched("keyspace", "keys", "The number of keys", "count"),
    Watched("keyspace", "expires", "The number of keys that expire", "count"),
    Watched("bigkeys", "top_by_bytes.0.key", "The biggest key", "text"),
    Watched("bigkeys", "prefixes.0.prefix", "The biggest prefix", "text"),
    Watched("clients", "connected", "The number of clients", "count"),
    Watched("clients", "blocked", "The number of blocked clients", "count"),
    Watched("clients", "output_bytes", "Unread output of clients", "bytes"),
    Watched("stats", "commands_per_second", "The rate of commands", "per_second"),
    Watched("stats", "evicted_keys_per_second", "The rate of evictions", "per_second"),
    Watched("stats", "hit_ratio", "The share of lookups that find their key", "ratio"),
    Watched("persistence", "rdb_last_bgsave_status", "The outcome of the last save", "text"),
    Watched("error_stats", "oom", "The number of OOM errors", "count"),
)


@dataclass(frozen=True)
class Changes:
    """What is different, and what was compared and is not."""

    claims: list[Claim]
    same: list[str]


def changes(before: Sequence[Evidence], after: Sequence[Evidence]) -> Changes:
    """What differs between the looks of `before` and those of `after` with the same tools.

    The evidence of both has to have different ids.
    """
    known = index([*before, *after])
    claims: list[Claim] = []
    same: list[str] = []
    for tool in dict.fromkeys(piece.tool for piece in after):
        old, new = _measured(before, tool), _measured(after, tool)
        if old is None or new is None or old.id == new.id:
            continue
        if tool == "config_get":
            drafts = _parameters(old, new)
            same += [] if drafts else ["the configuration"]
        else:
            drafts = _values(tool, old, new, known, same)
        claims += [
            claim for d in drafts if isinstance(claim := check_claim(d, known, ours=True), Claim)
        ]
    return Changes(claims[:MOST_CHANGES], same)


def first_and_last(evidence: Sequence[Evidence]) -> tuple[list[Evidence], list[Evidence]]:
    """For each tool that looked more than once in the same way: its first look, and its last."""
    seen: dict[tuple[str, str], list[Evidence]] = {}
    for piece in evidence:
        if piece.measured:
            seen.setdefault((piece.tool, str(piece.args)), []).append(piece)
    twice = [pieces for pieces in seen.values() if len(pieces) > 1]
    return [pieces[0] for pieces in twice], [pieces[-1] for pieces in twice]


def _measured(evidence: Sequence[Evidence], tool: str) -> Evidence | None:
    return next((p for p in reversed(evidence) if p.tool == tool and p.measured), None)


def _values(
    tool: str, old: Evidence, new: Evidence, known: Index, same: list[str]
) -> list[ClaimDraft]:
    drafts = []
    for watched in (each for each in WATCHED if each.tool == tool):
        try:
            was = resolve(watched.path, old.id, known)
            now = resolve(watched.path, new.id, known)
        except FactRefused:
            continue
        if _differs(was, now):
            drafts.append(_went(watched.label, watched.path, watched.unit, old, new))
        else:
            same.append(watched.label.removeprefix("The ").rpartition(": its ")[2])
    return drafts


def _differs(was: object, now: object) -> bool:
    if isinstance(was, int | float) and isinstance(now, int | float):
        return abs(now - was) > LEAST_CHANGE * max(abs(was), abs(now))
    return was != now


def _parameters(old: Evidence, new: Evidence) -> list[ClaimDraft]:
    was, now = old.reading.get("parameters", {}), new.reading.get("parameters", {})
    return [
        _went(f"The parameter {printable(name, 80)}", f"parameters.{name}", "", old, new)
        for name in now
        if name in was and was[name] != now[name] and "." not in name
    ]


def _went(label: str, path: str, unit: str, old: Evidence, new: Evidence) -> ClaimDraft:
    facts = [
        FactDraft(name=name, evidence=piece.id, of=[path], unit=unit)
        for name, piece in (("before", old), ("after", new))
    ]
    return ClaimDraft(text=f"{label} went from {{before}} to {{after}}.", facts=facts)
