"""Answers from an incident's record: how sure, what to do and risk, who approved, what was done."""

import re
from collections.abc import Awaitable, Callable
from datetime import datetime

from agent.chat_intents import Intent
from agent.chat_question import Question, Said, about_incident, dont_know, quoted
from agent.chat_refusal import how_to_approve
from agent.chat_topics import because
from agent.claims import how_sure
from agent.facts import print_seconds
from agent.incident import Action, Incident
from agent.report import moments
from tools.reading import printable
from tools.reads import READS

MOST_ACTIONS = 10
MOST_INCIDENTS = 20
OPEN = frozenset(
    {"queued", "investigating", "awaiting_approval", "remediating", "verifying", "needs_human"}
)
_RISK = {
    "R0": "nothing is written",
    "R1": "changes configuration",
    "R2": "drops a client or a link",
    "R3": "changes or expires data",
    "R4": "restarts or resizes",
}


async def _sure(question: Question) -> Said:
    diagnosis = question.diagnosis
    if diagnosis is None or question.incident is None:
        return dont_know("there is no diagnosis to be sure of")
    plain = [f"{how_sure(diagnosis.confidence).capitalize()}: {diagnosis.title.rstrip('.')}."]
    if diagnosis.overruled is not None:
        lost = diagnosis.overruled
        plain.append(f"{lost.reasoner} said {lost.root_cause}; {lost.reason}.")
    if diagnosis.not_measured:
        plain.append(f"Not measured: {'; '.join(diagnosis.not_measured[:3])}.")
    if diagnosis.escalate:
        plain.append("A person should look at this one.")
    return Said(plain, diagnosis.claims[:2], [about_incident(question.incident)])


async def _ruled_out(question: Question) -> Said:
    diagnosis = question.diagnosis
    if diagnosis is None or not diagnosis.alternatives or question.incident is None:
        return dont_know("no alternative is on record")
    causes = question.library.causes()
    plain = [
        f"{causes[other.root_cause].title if other.root_cause in causes else other.root_cause}"
        f" ({how_sure(other.confidence)}): {other.why_not.rstrip('.')}."
        for other in diagnosis.alternatives
    ]
    return Said(plain, [], [about_incident(question.incident)])


async def _not_measured(question: Question) -> Said:
    known = question.diagnosis.not_measured if question.diagnosis else []
    seen = [f"{p.tool}: {because(p)}" for p in question.evidence if not p.measured]
    gaps = list(dict.fromkeys([*known, *seen]))
    if not question.evidence and not gaps:
        return dont_know("nothing was looked at yet")
    if not gaps:
        return Said(["Every look that was taken was answered."])
    return Said([f"Not measured: {'; '.join(gaps[:12])}."])


async def _plan(question: Question) -> Said:
    incident = question.incident
    if incident is None or not (incident.plan.actions or incident.plan.prevention):
        return dont_know("no plan is on record")
    plain = [
        f"{action.id}: {action.title.rstrip('.')} ({action.risk}, {action.status}"
        f"{'' if action.executable else ', for a person'}). {action.predicted_effect}".strip()
        for action in incident.plan.actions[:MOST_ACTIONS]
    ]
    if incident.plan.prevention:
        plain.append(f"So that it does not come back: {incident.plan.prevention[0].rstrip('.')}.")
    plain.append("Nothing is applied from here: a person with the right role approves an action.")
    return Said(plain, [], [about_incident(incident)])


async def _safety(question: Question) -> Said:
    incident = question.incident
    if incident is None or not incident.plan.actions:
        said = dont_know("no plan is on record, and I judge nothing that is not in one")
        passages = question.search.find(question.message, 1)
        for passage in passages:
            said = quoted(passage, question.search.quote(passage, question.message)) + said
        return said
    actions = incident.plan.actions
    named = [a for a in actions if re.search(rf"\b{a.id}\b", question.message, re.IGNORECASE)]
    plain = [_risk_of(action) for action in (named or actions)[:MOST_ACTIONS]]
    plain.append(
        "Preconditions are checked again immediately before an action is applied. What is not in "
        "the plan was not judged."
    )
    return Said(plain, [], [about_incident(incident)])


def _risk_of(action: Action) -> str:
    failing = [check for check in action.preconditions if check.holds is not True]
    holding = [check.text for check in action.preconditions if check.holds is True]
    parts = [
        f"{action.id}, {action.title.rstrip('.')}: risk {action.risk} ({_RISK[action.risk]}).",
        action.predicted_effect,
        f"Verified by: {action.verification}" if action.verification else "",
        f"Undo: {action.rollback}" if action.rollback else "There is no undo on record.",
        f"Never touches: {action.never_touches}" if action.never_touches else "",
        f"Preconditions that hold: {'; '.join(holding)}." if holding else "",
    ]
    if failing:
        texts = (f"{c.text} ({c.because})" if c.because else c.text for c in failing)
        parts.append(f"Preconditions that do not hold or were not measured: {'; '.join(texts)}.")
    return " ".join(part for part in parts if part)


async def _approvals(question: Question) -> Said:
    """Who decided what; where nothing is decided, what waits."""
    incident = question.incident
    if incident is None:
        return await how_to_approve(question)
    lines = [line for action in incident.plan.actions for line in _decided(action)]
    said = Said(lines or ["Nobody has approved or rejected anything."])
    said.citations.append(about_incident(incident))
    waiting = any(a.executable and a.status == "proposed" for a in incident.plan.actions)
    return said + await how_to_approve(question) if waiting else said


def _decided(action: Action) -> list[str]:
    lines = [
        f"{action.id} ({action.status}) was approved by {approval.by} ({approval.role}) at "
        f"{_at(approval.at)}{f': {approval.comment}' if approval.comment else ''}."
        for approval in action.approvals
    ]
    if action.rejected_by is not None:
        lines.append(f"{action.id} was rejected by {action.rejected_by}.")
    return lines


async def timeline(question: Question) -> Said:
    """What happened and what was done, in order."""
    incident = question.incident
    if incident is None:
        return await all_incidents(question)
    happened = sorted(moments(incident, printable), key=lambda entry: entry[0])
    plain = [f"{_at(moment)} {what}" for moment, what in happened[:40]]
    tools = list(dict.fromkeys(piece.tool for piece in incident.evidence))
    if tools:
        plain.append(f"Looked at, read-only: {', '.join(tools)}.")
    applied = [a for a in incident.plan.actions if a.status not in ("proposed", "rejected")]
    plain += [f"{a.id}, {a.title.rstrip('.')}: {a.status.replace('_', ' ')}." for a in applied]
    if not applied:
        plain.append("Nothing was changed on the server.")
    return Said(plain, citations=[about_incident(incident)])


async def _next(question: Question) -> Said:
    """The looks that would tell the leading causes apart, and the first action that waits."""
    diagnosis = question.diagnosis
    seen = {piece.tool for piece in question.evidence}
    named = (
        [diagnosis.root_cause, *(a.root_cause for a in diagnosis.alternatives)] if diagnosis else []
    )
    causes = question.library.causes()
    looks = [
        f"{ask.tool} (it tells {causes[cause].title.rstrip('.').lower()} from the others)"
        for cause in named
        if cause in causes
        for ask in causes[cause].ask_next
        if ask.tool in READS and ask.tool not in seen
    ]
    plain = [f"I would look next, read-only, with {look}." for look in dict.fromkeys(looks)][:4]
    if not plain:
        plain = ["Every look that would tell the leading causes apart was taken."] if seen else []
    actions = question.incident.plan.actions if question.incident else []
    waiting = [action for action in actions if action.status == "proposed"]
    if waiting:
        first = waiting[0]
        plain.append(
            f"Of the plan, {first.id} comes first: {first.title.rstrip('.')} ({first.risk})."
        )
    if not plain:
        return dont_know("nothing was looked at yet; ask whether the server is healthy")
    return Said(plain, citations=[about_incident(question.incident)] if question.incident else [])


async def all_incidents(question: Question) -> Said:
    """Every incident with its status, severity and age: the open ones first."""
    found = await question.records.recent(question.target if not question.incident else "")
    if not found:
        return Said(["There is no incident on record."])
    open_ = [incident for incident in found if incident.status in OPEN]
    over = [incident for incident in found if incident.status not in OPEN]
    shown = [*open_, *over][:MOST_INCIDENTS]
    head = f"{len(open_)} open, {len(over)} over, of the newest {len(found)}:"
    lines = [_line(incident, question.now) for incident in shown]
    return Said([head, *lines], citations=[about_incident(incident) for incident in shown])


def _line(incident: Incident, now: datetime) -> str:
    age = print_seconds(max(0.0, round((now - incident.opened_at).total_seconds())))
    found = f": {incident.diagnosis.title.rstrip('.')}" if incident.diagnosis else ""
    why = f" ({incident.ended_because.rstrip('.')})" if incident.ended_because else ""
    return (
        f"{incident.id} {incident.target or 'no target'}, {incident.severity}, "
        f"{incident.status.replace('_', ' ')}{why}, opened {age} ago{found}."
    )


def _at(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


RECORD: dict[Intent, Callable[[Question], Awaitable[Said]]] = {
    "sure": _sure,
    "ruled_out": _ruled_out,
    "not_measured": _not_measured,
    "plan": _plan,
    "safety": _safety,
    "approvals": _approvals,
    "next": _next,
}
