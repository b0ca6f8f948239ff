"""A solved incident, a service's record in memory, and asking about them."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from agent.chat import ChatAnswer, answer
from agent.conversation import Look
from agent.incident import (
    Action,
    Alternative,
    Approval,
    Claim,
    Culprit,
    Diagnosis,
    EvidenceSummary,
    Fact,
    Incident,
    Plan,
    Precondition,
)
from tests.agent.desk import AT, MIB, incident, library, piece, some_evidence
from tools.connection import Connection
from tools.reading import Evidence
from tools.reads import READS


def solved(**changed: Any) -> Incident:
    """Diagnosed, with a plan of which one action waits and one was approved by Ada."""
    holds = Fact(name="bytes", evidence="E2", of=["prefixes.0.bytes"], unit="bytes", value=60 * MIB)
    diagnosis = Diagnosis(
        root_cause="missing-ttl-prefix-leak",
        title="Keys under one prefix never expire",
        is_incident=True,
        confidence=0.82,
        summary='Keys under one prefix never expire. "session:" holds 60.0 MiB.',
        culprit=Culprit(kind="prefix", name="session:"),
        claims=[
            Claim(text='"session:" holds 60.0 MiB.', facts=[holds]),
            Claim(text="Nothing under it expires.", facts=[]),
        ],
        alternatives=[
            Alternative(root_cause="slow-pubsub-cob", confidence=0.1, why_not="buffers are small")
        ],
        not_measured=["slowlog: NOPERM"],
    )
    expire = Action(
        id="A1", fingerprint="f1f1", kind="expire_prefix",
        title="Give the keys under session: a TTL", arguments={}, risk="R3",
        predicted_effect="Keys expire within a day.", rollback="PERSIST what was changed.",
        verification="Keys with a TTL are counted.", approvals_required=2,
        never_touches="Keys that already expire.",
        preconditions=[
            Precondition(text="it is the primary", holds=True),
            Precondition(text="the owner agrees", because="nobody was asked"),
        ],
    )  # fmt: skip
    done = Action(
        id="A2", fingerprint="f2f2", kind="set_config", title="Raise maxmemory", arguments={},
        risk="R1", status="verified", rollback="Put the old value back.",
        approvals=[Approval(by="ada", role="approver", at=AT + timedelta(minutes=5))],
    )  # fmt: skip
    looks = [
        EvidenceSummary(
            id=p.id, tool=p.tool, args={}, node=p.node, summary=p.summary, taken_at=p.taken_at
        )
        for p in some_evidence()
    ]
    return incident(
        **{
            "diagnosis": diagnosis,
            "status": "awaiting_approval",
            "plan": Plan(actions=[expire, done], prevention=["Set a TTL where it is written."]),
            "evidence": looks,
        }
        | changed
    )


class Kept:
    """A service's record in memory."""

    def __init__(self, *kept: Incident, evidence: dict[str, list[Evidence]] | None = None) -> None:
        self._kept = kept
        self._evidence = evidence or {}

    async def recent(self, target: str = "", status: str = "") -> list[Incident]:
        return [
            one for one in self._kept if target in ("", one.target) and status in ("", one.status)
        ]

    async def incident(self, incident_id: str) -> Incident | None:
        return next((one for one in self._kept if one.id == incident_id), None)

    async def evidence(self, incident_id: str) -> list[Evidence]:
        return self._evidence.get(incident_id, [])


async def ask(message: str, **given: Any) -> ChatAnswer:
    """About the solved incident, unless told otherwise."""
    values: dict[str, Any] = {
        "incident": solved(),
        "evidence": some_evidence(),
        "library": library(),
    }
    return await answer(message, **(values | given))


def looking(connection: Connection, seen: list[Evidence]) -> Look:
    """Looks at a live server, kept in `seen`."""

    async def look(tool: str, arguments: dict[str, Any]) -> Evidence:
        reading = await READS[tool].call(connection, arguments)
        values = reading.model_dump(mode="json")
        seen.append(piece(len(seen) + 1, tool, values, "not_measured" not in values))
        return seen[-1]

    return look


def evidence_of(said: ChatAnswer) -> Sequence[str]:
    """Which evidence the claims of an answer rest on."""
    return list(dict.fromkeys(fact.evidence for claim in said.claims for fact in claim.facts))
