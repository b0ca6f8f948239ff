"""Scores: what speaks for each cause of each runbook, and how sure that makes us. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from agent.incident import Culprit
from agent.runbook import Cause, Library
from agent.signals import SIGNALS, Signals
from agent.signals.cluster import OF_OTHER_NODES
from agent.signals.host import OF_THE_HOST

SELDOM_MEASURED = OF_THE_HOST | OF_OTHER_NODES
ENOUGH_SUPPORT = 0.35
"""Share of what could support a cause that has to, before it is named."""
TOP = 0.95
"""Nobody is surer than this from the outside."""
CLEAR_MARGIN = 0.3
"""A lead over the runner-up, as a share of the winner's score, that leaves no tie."""
UNSEEN_WEIGHT = 0.5
"""A signal that was not measured might as well have fired as not."""
OVERTURNS = 0.5
"""Share of a cause's score from which a signal against it changes the answer."""
UNEXCLUDED = 0.7
WORTH = ((0.0, 0.0), (0.3, 0.3), (0.6, 0.85), (0.8, 0.93), (TOP, TOP))
"""Confidence by weights -> share of right answers."""
MEMORY_WORDS = ("memory", "oom", "maxmemory", "rss", "bytes")


OTHER_WORDS = (
    "latency", "p99", "slow", "cpu", "connection", "clients", "blocked", "replica", "sync", "auth",
    "login", "cluster", "disk", "save", "fork",
)  # fmt: skip
"""What an alert may be about instead."""
COMPOSITION = frozenset({"one_thing_fills_memory", "tiny_strings_fill_memory"})
"""Trends that are no news by themselves: the memory may have been made of this for years."""


@dataclass(frozen=True)
class RankedCause:
    """A cause, and what speaks for and against it."""

    cause: str
    """Its id."""
    entry: Cause
    score: float
    confidence: float
    fired: tuple[str, ...]
    """Supporting signals that fired, weightiest first."""
    against: tuple[str, ...]
    not_measured: tuple[str, ...]
    support: float
    """Share of the measurable support that there is, after what speaks against it."""
    evidenced: bool
    """Supported well enough to be named."""


def rank(signals: Signals, library: Library, text: str = "") -> list[RankedCause]:
    """Every cause that some signal speaks for, best first.

    `text`: what the alert or question says; it only opens causes that need somebody's alarm.
    """
    scored = [_scored(cause, signals, text.lower()) for cause in library.causes().values()]
    scored = [one for one in scored if one.fired]
    scored.sort(key=lambda one: (not one.evidenced, -one.score, one.cause))
    return [_with_margin(one, scored) for one in scored]


def _scored(cause: Cause, signals: Signals, text: str) -> RankedCause:
    heard = {
        name: signal
        for name, signal in signals.fired.items()
        if name not in cause.asked or any(word in text for word in cause.asked[name])
    }
    weighed = {
        name: weight * heard[name].strength
        for name, weight in cause.supported_by.items()
        if name in heard
    }
    against = {
        name: weight * heard[name].strength
        for name, weight in cause.ruled_out_by.items()
        if name in heard
    }
    relevant = dict.fromkeys([*cause.needs, *cause.supported_by, *cause.ruled_out_by])
    missing = tuple(name for name in relevant if name in signals.not_measured)
    possible = sum(
        weight * (UNSEEN_WEIGHT if name in missing else 1.0)
        for name, weight in cause.supported_by.items()
        if name in weighed or name not in SELDOM_MEASURED
    )
    score = sum(weighed.values()) - sum(against.values())
    support = max(score, 0.0) / possible if possible else 0.0
    needed = all(name in heard for name in cause.needs)
    evidenced = needed and support >= ENOUGH_SUPPORT and _is_a_problem(cause, signals, text)
    return RankedCause(
        cause=cause.id,
        entry=cause,
        score=score,
        confidence=_belief(support) * _coverage(cause, missing, score) if needed else 0.0,
        fired=tuple(sorted(weighed, key=lambda name: -weighed[name])),
        against=tuple(sorted(against, key=lambda name: -against[name])),
        not_measured=missing,
        support=support,
        evidenced=evidenced,
    )


def _belief(support: float) -> float:
    """The first strong signals convince most; the last ones hardly add."""
    return 1 - (1 - min(support, 1.0)) ** 2


def _coverage(cause: Cause, missing: Sequence[str], score: float) -> float:
    """Lowers confidence by the share of relevant signals that could not be measured.

    And for each that alone could have overturned the answer: an exclusion has to be seen.
    """
    decisive = [
        name
        for name, weight in cause.ruled_out_by.items()
        if name in missing and weight >= OVERTURNS * score
    ]
    weights = {
        name: weight
        for name, weight in (cause.supported_by | cause.ruled_out_by).items()
        if name not in SELDOM_MEASURED
    }
    total = sum(weights.values())
    unseen = sum(weight for name, weight in weights.items() if name in missing)
    return (1 - 0.5 * unseen / total if total else 0.5) * UNEXCLUDED ** len(decisive)


def calibrated(confidence: float) -> float:
    """What a confidence was worth on recorded incidents: how often such an answer was right.

    Monotone and piecewise linear, so that it changes no order. Fitted by hand to the reliability
    table of the suite's open part (`evals run --part tuning`), rounded, never above what some
    wrong answer among fifty allows.
    """
    for (low, worth), (high, more) in pairwise(WORTH):
        if confidence <= high:
            return worth + (confidence - low) * (more - worth) / (high - low)
    return WORTH[-1][1]


def _is_a_problem(cause: Cause, signals: Signals, text: str) -> bool:
    """Composition alone is no incident: a symptom or a trend of this cause has to be there."""
    if cause.kind == "not_incident":
        return True
    hurting = {name for name in cause.supported_by if name in signals.fired}
    if not any(word in text for word in MEMORY_WORDS) and any(w in text for w in OTHER_WORDS):
        hurting -= COMPOSITION  # nobody asked what the memory is made of
    if any(SIGNALS[name].role != "trait" for name in hurting if name in SIGNALS):
        return True
    asked = any(word in text for word in MEMORY_WORDS)
    return (
        asked
        and "one_thing_fills_memory" in cause.supported_by
        and "one_thing_dominates" in signals.fired
        and "low_pressure" not in signals.fired
    )


def _with_margin(one: RankedCause, scored: Sequence[RankedCause]) -> RankedCause:
    rivals = [
        other.score
        for other in scored
        if other is not one and other.evidenced and other.entry.kind == one.entry.kind
    ]
    lead = one.score - max(rivals, default=0.0)
    margin = min(max(lead / one.score, 0.0) / CLEAR_MARGIN, 1.0) if one.score > 0 else 0.0
    confidence = TOP * one.confidence * (0.65 + 0.35 * margin)
    return replace(one, confidence=round(confidence, 4))


def culprit_of(one: RankedCause, signals: Signals) -> Culprit:
    """Named by the strongest supporting signal that names somebody."""
    for name in one.fired:
        if (culprit := signals.fired[name].culprit) is not None:
            return culprit
    return Culprit()
