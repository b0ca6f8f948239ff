"""What the signals say of a cause that a model names: may it be the answer, and how sure. Pure.

A model can cite true evidence for a wrong cause: nearly every cause has some signal in common with
the right one. So its cause has to have what the rules would ask of it too: the signs that define
it, something that speaks for it in particular, and no better supported rival.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from agent.incident import Culprit
from agent.ranking import CLEAR_MARGIN, RankedCause, calibrated
from agent.rules import NO_NEWS, may_stand
from agent.runbook import Library
from agent.signals import SIGNALS, Signals

SHARED_BY = 3
"""A signal that supports more causes of the catalogue than this supports none in particular."""


OUTWEIGHS = 0.5
"""Where a defining sign could not be measured, what supports this cause and no other has to weigh
at least this share of it: settings that any server may have weigh a sixth and less."""
UNSEEN_CONFIDENCE = 0.45
"""The most that such a cause is worth: it may be the answer, and a person is asked to look."""


@dataclass(frozen=True)
class Standing:
    """One cause before the evidence, all looks of all reasoners included."""

    against: str = ""
    """Why it may not become the answer; empty: it may."""
    telling: tuple[str, ...] = ()
    """Fired signals that support it in particular, weightiest first."""
    contradicted: bool = False
    """A signal that rules it out fired."""
    confidence: float = 0.0
    """The most that the evidence allows."""
    culprits: tuple[Culprit, ...] = ()
    """Whom its fired signals name, strongest first."""
    evidenced: frozenset[str] = frozenset()
    """Causes supported well enough to be named beside it."""


def standing_of(
    cause: str, rules_cause: str, signals: Signals, ranked: Sequence[RankedCause], library: Library
) -> Standing:
    """How this cause stands against the rules' own and every other that the evidence allows."""
    shared = Counter(name for entry in library.causes().values() for name in entry.supported_by)
    by_name = {one.cause: one for one in ranked}
    evidenced = frozenset(one.cause for one in ranked if one.evidenced)
    if (named := by_name.get(cause)) is None:
        return Standing(against="no signal supports it", evidenced=evidenced)
    against = _against(named, signals, shared)
    unseen = [name for name in named.entry.needs if name in signals.not_measured]
    if not against:
        rivals = [
            one
            for one in ranked
            if one is not named
            and (one.cause == rules_cause or not _against(one, signals, shared))
            and one.support * (1 - CLEAR_MARGIN) > named.support
        ]
        if rivals:
            better = max(rivals, key=lambda one: one.support)
            against = f"{better.cause} is better supported, by {_listed(better.fired)}"
    return Standing(
        against=against,
        telling=_telling(named, shared),
        contradicted=bool(named.against),
        confidence=UNSEEN_CONFIDENCE if unseen else calibrated(named.confidence),
        culprits=tuple(
            culprit for name in named.fired if (culprit := signals.fired[name].culprit) is not None
        ),
        evidenced=evidenced,
    )


def _against(one: RankedCause, signals: Signals, shared: Counter[str]) -> str:
    """What forbids it; empty if nothing does."""
    if one.against:
        return f"ruled out by {_listed(one.against)}"
    missing = [name for name in one.entry.needs if name not in signals.fired]
    unseen = [name for name in missing if name in signals.not_measured]
    if absent := [name for name in missing if name not in unseen]:
        return f"it needs {_listed(absent)}, which was looked for and is not there"
    if not _outweigh(one, unseen, signals, shared):
        return f"it needs {_listed(unseen)}, which could not be measured"
    if not _telling(one, shared):
        return f"what supports it supports much else as well: {_listed(one.fired)}"
    hurts = [name for name in signals.fired if SIGNALS[name].role == "symptom"]
    if not may_stand(one, signals, hurts):
        return f"it does not explain {_listed(hurts) or _listed(tuple(signals.fired))}"
    return ""


def _outweigh(
    one: RankedCause, unseen: Sequence[str], signals: Signals, shared: Counter[str]
) -> bool:
    """Whether what supports this cause alone makes up for the defining signs nobody could see."""
    weights = one.entry.supported_by
    alone = [name for name in _telling(one, shared) if shared[name] == 1]
    there = sum(weights[name] * signals.fired[name].strength for name in alone)
    return there >= OUTWEIGHS * sum(weights.get(name, 0.0) for name in unseen)


def _telling(one: RankedCause, shared: Counter[str]) -> tuple[str, ...]:
    return tuple(name for name in one.fired if shared[name] <= SHARED_BY and name not in NO_NEWS)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(sorted(names)[:6])
