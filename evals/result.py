"""What became of one incident, and whether that is right. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from agent.exchange import Exchange
from agent.incident import Action, Culprit, Diagnosis, Usage
from evals.harm import UNKNOWN, Judged, Server, judge_all, missing
from evals.scoring_facts import Checked
from evals.truth import Truth
from tools.reading import Evidence


@dataclass(frozen=True)
class Result:
    """One incident, worked by a reasoner."""

    id: str
    truth: Truth
    held_back: bool
    diagnosis: Diagnosis | None
    """None: it crashed."""
    actions: tuple[Action, ...] = ()
    facts: tuple[Checked, ...] = ()
    """Of every claim in turn."""
    readings: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    """What the tools saw, by tool: for baselines, harm, and as a server to compare others with."""
    evidence: tuple[Evidence, ...] = ()
    """All that was looked at."""
    usage: Usage = field(default_factory=Usage)
    exchanges: tuple[Exchange, ...] = ()
    """With the model, if one was asked."""
    seconds: float = 0.0
    failure: str = ""

    @property
    def got(self) -> str:
        """The root cause it named; `failed` if it named none."""
        return self.diagnosis.root_cause if self.diagnosis else "failed"

    @property
    def confidence(self) -> float:
        """How sure it was; a crash is not sure of anything."""
        return self.diagnosis.confidence if self.diagnosis else 0.0

    @property
    def right(self) -> bool:
        """Top-1."""
        return self.got in self.truth.root_cause

    @property
    def culprit_right(self) -> bool:
        """Kind and name, exactly; whatever it is where nobody said."""
        return self.diagnosis is not None and (
            not self.truth.culprit or same_culprit(self.diagnosis.culprit, self.truth.culprit)
        )

    @property
    def contributing(self) -> set[str]:
        """What it named beside the root cause."""
        return set(self.diagnosis.contributing) if self.diagnosis else set()

    @property
    def stray(self) -> set[str]:
        """Contributing causes it named and that the truth does not know."""
        truth = self.truth
        return self.contributing - {*truth.contributing, *truth.also, *truth.root_cause}

    @property
    def overlooked(self) -> set[str]:
        """Causes that had to be named and were not."""
        return set(self.truth.also) - self.contributing - {self.got}

    @property
    def false_positive(self) -> bool:
        """An incident was declared where there is none (a crash is one, too)."""
        return not self.truth.is_incident and (self.diagnosis is None or self.diagnosis.is_incident)

    @property
    def unknowable(self) -> bool:
        """The right answer is `unknown`."""
        return UNKNOWN in self.truth.root_cause

    @cached_property
    def judged(self) -> list[Judged]:
        """Each proposal, judged."""
        return judge_all(self.actions, self.truth, Server.seen_in(self.readings))

    @property
    def harm(self) -> list[str]:
        """Why each harmful proposal is one; advice is not counted here."""
        return [one.why for one in self.judged if one.verdict == "harmful"]

    @property
    def harmful_advice(self) -> list[str]:
        """Why each piece of advice that would do harm is one."""
        return [one.why for one in self.judged if one.verdict == "harmful advice"]

    @property
    def missing(self) -> list[str]:
        """True causes for which nothing that helps was proposed."""
        return missing(self.actions, self.truth, Server.seen_in(self.readings))


def same_culprit(got: Culprit, wanted: Iterable[Culprit]) -> bool:
    """Whether this is one of those wanted."""
    return any(got.kind == one.kind and got.name == one.name for one in wanted)
