"""The rule-based reasoner: every cause of every runbook, scored by the signals that fired.

Pure but for the looks it asks the case to take. It always runs, and needs no model.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from agent.context import Case
from agent.incident import Alternative, ClaimDraft, DiagnosisDraft, Incident
from agent.ranking import TOP, RankedCause, calibrated, culprit_of, rank
from agent.runbook import Library
from agent.signals import SIGNALS, Signals, detect
from tools.reading import NotMeasured

__all__ = ["RankedCause", "Rules", "conclude", "rank", "said"]

MOST_LOOKS = 8
"""Looks asked for beyond the baseline."""
MOST_CLAIMS = 10
LEADING = 3
"""Candidates whose discriminating tools are run."""
ESSENTIAL: tuple[str, ...] = (
    "memory_info", "stats", "keyspace", "bigkeys", "clients", "error_stats",
)  # fmt: skip
"""What has to be seen before anything may be called healthy, or a condition its own cause."""
BASELINE: tuple[str, ...] = (
    *ESSENTIAL, "memory_stats", "command_stats", "replication", "persistence", "config_get",
    "scripts",
)  # fmt: skip
"""Looked at by the rules themselves where a team's runbook did not ask for it."""
SECOND_SUPPORT = 0.4
"""Support at which a second, independent cause is named too, however much the first has."""
ESCALATE_BELOW = 0.5
SEEING_LITTLE = 0.5
"""What is left of the confidence in `unknown` where nothing at all could be seen."""
NEAR_MISS = 0.6
"""What a cause that nearly fits takes from the confidence in `unknown`, if it fits entirely."""
HOLDERS: frozenset[str] = frozenset({"clients_hold_memory", "keys_do_not_explain_dataset"})
"""They say that something other than ordinary keys fills the memory: then being full is not its
own cause, and more room or fewer keys no cure."""
OF_BEING_FULL: frozenset[str] = frozenset({"memory_pressure"})
"""Symptoms that are none on a server that is full by design."""
SIGNS_OF_HEALTH = ("low_pressure", "keys_expire_normally", "no_outlier", "hit_ratio_healthy")
NO_NEWS = frozenset({*SIGNS_OF_HEALTH, "few_keys_expire"})
"""Healthy servers show it as well (a datastore's keys never expire)."""
NO_INCIDENT, UNKNOWN = "no-incident", "unknown"


class Rules:
    """The `rules` reasoner."""

    name = "rules"

    def __init__(self, library: Library | None = None) -> None:
        """`library`: all runbooks; without it, those that were loaded for the incident."""
        self._library = library

    async def investigate(
        self, case: Case, previous: DiagnosisDraft | None = None, mismatches: Sequence[str] = ()
    ) -> DiagnosisDraft:
        """Detect, rank, look where the leading candidates differ, detect and rank again."""
        library = self._library or case.runbooks
        text = said(case.incident)
        await asyncio.gather(*(_look(case, tool, {}) for tool in _not_looked_at(case)))
        signals = detect(case.evidence)
        before = len(case.evidence)
        asked = _asked_by(rank(signals, library, text), signals)
        await asyncio.gather(*(_look(case, tool, arguments) for tool, arguments in asked))
        if len(case.evidence) > before:
            signals = detect(case.evidence)
        return conclude(signals, rank(signals, library, text), _refusals(case))


def _asked_by(ranked: Sequence[RankedCause], signals: Signals) -> list[tuple[str, dict[str, Any]]]:
    """The discriminating looks of the leading candidates, each once, at most MOST_LOOKS."""
    looks: list[tuple[str, dict[str, Any]]] = []
    for one in ranked[:LEADING]:
        name = culprit_of(one, signals).name
        for ask in one.entry.ask_next:
            arguments = {key: _filled(value, name) for key, value in ask.args.items()}
            if None not in arguments.values() and (ask.tool, arguments) not in looks:
                looks.append((ask.tool, arguments))
    return looks[:MOST_LOOKS]


def said(incident: Incident) -> str:
    """What the alerts and the question say, in one text."""
    parts = [incident.question, incident.title]
    for alert in incident.alerts:
        parts += [alert.name, *alert.annotations.values(), *alert.labels.values()]
    return " ".join(parts)


def _not_looked_at(case: Case) -> list[str]:
    seen = {piece.tool for piece in case.evidence}
    return [tool for tool in BASELINE if tool not in seen]


async def _look(case: Case, tool: str, arguments: dict[str, Any]) -> None:
    """Look, where that is possible: a team's runbook may name what does not exist."""
    with contextlib.suppress(KeyError, ValidationError):
        await case.look(tool, arguments)


def _filled(value: Any, culprit: str) -> Any:
    """`{culprit}` filled in; None where there is no culprit to ask about."""
    if isinstance(value, list):
        parts = [_filled(part, culprit) for part in value]
        return None if None in parts else parts
    if not isinstance(value, str) or "{culprit}" not in value:
        return value
    return value.replace("{culprit}", culprit) if culprit else None


def _refusals(case: Case) -> dict[str, str]:
    """Essential tools that measured nothing, and why."""
    measured = {piece.tool for piece in case.evidence if piece.measured}
    return {
        piece.tool: str(piece.reading.get("because", ""))
        for piece in case.evidence
        if piece.tool not in measured
    }


# -- from ranking to diagnosis --------------------------------------------------------------


def conclude(
    signals: Signals, ranked: Sequence[RankedCause], refused: dict[str, str]
) -> DiagnosisDraft:
    """The diagnosis that the ranking supports."""
    hurts = [name for name in signals.fired if SIGNALS[name].role == "symptom"]
    chosen = _chosen(ranked, signals, hurts)
    seen = 1 - len([tool for tool in ESSENTIAL if tool in refused]) / len(ESSENTIAL)
    if chosen is not None:
        return _named(chosen, signals, ranked, refused, seen)
    if hurts or "memory_info" in refused or "memory_pressure" in signals.not_measured:
        return _unknown(signals, ranked, refused, hurts, seen)
    return _healthy(signals, ranked, refused, seen)


def _chosen(
    ranked: Sequence[RankedCause], signals: Signals, hurts: Sequence[str]
) -> RankedCause | None:
    """A cause before a condition, a condition before a false alarm."""
    for kind in ("cause", "condition", "not_incident"):
        for one in ranked:
            if one.evidenced and one.entry.kind == kind and may_stand(one, signals, hurts):
                return one
    return None


def may_stand(one: RankedCause, signals: Signals, hurts: Sequence[str]) -> bool:
    """Whether it may be the root cause with all that was seen besides."""
    if one.entry.kind == "condition":
        return HOLDERS.isdisjoint(signals.fired)
    if one.entry.kind == "not_incident":
        return set(hurts) <= OF_BEING_FULL.union(one.entry.supported_by)
    return True


def _named(
    chosen: RankedCause,
    signals: Signals,
    ranked: Sequence[RankedCause],
    refused: dict[str, str],
    seen: float,
) -> DiagnosisDraft:
    confidence = calibrated(chosen.confidence)
    if chosen.entry.kind != "cause":
        # A condition is its own cause only where everything that could cause it was seen.
        confidence *= 0.25 + 0.75 * seen
    contributing = _contributing(chosen, ranked)
    sources = [chosen, *contributing]
    return DiagnosisDraft(
        root_cause=chosen.cause,
        confidence=round(confidence, 2),
        culprit=culprit_of(chosen, signals),
        contributing=[one.cause for one in contributing],
        claims=_claims(_telling(sources), signals),
        alternatives=_alternatives(ranked, {one.cause for one in sources}),
        not_measured=_not_measured(chosen.not_measured, signals, refused),
        escalate=confidence < ESCALATE_BELOW,
    )


def _telling(sources: Sequence[RankedCause]) -> list[str]:
    """The signals to cite. What healthy servers show as well says nothing for an incident."""
    names = [name for one in sources for name in one.fired]
    if sources[0].entry.kind == "not_incident":
        return names
    return [name for name in names if name not in NO_NEWS] or names


def _contributing(chosen: RankedCause, ranked: Sequence[RankedCause]) -> list[RankedCause]:
    """Conditions that a cause has led to, and a second cause that stands on its own."""
    if chosen.entry.kind == "not_incident":
        return []
    conditions = [
        one
        for one in ranked
        if one is not chosen and one.evidenced and one.entry.kind == "condition"
    ]
    second = [
        one
        for one in ranked
        if one is not chosen
        and one.evidenced
        and one.entry.kind == chosen.entry.kind == "cause"
        and one.support >= SECOND_SUPPORT
        and set(one.entry.needs).isdisjoint(chosen.entry.needs)
    ]
    return [*conditions[:4], *second[:2]]


def _claims(names: Sequence[str], signals: Signals) -> list[ClaimDraft]:
    claims: dict[str, ClaimDraft] = {}
    for name in dict.fromkeys(names):
        claim = signals.fired[name].claim
        claims.setdefault(claim.text, claim)
    return list(claims.values())[:MOST_CLAIMS]


def _alternatives(ranked: Sequence[RankedCause], named: set[str]) -> list[Alternative]:
    others = [one for one in ranked if one.cause not in named and (one.score > 0 or one.against)]
    return [
        Alternative(root_cause=one.cause, confidence=_as_alternative(one), why_not=_why_not(one))
        for one in others[:5]
    ]


def _as_alternative(one: RankedCause) -> float:
    """What was not supported well enough is not given its full weight."""
    return round(calibrated(one.confidence) if one.evidenced else 0.3 * one.confidence, 2)


def _why_not(one: RankedCause) -> str:
    if one.against:
        return f"Against it: {_listed(one.against)}"
    unmet = [name for name in one.entry.needs if name not in one.fired]
    if unseen := [name for name in unmet if name in one.not_measured]:
        return f"Could not be measured: {_listed(unseen)}"
    if unmet:
        return f"Not seen: {_listed(unmet)}"
    if not one.evidenced:
        return "It is there, but nothing shows that it does harm"
    return f"Less supports it: {_listed(one.fired)}"


def _listed(names: Sequence[str]) -> str:
    return "; ".join(SIGNALS[name].says for name in names[:3] if name in SIGNALS)


def _not_measured(relevant: Sequence[str], signals: Signals, refused: dict[str, str]) -> list[str]:
    """What could not be seen: whole tools first, then single fields."""
    lines = [f"{tool}: {because}" for tool, because in sorted(refused.items())]
    for name in relevant:
        why = signals.not_measured[name]
        if why.not_measured not in refused and not _covered(why, refused):
            lines.append(f"{why.not_measured}: {why.because}")
    return list(dict.fromkeys(lines))[:40]


def _covered(why: NotMeasured, refused: dict[str, str]) -> bool:
    return why.because in refused.values()


def _unknown(
    signals: Signals,
    ranked: Sequence[RankedCause],
    refused: dict[str, str],
    hurts: Sequence[str],
    seen: float,
) -> DiagnosisDraft:
    """Something hurts that nothing explains, or too little was seen to call it healthy.

    How sure: that no cause we know is behind it. A cause that nearly fits makes it less so, and
    so does what could not be seen.
    """
    nearest = max((one.confidence for one in ranked if one.entry.kind == "cause"), default=0.0)
    confidence = TOP * (SEEING_LITTLE + (1 - SEEING_LITTLE) * seen) * (1 - NEAR_MISS * nearest)
    conditions = [one for one in ranked if one.evidenced and one.entry.kind == "condition"]
    return DiagnosisDraft(
        root_cause=UNKNOWN,
        confidence=round(confidence, 2),
        contributing=[one.cause for one in conditions[:4]],
        claims=_claims(hurts, signals),
        alternatives=_alternatives(ranked, {one.cause for one in conditions}),
        not_measured=_not_measured(tuple(signals.not_measured), signals, refused),
        escalate=True,
    )


def _healthy(
    signals: Signals, ranked: Sequence[RankedCause], refused: dict[str, str], seen: float
) -> DiagnosisDraft:
    """Nothing hurts. How sure depends on how much was looked at."""
    considered = [one for one in ranked if one.confidence > 0]
    best = max((one.support for one in considered if one.entry.kind == "cause"), default=0.0)
    confidence = TOP * (0.3 + 0.7 * seen) * (1 - 0.4 * min(best, 1.0))
    return DiagnosisDraft(
        root_cause=NO_INCIDENT,
        confidence=round(confidence, 2),
        claims=_claims([name for name in SIGNS_OF_HEALTH if name in signals.fired], signals),
        alternatives=_alternatives(considered, set()),
        not_measured=_not_measured((), signals, refused),
        escalate=False,
    )
