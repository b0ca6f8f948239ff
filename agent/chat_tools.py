"""What a model may consult in chat besides the server: the runbooks and the service's records.

Functions like the read-only tools. What they yield has the form of evidence, so that a claim about
an incident rests on paths into it and passes the same check.
"""

import re
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, Field

from agent.chat_question import Question
from agent.digest import LONGEST_TEXT
from agent.incident import Incident
from agent.redaction import redact_tree
from agent.runbook_search import Passage
from tools.catalogue import Arguments
from tools.reading import Evidence, printable

MOST_SECTIONS = 3
MOST_LINES = 5
"""Of a section, from the most telling on: few enough that a digest keeps them all."""
MOST_LISTED = 20
MOST_ACTIONS = 10


class SearchArguments(Arguments):
    """What to look for."""

    query: str = Field(min_length=2, max_length=300, description="A few words, English.")


class ListArguments(Arguments):
    """Which incidents; empty: all."""

    status: str = Field(default="", max_length=40, description="Such as awaiting_approval.")
    target: str = Field(default="", max_length=200, description="A server's name.")


class IncidentArguments(Arguments):
    """Which incident."""

    incident_id: str = Field(max_length=64)


@dataclass(frozen=True)
class Consulted:
    """One function; offered like a read-only tool."""

    name: str
    description: str
    args: type[BaseModel]


CONSULT: dict[str, Consulted] = {
    each.name: each
    for each in (
        Consulted(
            "search_runbooks",
            "Sections of the runbooks that answer a question about Redis or Valkey, best first. "
            "Source: the runbooks.",
            SearchArguments,
        ),
        Consulted(
            "list_incidents",
            "The newest incidents with status, severity, age in seconds and cause. Source: the "
            "service's record.",
            ListArguments,
        ),
        Consulted(
            "get_incident",
            "One incident: alerts, diagnosis, plan with risks and approvals, what was looked at. "
            "Source: the service's record.",
            IncidentArguments,
        ),
    )
}


async def consult(question: Question, name: str, arguments: dict[str, Any]) -> Evidence:
    """Answer one call; kept, so that claims can cite it. Raises ValidationError for bad ones."""
    args = CONSULT[name].args.model_validate(arguments)
    await question.tell(
        f"searching the runbooks for {args.query}"
        if isinstance(args, SearchArguments)
        else "reading the record"
    )
    reading, summary, own_id = await _read(question, args)
    piece = Evidence(
        id=own_id or f"record-{len(question.consulted) + 1}",
        tool=name,
        args=args.model_dump(mode="json"),
        reading=redact_tree(reading),
        measured="not_measured" not in reading,
        taken_at=question.now,
        target=question.target,
        node="the service",
        summary=printable(summary, 200),
    )
    question.consulted = [known for known in question.consulted if known.id != piece.id] + [piece]
    return piece


async def _read(question: Question, args: BaseModel) -> tuple[dict[str, Any], str, str]:
    """The reading, in one line, and the id to cite it by (empty: the next number)."""
    if isinstance(args, SearchArguments):
        found = question.search.find(args.query, MOST_SECTIONS)
        sections = [
            {"runbook": p.runbook, "section": p.section, "text": _lines(question, p, args.query)}
            for p in found
        ]
        return {"sections": sections}, f"{len(sections)} sections of runbooks", ""
    if isinstance(args, ListArguments):
        incidents = (await question.records.recent(args.target, args.status))[:MOST_LISTED]
        rows = [_row(incident, question) for incident in incidents]
        return {"listed": len(rows), "incidents": rows}, f"{len(rows)} incidents", ""
    assert isinstance(args, IncidentArguments)  # noqa: S101 - there are three kinds
    incident = await question.records.incident(args.incident_id)
    if incident is None:
        because = "there is no such incident"
        return {"not_measured": "incident", "because": because}, because, ""
    return whole(incident, question), incident.title, incident.id


def _lines(question: Question, passage: Passage, query: str) -> list[str]:
    """Sentence by sentence: a digest cuts long texts, and what is cut cannot be quoted."""
    units = question.search.telling(passage, query)
    lines = [
        line
        for unit in units
        for line in ([unit] if len(unit) <= LONGEST_TEXT else _SENTENCE.split(unit))
    ]
    return lines[:MOST_LINES]


_SENTENCE = re.compile(r"(?<=[.:;]) ")


def _row(incident: Incident, question: Question) -> dict[str, Any]:
    found = incident.diagnosis
    return {
        "id": incident.id,
        "target": incident.target,
        "status": incident.status,
        "severity": incident.severity,
        "title": incident.title,
        "age_seconds": max(0, round((question.now - incident.opened_at).total_seconds())),
        "root_cause": found.root_cause if found else None,
        "cause": found.title if found else None,
        "confidence_share": found.confidence if found else None,
    }


def whole(incident: Incident, question: Question) -> dict[str, Any]:
    """An incident as the model sees it."""
    found = incident.diagnosis
    return _row(incident, question) | {
        "ended_because": incident.ended_because,
        "alerts": [alert.name for alert in incident.alerts[:5]],
        "culprit": found.culprit.model_dump() if found else None,
        "claims": [claim.text for claim in found.grounds[:6]] if found else [],
        "changed_since_healthy_times": [c.text for c in found.changes[:6]] if found else [],
        "alternatives": [
            {"root_cause": a.root_cause, "confidence_share": a.confidence, "why_not": a.why_not}
            for a in (found.alternatives if found else [])[:4]
        ],
        "could_not_be_measured": found.not_measured[:6] if found else [],
        "actions": [
            {
                "id": action.id,
                "title": action.title,
                "risk": action.risk,
                "status": action.status,
                "executable": action.executable,
                "predicted_effect": action.predicted_effect,
                "rollback": action.rollback,
                "approvals": len(action.approvals),
                "approvals_required": action.approvals_required,
            }
            for action in incident.plan.actions[:MOST_ACTIONS]
        ],
        "looked_with": list(dict.fromkeys(piece.tool for piece in incident.evidence)),
    }
