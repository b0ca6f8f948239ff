"""Answers by code: from the incident's record, its evidence, and further read-only looks."""

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from agent.chat_topics import (
    SLOW,
    TOPICS,
    asked_parameter,
    kinds_of,
    latest,
    say,
    say_parameter,
    tool_of,
)
from agent.claims import check, how_sure
from agent.conversation import Look
from agent.incident import Action, Claim, Diagnosis, Incident
from agent.rules import ESSENTIAL, conclude, rank
from agent.runbook import Library
from agent.signals import detect
from tools.reading import Evidence, printable

MOST_CLAIMS = 12
MOST_ACTIONS = 10
_CAN_ASK = (
    "You can ask what is wrong, why, how sure it is, what to do and what that risks, what was "
    "ruled out or not measured, about memory, the biggest keys, clients, latency, errors, streams, "
    "replication or persistence, or for a configuration parameter by its name."
)

Intent = Literal[
    "safety", "plan", "sure", "ruled_out", "not_measured", "config", "keys", "clients", "latency",
    "errors", "streams", "replication", "persistence", "memory", "why", "wrong", "other",
]  # fmt: skip
# First match decides.
_INTENTS: tuple[tuple[Intent, str], ...] = (
    (
        "not_measured",
        r"not measured|unmeasured|could( not|n.t)|blind|missing|refused|did( not|n.t) see",
    ),
    ("ruled_out", r"ruled? out|rule .* out|alternatives?|other causes?|what else|could it be"),
    ("safety", r"\bsafe|\brisk|danger|harm|roll ?back|undo|revert"),
    ("sure", r"how (sure|certain)|confiden|are you sure|certainty|probab"),
    (
        "plan",
        r"what (should|can|do|must|to)\b.*\b(do|try|change)|\bfix|remed|\bplan\b|next step|resolve",
    ),
    ("keys", r"\bkeys?\b|prefix|big ?keys?"),
    ("clients", r"client|connect|subscri|pub.?sub|monitor|buffer"),
    ("latency", r"laten|slow|stall|p99"),
    ("errors", r"\berrors?\b|\boom\b|rejected"),
    ("streams", r"stream|xadd|consumer|pending"),
    ("replication", r"replica|primary|master|\blag"),
    ("persistence", r"persist|\brdb\b|\baof\b|bgsave|snapshot|\bsaves?\b"),
    ("why", r"\bwhy\b|because|evidence|proof|prove|how do you know"),
    ("memory", r"memory|\bram\b|\brss\b|fragment|\bfull\b|\bgrow"),
    ("config", r"config|setting|parameter"),
    ("wrong", r"wrong|happen|problem|cause|status|summary|sum up|going on|diagnos|healthy|\bok\b"),
)  # fmt: skip


@dataclass
class Question:
    """One question with all that may be used to answer it."""

    message: str
    incident: Incident | None
    evidence: list[Evidence]
    library: Library
    look: Look | None

    @property
    def diagnosis(self) -> Diagnosis | None:
        """What the incident's record says is wrong."""
        return self.incident.diagnosis if self.incident else None

    async def fill(self, tools: Sequence[str]) -> None:
        """Look, at once, with the tools of these that nobody has looked with yet."""
        looked = {piece.tool for piece in self.evidence}
        if self.look is not None:
            missing = [tool for tool in tools if tool not in looked]
            await asyncio.gather(*(self.seen(tool, {}) for tool in missing))

    async def seen(self, tool: str, arguments: dict[str, Any]) -> Evidence:
        """Look at the server, and keep what was seen for this answer."""
        if self.look is None:
            raise LookupError("no server is attached to this conversation")
        piece = await self.look(tool, arguments)
        if all(known.id != piece.id for known in self.evidence):
            self.evidence.append(piece)
        return piece


@dataclass
class Said:
    """An answer in the making: plain sentences, then claims."""

    plain: list[str]
    claims: list[Claim]

    @property
    def text(self) -> str:
        """All of it, in order."""
        return " ".join([*self.plain, *(claim.text for claim in self.claims)])


def intent_of(message: str) -> Intent:
    """What a question is about, by its words."""
    text = message.lower()
    if asked_parameter(text) and not re.search(r"\bsafe|\brisk|\bwhy\b", text):
        return "config"
    return next((intent for intent, words in _INTENTS if re.search(words, text)), "other")


async def by_rules(question: Question, intent: Intent) -> Said:
    """An answer without a model."""
    if intent in RECORD:
        return RECORD[intent](question)
    if intent == "config":
        return await _config(question)
    if intent in TOPICS:
        return await _topic(question, intent)
    if intent in ("wrong", "why"):
        return _why(question) if intent == "why" else await _wrong(question)
    return Said([f"I don't know what to look at for that. {_CAN_ASK}"], [])


async def _wrong(question: Question) -> Said:
    diagnosis = question.diagnosis
    if diagnosis is not None:
        return Said([diagnosis.summary], diagnosis.claims[1:4])
    await question.fill(ESSENTIAL)
    return _as_the_rules_see_it(question)


def _as_the_rules_see_it(question: Question) -> Said:
    """The rules' conclusion from what was measured so far."""
    if not any(piece.measured for piece in question.evidence):
        return dont_know("; ".join(_gaps(question.evidence)[:3]) or "nothing was measured yet")
    signals = detect(question.evidence)
    ranked = rank(signals, question.library, question.message)
    measured = {piece.tool for piece in question.evidence if piece.measured}
    failed = {piece.tool: _because(piece) for piece in question.evidence if not piece.measured}
    unseen = {tool: failed.get(tool, "was not run") for tool in ESSENTIAL if tool not in measured}
    diagnosis = check(conclude(signals, ranked, unseen), question.evidence, question.library)
    if not isinstance(diagnosis, Diagnosis):
        return dont_know("; ".join(diagnosis[:3]))
    gaps = [f"Not measured: {'; '.join(diagnosis.not_measured[:4])}."]
    plain = [diagnosis.summary, *(gaps if diagnosis.not_measured else [])]
    return Said(plain, diagnosis.claims[1:5])


def _why(question: Question) -> Said:
    diagnosis = question.diagnosis
    if diagnosis is None:
        return _as_the_rules_see_it(question)
    if not diagnosis.claims:
        return dont_know("no evidence speaks for a cause")
    return Said([f"{diagnosis.title.rstrip('.')}, because:"], diagnosis.claims)


def _sure(question: Question) -> Said:
    diagnosis = question.diagnosis
    if diagnosis is None:
        return dont_know("there is no diagnosis to be sure of")
    plain = [f"{how_sure(diagnosis.confidence).capitalize()}: {diagnosis.title.rstrip('.')}."]
    if diagnosis.overruled is not None:
        lost = diagnosis.overruled
        plain.append(f"{lost.reasoner} said {lost.root_cause}; {lost.reason}.")
    if diagnosis.not_measured:
        plain.append(f"Not measured: {'; '.join(diagnosis.not_measured[:3])}.")
    if diagnosis.escalate:
        plain.append("A person should look at this one.")
    return Said(plain, diagnosis.claims[:2])


def _ruled_out(question: Question) -> Said:
    diagnosis = question.diagnosis
    if diagnosis is None or not diagnosis.alternatives:
        return dont_know("no alternative is on record")
    causes = question.library.causes()
    plain = [
        f"{causes[other.root_cause].title if other.root_cause in causes else other.root_cause}"
        f" ({how_sure(other.confidence)}): {other.why_not.rstrip('.')}."
        for other in diagnosis.alternatives
    ]
    return Said(plain, [])


def _not_measured(question: Question) -> Said:
    known = question.diagnosis.not_measured if question.diagnosis else []
    gaps = list(dict.fromkeys([*known, *_gaps(question.evidence)]))
    if not question.evidence and not gaps:
        return dont_know("nothing was looked at yet")
    if not gaps:
        return Said(["Every look that was taken was answered."], [])
    return Said([f"Not measured: {'; '.join(gaps[:12])}."], [])


def _plan(question: Question) -> Said:
    actions = question.incident.plan.actions if question.incident else []
    if not actions:
        return dont_know("no plan is on record")
    plain = [
        f"{action.id}: {action.title.rstrip('.')} ({action.risk}, {action.status}). "
        f"{action.predicted_effect}".strip()
        for action in actions[:MOST_ACTIONS]
    ]
    plain.append("Nothing is applied from here: a person with the right role approves an action.")
    return Said(plain, [])


def _safety(question: Question) -> Said:
    actions = question.incident.plan.actions if question.incident else []
    named = [action for action in actions if re.search(rf"\b{action.id}\b", question.message, re.I)]
    if not actions:
        return dont_know("no plan is on record, and I judge nothing that is not in one")
    plain = [_risk_of(action) for action in (named or actions)[:MOST_ACTIONS]]
    plain.append("What is not in the plan was not judged.")
    return Said(plain, [])


def _risk_of(action: Action) -> str:
    parts = [
        f"{action.id}, {action.title.rstrip('.')}: risk {action.risk}.",
        action.predicted_effect,
        f"Undo: {action.rollback}" if action.rollback else "",
        f"Never touches: {action.never_touches}" if action.never_touches else "",
    ]
    failing = [check.text for check in action.preconditions if check.holds is not True]
    if failing:
        parts.append(f"Preconditions that do not hold or were not measured: {'; '.join(failing)}.")
    return " ".join(part for part in parts if part)


RECORD: dict[Intent, Callable[[Question], Said]] = {
    "sure": _sure,
    "ruled_out": _ruled_out,
    "not_measured": _not_measured,
    "plan": _plan,
    "safety": _safety,
}


async def _topic(question: Question, topic: str) -> Said:
    await question.fill([tool_of(kind) for kind in kinds_of(topic) if kind not in SLOW])
    claims, gaps = say(topic, question.evidence)
    if not claims:
        looked = any(latest(question.evidence, kind) for kind in kinds_of(topic))
        if looked and not gaps:
            return Said([f"The server reports nothing for {topic}."], [])
        return dont_know("; ".join(gaps[:3]))
    plain = [f"Not measured: {'; '.join(gaps[:3])}."] if gaps else []
    return Said(plain, claims[:MOST_CLAIMS])


async def _config(question: Question) -> Said:
    name = asked_parameter(question.message)
    if not name:
        return dont_know("name the parameter; passwords are never read")
    said = say_parameter(name, question.evidence)
    if not isinstance(said, Claim) and question.look is not None:
        await question.seen("config_get", {"parameters": [name]})
        said = say_parameter(name, question.evidence)
    return Said([], [said]) if isinstance(said, Claim) else dont_know("; ".join(said))


def dont_know(reason: str) -> Said:
    """Honestly, with what could be asked."""
    return Said([f"I don't know: {reason}. {_CAN_ASK}"], [])


def _gaps(evidence: Sequence[Evidence]) -> list[str]:
    return [f"{piece.tool}: {_because(piece)}" for piece in evidence if not piece.measured]


def _because(piece: Evidence) -> str:
    return printable(str(piece.reading.get("because", "no reason")), 160)
