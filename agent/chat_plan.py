"""Answers from an incident's plan: what to do, what it risks, who approved, what came of it."""

import re

from agent.chat_question import Question, Said, about_incident, dont_know, quoted
from agent.chat_refusal import how_to_approve
from agent.incident import Action, Incident

MOST_ACTIONS = 10
_RISK = {
    "R0": "nothing is written",
    "R1": "changes configuration",
    "R2": "drops a client or a link",
    "R3": "changes or expires data",
    "R4": "restarts or resizes",
}
_COMMANDS = re.compile(r"\b[A-Z]{3,}(?: [A-Z]{3,})?\b")


async def plan(question: Question) -> Said:
    """The actions, least risk first, and what keeps it from coming back."""
    incident = question.incident
    if incident is None or not (incident.plan.actions or incident.plan.prevention):
        return _from_runbooks(question) or dont_know("no plan is on record")
    plain = [
        f"{action.id}: {action.title.rstrip('.')} ({action.risk}, {action.status}"
        f"{'' if action.executable else ', for a person'}). {action.predicted_effect}".strip()
        for action in incident.plan.actions[:MOST_ACTIONS]
    ]
    if incident.plan.prevention:
        plain.append(f"So that it does not come back: {incident.plan.prevention[0].rstrip('.')}.")
    plain.append("Nothing is applied from here: a person with the right role approves an action.")
    return Said(plain, [], [about_incident(incident)])


def _from_runbooks(question: Question) -> Said | None:
    """Where nothing was investigated: what runbooks advise on what the question names."""
    passages = question.search.find(question.message, 2)
    if not passages:
        return None
    said = Said(["No plan is on record. The runbooks say:"])
    for passage in passages:
        said = said + quoted(passage, question.search.quote(passage, question.message))
    return said


async def safety(question: Question) -> Said:
    """Risk, undo and preconditions; what runbooks warn of, for a command that is in no plan."""
    said = Said()
    for command in _COMMANDS.findall(question.message)[:2]:
        for passage in question.search.find(command, 1):
            said = said + quoted(passage, question.search.quote(passage, command))
    incident = question.incident
    if incident is None or not incident.plan.actions:
        return said + dont_know("no plan is on record, and I judge nothing that is not in one")
    actions = _named(incident, question.message) or incident.plan.actions
    plain = [_risk_of(action) for action in actions[:MOST_ACTIONS]]
    plain.append(
        "Preconditions are checked again immediately before an action is applied. What is not in "
        "the plan was not judged."
    )
    return said + Said(plain, [], [about_incident(incident)])


def _named(incident: Incident, message: str) -> list[Action]:
    """The actions that a message names by id."""
    return [a for a in incident.plan.actions if re.search(rf"\b{a.id}\b", message, re.IGNORECASE)]


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


async def action(question: Question) -> Said:
    """What an action does, with which commands, and what came of it."""
    incident = question.incident
    if incident is None or not incident.plan.actions:
        return dont_know("no plan is on record")
    actions = _named(incident, question.message) or incident.plan.actions
    plain = [line for each in actions[:MOST_ACTIONS] for line in _about(each)]
    return Said(plain, [], [about_incident(incident)])


def _about(action: Action) -> list[str]:
    status = action.status.replace("_", " ")
    who = "" if action.executable else ", for a person to carry out"
    note = f": {action.comment.rstrip('.')}" if action.comment else ""
    lines = [f"{action.id}, {action.title.rstrip('.')}: {status}{note} (risk {action.risk}{who})."]
    lines += [f"Sends: {' '.join(command)}" for command in action.commands[:4]]
    for label, text in (("Effect", action.predicted_effect), ("Verified by", action.verification)):
        if text:
            lines.append(f"{label}: {text}")
    return lines


async def approvals(question: Question) -> Said:
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
        f"{approval.at:%Y-%m-%d %H:%M:%S} UTC{f': {approval.comment}' if approval.comment else ''}."
        for approval in action.approvals
    ]
    if action.rejected_by is not None:
        lines.append(f"{action.id} was rejected by {action.rejected_by}.")
    return lines


async def checklist(question: Question) -> Said:
    """The runbooks' checklist against this server: what failed, then what passed."""
    incident = question.incident
    items = incident.plan.checklist if incident else []
    if incident is None or not items:
        return dont_know("no checklist was evaluated")
    order = ("fail", "pass", "not_measured")
    plain = [
        f"{result.replace('_', ' ')}: {item.text.rstrip('.')} ({item.because.rstrip('.')})."
        for result in order
        for item in items
        if item.result == result
    ]
    return Said(plain[:30], [], [about_incident(incident)])
