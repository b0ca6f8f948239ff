"""A small case in memory: evidence, one runbook, and looks that answer from a table."""

import copy
from datetime import UTC, datetime
from typing import Any

from agent.incident import FactDraft, Incident, Usage
from agent.memory_journal import MemoryLedger
from agent.runbook import Cause, FrontMatter, Library, Runbook
from tools.reading import Evidence
from tools.reads import READS

AT = datetime(2026, 1, 1, tzinfo=UTC)
MIB = 1024 * 1024
GONE = {
    "not_measured": "INFO memory maxmemory",
    "because": "NOPERM: no permission",
    "failure": "refused",
    "remedy": "",
}
MEMORY = {
    "used_memory": 96 * MIB,
    "counted_memory": 90 * MIB,
    "limit": 100 * MIB,
    "limit_source": "maxmemory",
    "maxmemory_policy": "noeviction",
    "pressure": 0.9,
    "mem_clients_normal": GONE,
}
BIGKEYS = {
    "keys_seen": 200_000,
    "bytes_seen": 61 * MIB,
    "top_by_bytes": [
        {"key": "user:42:", "type": "hash", "bytes": 3 * MIB, "elements": 500, "ttl_seconds": -1.0}
    ],
    "prefixes": [
        {"prefix": "session:", "keys": 199_000, "bytes": 60 * MIB, "without_ttl_share": 1.0},
        {"prefix": "96", "keys": 2, "bytes": 200, "without_ttl_share": 0.5},
    ],
}


def piece(number: int, tool: str, reading: dict[str, Any], measured: bool = True) -> Evidence:
    return Evidence(
        id=f"E{number}",
        tool=tool,
        args={},
        reading=copy.deepcopy(reading),  # the samples are shared by all tests
        measured=measured,
        taken_at=AT,
        target="cache-1",
        node="127.0.0.1:6379 (master)",
        summary=f"{tool} at a glance",
    )


def fact(
    name: str = "x", evidence: str = "E1", op: Any = "value", unit: str = "", *of: str
) -> FactDraft:
    return FactDraft(name=name, evidence=evidence, op=op, of=list(of), unit=unit)


def some_evidence() -> list[Evidence]:
    return [
        piece(1, "memory_info", MEMORY),
        piece(2, "bigkeys", BIGKEYS),
        piece(3, "clients", GONE, measured=False),
        piece(4, "config_get", {"parameters": {"maxmemory": "104857600", "save": ""}}),
    ]


def library() -> Library:
    causes = [
        Cause(
            id="missing-ttl-prefix-leak",
            title="Keys under one prefix never expire",
            supported_by={"prefix_never_expires": 3},
            ruled_out_by={"keys_expire_normally": 2},
        ),
        Cause(id="slow-pubsub-cob", title="A subscriber does not read"),
        Cause(id="noeviction-oom", title="Memory is full", kind="condition"),
        Cause(id="cache-full-by-design", title="A cache at its limit", kind="not_incident"),
    ]
    front = FrontMatter(id="memory-pressure", title="Memory pressure", causes=causes)
    body = "## Symptoms\nLook. The old password was requirepass hunter2."
    return Library(runbooks=[Runbook(front=front, body=body, path="memory-pressure.md")])


def incident(**given: Any) -> Incident:
    values = {
        "id": "I1",
        "status": "investigating",
        "severity": "critical",
        "title": "RedisMemoryHigh",
        "target": "cache-1",
        "opened_at": AT,
        "updated_at": AT,
    }
    return Incident.model_validate(values | given)


class Desk:
    """The Case of a test. `answers`: what a look with that tool will see."""

    def __init__(self, **answers: dict[str, Any]) -> None:
        self.incident = incident()
        self.runbooks = library()
        self.evidence = some_evidence()
        self.ledger = MemoryLedger()
        self.looks: list[tuple[str, dict[str, Any]]] = []
        self._answers = answers

    async def look(self, tool: str, arguments: dict[str, Any]) -> Evidence:
        args = READS[tool].args.model_validate(arguments)
        self.looks.append((tool, arguments))
        seen = piece(len(self.evidence) + 1, tool, self._answers.get(tool, {"seen": 1}))
        kept = seen.model_copy(update={"args": args.model_dump(exclude_defaults=True)})
        self.evidence.append(kept)
        return kept

    @property
    def usage(self) -> list[Usage]:
        return [exchange.usage for exchange in self.ledger.exchanges]
