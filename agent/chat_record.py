"""Answers from the record: how sure, how bad, what was done, seen before or not measured."""

from collections.abc import Awaitable, Callable
from datetime import datetime

from agent.arbitration import told
from agent.budget import cost
from agent.chat_plan import action, approvals, checklist, plan, safety
from agent.chat_question import CAN_ASK, Question, Said, about_incident, dont_know
from agent.chat_topics import because
from agent.chat_wordings import Intent
from agent.claims import how_sure
from agent.facts import print_seconds
from agent.incident import Incident
from agent.report_timeline import moments
from tools.reading import printable
from tools.reads import READS

MOST_INCIDENTS = 20
OPEN = frozenset(
    {"queued", "investigating", "awaiting_approval", "remediating", "verifying", "needs_human"}
)


async def _sure(question: Question) -> Said:
    diagnosis = question.diagnosis
    if diagnosis is None or question.incident is None:
        return dont_know("there is no diagnosis to be sure of")
    plain = [f"{how_sure(diagnosis.confidence).capitalize()}: {diagnosis.title.rstrip('.')}."]
    if diagnosis.overruled is not None:
        plain.append(f"{told(diagnosis.overruled)}.")
    if diagnosis.not_measured:
        plain.append(f"Not measured: {'; '.join(diagnosis.not_measured[:3])}.")
    if diagnosis.escalate:
        plain.append("A person should look at this one.")
    return Said(plain, diagnosis.grounds[:2], [about_incident(question.incident)])


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


async def _severity(question: Question) -> Said:
    """How bad it is, and whether a person has to look."""
    incident, diagnosis = question.incident, question.diagnosis
    if incident is None:
        return await all_incidents(question)
    plain = [f"Severity {incident.severity}; it is {incident.status.replace('_', ' ')}."]
    if diagnosis is not None:
        real = "an incident" if diagnosis.is_incident else "not an incident, as far as was measured"
        sure = how_sure(diagnosis.confidence)
        plain.append(f"{diagnosis.title.rstrip('.')}: {real} ({sure}).")
        plain.append(
            "A person should look at this one now."
            if diagnosis.escalate
            else "The diagnosis does not ask for a person beyond the approvals."
        )
    return Said(plain, diagnosis.grounds[:2] if diagnosis else (), [about_incident(incident)])


async def _reasoner(question: Question) -> Said:
    """Who decided, and who was overruled."""
    diagnosis = question.diagnosis
    if diagnosis is None or question.incident is None:
        return dont_know("there is no diagnosis on record")
    plain = [f"Decided by {diagnosis.reasoner}: {diagnosis.title.rstrip('.')}."]
    if (lost := diagnosis.overruled) is not None:
        plain.append(f"{told(lost)}.")
    else:
        plain.append("Nobody was overruled.")
    return Said(plain, [], [about_incident(question.incident)])


async def _cost(question: Question) -> Said:
    """What the investigation took."""
    if question.incident is None:
        return dont_know("no incident is named")
    return Said([cost(question.incident.usage)], [], [about_incident(question.incident)])


async def _runbooks(question: Question) -> Said:
    """Which runbooks were loaded, and why; without an incident, all there are."""
    if question.incident is None:
        books = [f"{book.id}: {book.front.title}" for book in question.library.runbooks]
        return Said([f"{len(books)} runbooks are loaded:", *books[:60]])
    used = [f"{book.id}: {book.why}" for book in question.incident.runbooks]
    return Said(used or ["No runbook was loaded."], [], [about_incident(question.incident)])


async def _before(question: Question) -> Said:
    """Earlier incidents of the same server, and how many had the same cause."""
    incident, diagnosis = question.incident, question.diagnosis
    if incident is None:
        return await all_incidents(question)
    found = await question.records.recent(incident.target)
    earlier = [one for one in found if one.id < incident.id]
    if not earlier:
        return Said([f"No earlier incident of {incident.target} is on record."])
    cause = diagnosis.root_cause if diagnosis else None
    alike = [one for one in earlier if one.diagnosis and one.diagnosis.root_cause == cause]
    head = f"{len(earlier)} earlier incidents of {incident.target}, {len(alike)} with this cause:"
    lines = [_line(one, question.now) for one in [*alike, *earlier] if one]
    citations = [about_incident(one) for one in earlier]
    return Said([head, *dict.fromkeys(lines)], citations=citations)


async def targets(question: Question) -> Said:
    """The servers that can be asked about."""
    names = ", ".join(question.targets[:50])
    return Said([f"Configured: {names}." if names else "No server is configured."])


async def abilities(question: Question) -> Said:
    """What this can see and do."""
    said = Said(
        [
            "I read: measurements of servers with read-only tools, the record of incidents, and "
            "the runbooks. I never read the values of keys, and I change and approve nothing.",
            CAN_ASK,
        ]
    )
    return said + await targets(question)


RECORD: dict[Intent, Callable[[Question], Awaitable[Said]]] = {
    "approvals": approvals,
    "before": _before,
    "runbooks": _runbooks,
    "cost": _cost,
    "reasoner": _reasoner,
    "not_measured": _not_measured,
    "severity": _severity,
    "action": action,
    "checklist": checklist,
    "ruled_out": _ruled_out,
    "timeline": timeline,
    "safety": safety,
    "sure": _sure,
    "next": _next,
    "plan": plan,
}
"""Of an incident; without one, of the one that is open on the server."""
